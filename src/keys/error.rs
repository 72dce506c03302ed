//! Why there are no keys.

use std::error::Error as StdError;
use std::sync::Arc;

/// Why there are no keys: an opaque wrapper. `Display` and `source` are those of the error in it.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct KeyError(Arc<dyn StdError + Send + Sync>);

impl KeyError {
    /// Wraps the source's own error, or a message.
    #[must_use]
    pub fn new(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self(Arc::from(error.into()))
    }
}
