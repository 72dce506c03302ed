//! No panic of a store, a key source or our own crosses into OpenSSL.

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
    fn a_panic_whose_payload_panics_is_caught() {
        assert_eq!(catch(|| std::panic::panic_any(Bomb)), None::<()>);
    }
}
