//! The error of a store that came last.

use std::fmt;

use parking_lot::Mutex;

use crate::base::printable;
use crate::session::StoreError;

/// The text of the error that came last.
#[derive(Debug, Default)]
pub(super) struct LastError(Mutex<Option<String>>);

impl LastError {
    pub(super) fn note(&self, error: impl fmt::Display) {
        *self.0.lock() = Some(printable(error));
    }

    pub(super) fn clear(&self) {
        *self.0.lock() = None;
    }

    /// Remembers the error, if it is one.
    pub(super) fn of<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        result.inspect_err(|error| self.note(error))
    }

    pub(super) fn get(&self) -> Option<String> {
        self.0.lock().clone()
    }
}
