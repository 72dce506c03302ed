//! Why a store could not answer.

use std::error::Error as StdError;

/// Why a store could not answer: an opaque wrapper. `Display` and `source` are those of the error in
/// it.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StoreError(Box<dyn StdError + Send + Sync>);

impl StoreError {
    /// Wraps the store's own error, or a message.
    #[must_use]
    pub fn new(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self(error.into())
    }

    /// The store has no such operation.
    #[must_use]
    pub fn unsupported() -> Self {
        Self::new("the store does not support this operation")
    }
}
