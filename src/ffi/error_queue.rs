//! The error queue of the thread, which is the caller's.

use std::panic::AssertUnwindSafe;

use openssl::error::ErrorStack;

use super::declare::*;
use crate::base::catch;

/// Marks the top of this thread's error queue. Returns whether it has one: what is in an empty one
/// later is all newer.
fn mark() -> bool {
    // SAFETY: changes the thread's own queue.
    unsafe { ERR_set_mark() != 0 }
}

/// Runs the body of a callback: a panic in it gives `otherwise`, and errors that it leaves in
/// OpenSSL's queue are taken out again. What was there before is the caller's, and stays, also if the
/// body empties the queue, as calls of the `openssl` crate do when they fail.
pub(crate) fn shielded<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    let callers = mark().then(|| {
        let callers = ErrorStack::get();
        callers.put();
        mark();
        callers
    });
    let result = catch(AssertUnwindSafe(body)).unwrap_or(otherwise);
    // SAFETY: drops what is above the mark, or all if it is gone.
    let marked = unsafe { ERR_pop_to_mark() } != 0;
    if let (false, Some(callers)) = (marked, callers) {
        callers.put();
    }
    result
}

#[cfg(test)]
mod tests {
    use openssl::error::ErrorStack;

    use super::super::session::session_from_der;
    use openssl::x509::X509;

    use super::*;

    /// Not by a call of the `openssl` crate: when those fail they empty the queue.
    fn leave_an_error() {
        assert!(session_from_der(b"no session").is_none());
    }

    fn errors_left() -> usize {
        ErrorStack::get().errors().len()
    }

    #[test]
    fn the_error_queue_is_left_as_it_was_found() {
        leave_an_error();
        let found = errors_left();
        assert!(found > 0);

        leave_an_error();
        shielded((), leave_an_error);
        assert_eq!(errors_left(), found);

        shielded((), leave_an_error);
        assert_eq!(errors_left(), 0);

        leave_an_error();
        shielded((), || {
            leave_an_error();
            panic!("with an error in the queue");
        });
        assert_eq!(errors_left(), found);
    }

    /// A call of the `openssl` crate that fails: it takes all errors out of the queue.
    fn fail() {
        X509::from_der(&[0]).unwrap_err();
    }

    #[test]
    fn errors_of_the_caller_stay_in_the_queue() {
        let mut stack = ErrorStack::get();
        assert!(stack.errors().is_empty());
        shielded((), fail);
        assert!(ErrorStack::get().errors().is_empty());

        stack = X509::from_der(&[0]).unwrap_err();
        let callers = stack.to_string();
        for body in [
            || (),
            fail as fn(),
            || shielded((), fail),
            || panic!("body"),
        ] {
            stack.put();
            shielded((), body);
            assert_eq!(ErrorStack::get().to_string(), callers);
        }
    }
}
