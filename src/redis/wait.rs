//! How a thread waits for what another does, and no longer than it likes.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use tokio::task::unconstrained;

/// What this comes to; `None` if not by then. It runs on the thread that waits, which may be one of a runtime, and needs
/// none.
pub(super) fn wait_until<F: Future>(until: Instant, future: F) -> Option<F::Output> {
    let woken = Arc::new(Woken {
        thread: thread::current(),
        is: AtomicBool::new(false),
    });
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    // A task of tokio's has a budget of its own. Once that is spent nothing would ever be ready for it here.
    let mut future = pin!(unconstrained(future));
    loop {
        // Once more when the time is over: what is there then has come in time, it is the thread that was late.
        let is_last = Instant::now() >= until;
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        if is_last {
            return None;
        }
        while !woken.is.swap(false, AcqRel) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::park_timeout(left);
        }
    }
}

struct Woken {
    thread: Thread,
    is: AtomicBool,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is.swap(true, AcqRel) {
            self.thread.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};
    use std::time::Duration;

    use tokio::sync::watch;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(600)
    }

    #[test]
    fn what_another_thread_does_is_seen() {
        let (send, mut receive) = watch::channel(0);
        let sender = thread::spawn(move || {
            for n in 1..=1_000 {
                send.send_replace(n);
            }
        });
        let last = wait_until(later(), receive.wait_for(|n| *n == 1_000));
        assert_eq!(*last.unwrap().unwrap(), 1_000);
        sender.join().unwrap();
    }

    #[test]
    fn nobody_waits_longer_than_they_like() {
        assert!(wait_until(soon(), pending::<()>()).is_none());
        // Not even for what is for ever about to be ready.
        let busy = poll_fn(|context| {
            context.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        assert!(wait_until(soon(), busy).is_none());
    }

    /// The thread did not run when it was woken.
    #[test]
    fn what_has_come_in_time_is_not_lost_to_a_late_thread() {
        let mut polls = 0;
        let there = poll_fn(|_| {
            polls += 1;
            match polls {
                1 => Poll::Pending,
                _ => Poll::Ready(7),
            }
        });
        assert_eq!(wait_until(soon(), there), Some(7));
    }

    #[test]
    fn a_task_that_has_spent_its_budget_can_wait() {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.build().unwrap();
        let found = runtime.block_on(async {
            tokio::spawn(poll_fn(|context| {
                let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
                for n in 0..1_000 {
                    send.send(n).unwrap();
                }
                while receive.poll_recv(context).is_ready() {}
                let (_keep, receive) = watch::channel(7);
                let mut receive = receive;
                let found = wait_until(soon(), receive.wait_for(|n| *n == 7))
                    .map(|found| found.map(|n| *n));
                Poll::Ready(found.map(Result::unwrap))
            }))
            .await
        });
        assert_eq!(found.unwrap(), Some(7));
    }
}
