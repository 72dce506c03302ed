//! What a test changes while a server runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// For the callbacks of a server to look at; off at first.
#[derive(Clone, Default)]
pub(crate) struct Switch(Arc<AtomicBool>);

impl Switch {
    pub(crate) fn turn_on(&self) {
        self.0.store(true, SeqCst);
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.load(SeqCst)
    }
}
