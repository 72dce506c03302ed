//! No panic of a store, a key source, a hook or our own crosses into OpenSSL.

use std::ops::Deref;
use std::panic::{AssertUnwindSafe, UnwindSafe, catch_unwind};

/// Runs `f`; `None` if it panicked. The panic hook has then reported it.
pub(crate) fn catch<T>(f: impl FnOnce() -> T + UnwindSafe) -> Option<T> {
    match catch_unwind(f) {
        Ok(value) => Some(value),
        Err(payload) => {
            // What a panic carries may panic again when it is dropped; leaking that is the end.
            if let Err(worse) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                std::mem::forget(worse);
            }
            None
        }
    }
}

/// A value of the user's whose `Drop` may panic: it is dropped where the last context or connection
/// ends, inside OpenSSL.
pub(crate) struct DropShield<T>(Option<T>);

impl<T> DropShield<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T: Clone> Clone for DropShield<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for DropShield<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("empty only while it is dropped")
    }
}

impl<T> Drop for DropShield<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        catch(AssertUnwindSafe(|| drop(value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::panic_any(if std::thread::panicking() {
                "late"
            } else {
                "in drop"
            });
        }
    }

    #[test]
    fn a_drop_that_panics_is_caught() {
        drop(DropShield::new(Bomb));
    }

    #[test]
    fn a_panic_whose_payload_panics_is_caught() {
        assert_eq!(catch(|| std::panic::panic_any(Bomb)), None::<()>);
    }
}
