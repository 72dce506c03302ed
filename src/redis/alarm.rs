//! What a connection is woken by: its task, but not for what somebody else is about to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};
use std::task::{Wake, Waker};

use futures_util::task::AtomicWaker;

#[derive(Default)]
pub(super) struct Alarm {
    task: AtomicWaker,
    state: AtomicU8,
}

/// Somebody writes in place of the task.
const HELD: u8 = 1;
/// There is something to do.
const RANG: u8 = 2;

impl Alarm {
    /// The task that it wakes.
    pub(super) fn is_for(&self, task: &Waker) {
        self.task.register(task);
    }

    pub(super) fn wake_task(&self) {
        self.task.wake();
    }

    /// From now on it wakes nobody.
    pub(super) fn hold(&self) {
        self.state.store(HELD, SeqCst);
    }

    pub(super) fn is_held(&self) -> bool {
        self.state.load(SeqCst) & HELD != 0
    }

    /// What it rang for so far is about to be done.
    pub(super) fn forget(&self) {
        self.state.fetch_and(!RANG, SeqCst);
    }

    /// It wakes the task again, and at once if there is something to do.
    pub(super) fn let_go(&self) {
        if self.state.swap(0, SeqCst) & RANG != 0 {
            self.task.wake();
        }
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.fetch_or(RANG, SeqCst) & HELD == 0 {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn the_task_is_woken_for_what_nobody_has_done() {
        let (alarm, task) = (Arc::<Alarm>::default(), Arc::<Task>::default());
        let waker = Waker::from(Arc::clone(&alarm));
        let woken = |act: &dyn Fn()| {
            alarm.is_for(&Waker::from(Arc::clone(&task)));
            task.0.store(0, SeqCst);
            act();
            task.0.load(SeqCst)
        };
        assert_eq!(woken(&|| waker.wake_by_ref()), 1);
        assert_eq!(woken(&|| alarm.hold()), 0);
        assert_eq!(woken(&|| waker.wake_by_ref()), 0, "somebody does it");
        assert_eq!(woken(&|| alarm.forget()), 0);
        assert_eq!(woken(&|| alarm.let_go()), 0, "it is done");
        alarm.hold();
        alarm.forget();
        assert_eq!(woken(&|| waker.wake_by_ref()), 0);
        assert_eq!(woken(&|| alarm.let_go()), 1, "there is more");
        assert_eq!(woken(&|| waker.wake_by_ref()), 1);
    }
}
