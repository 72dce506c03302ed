//! One thread for the whole process that takes out what has ended, wherever it is kept, also while nobody comes.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Once, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, MutexGuard};

use crate::ffi;
use crate::guest;
use crate::stamp::unix_seconds;

/// How often the thread looks. It sleeps by a clock that does not jump, and what has ended is told by the wall
/// clock, which may.
const PATROL: Duration = Duration::from_secs(5);

/// What keeps something that ends.
pub(crate) trait Perishable: Send + Sync + 'static {
    fn watched(&self) -> &Watched;

    /// Takes out and wipes some of what has ended by this second, which takes a few microseconds. Returns whether
    /// there may be more. `at` is 0 when it begins, and for its own use from then on.
    fn sweep(&self, now: u64, at: &mut usize) -> bool;
}

/// In which process, of those that are forks of one another, the thread knows of something.
#[derive(Default)]
pub(crate) struct Watched(AtomicUsize);

/// The number of the process. The thread of one is not in its forks.
static PROCESS: AtomicUsize = AtomicUsize::new(1);

static TIMER: Mutex<Timer> = Mutex::new(Timer {
    perishables: Vec::new(),
    thread: None,
});

struct Timer {
    perishables: Vec<Weak<dyn Perishable>>,
    thread: Option<(usize, Thread)>,
}

/// Sees to it that the thread knows of `perishable`, into which something was put that ends. It is there for as long
/// as that is.
pub(crate) fn watch<P: Perishable>(perishable: &Arc<P>) {
    let process = PROCESS.load(Relaxed);
    if perishable.watched().0.load(Relaxed) != process {
        // Without the thread, what is put in next tries again.
        let _ = TIMER.lock().watch(perishable, process);
    }
}

impl Timer {
    fn watch<P: Perishable>(&mut self, perishable: &Arc<P>, process: usize) -> io::Result<()> {
        let is_it =
            |known: &Weak<dyn Perishable>| known.as_ptr().addr() == Arc::as_ptr(perishable).addr();
        if !self.perishables.iter().any(is_it) {
            let known = Arc::downgrade(perishable);
            self.perishables.push(known);
        }
        if !matches!(self.thread, Some((of, _)) if of == process) {
            static AT_FORK: Once = Once::new();
            AT_FORK.call_once(|| ffi::at_fork(before_fork, after_fork, in_fork));
            let thread = guest::spawn("session-ends", run)?;
            self.thread = Some((process, thread.thread().clone()));
        }
        perishable.watched().0.store(process, Relaxed);
        Ok(())
    }
}

/// Ends the thread, if this was the last.
impl Drop for Watched {
    fn drop(&mut self) {
        if *self.0.get_mut() != 0
            && let Some((_, thread)) = &TIMER.lock().thread
        {
            thread.unpark();
        }
    }
}

fn run() {
    while let Some(perishables) = perishables() {
        for perishable in perishables {
            let mut at = 0;
            let now = unix_seconds(SystemTime::now());
            // It may be the last that has it, or has what goes, when it is dropped here.
            let mut sweep = || {
                perishable
                    .upgrade()
                    .is_some_and(|it| it.sweep(now, &mut at))
            };
            while guest::in_openssl(|| step(&mut sweep)) {}
        }
        thread::park_timeout(PATROL);
    }
}

/// What is to be swept; `None` if there is nothing any more, and the thread is to end.
fn perishables() -> Option<Vec<Weak<dyn Perishable>>> {
    let mut timer = TIMER.lock();
    timer.perishables.retain(|known| known.strong_count() > 0);
    if timer.perishables.is_empty() {
        timer.thread = None;
        return None;
    }
    Some(timer.perishables.clone())
}

/// Held at each step, and in a fork. A process that is forked off meanwhile would have the locks of what is swept
/// for ever.
static STEP: Mutex<()> = Mutex::new(());

fn step<T>(step: impl FnOnce() -> T) -> T {
    let _held = STEP.lock();
    step()
}

thread_local! {
    static FORKING: Cell<Option<MutexGuard<'static, ()>>> = const { Cell::new(None) };
}

extern "C" fn before_fork() {
    FORKING.set(Some(STEP.lock()));
}

extern "C" fn after_fork() {
    FORKING.take();
}

extern "C" fn in_fork() {
    FORKING.take();
    PROCESS.fetch_add(1, Relaxed);
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    struct Counted(Watched, AtomicUsize);

    impl Perishable for Counted {
        fn watched(&self) -> &Watched {
            &self.0
        }

        fn sweep(&self, _: u64, at: &mut usize) -> bool {
            *at += 1;
            self.1.fetch_add(1, Relaxed);
            *at < 3
        }
    }

    #[test]
    fn what_is_watched_is_swept_in_steps() {
        let counted = Arc::new(Counted(Watched::default(), AtomicUsize::new(0)));
        watch(&counted);
        watch(&counted);
        let patience = Instant::now() + Duration::from_secs(30);
        while counted.1.load(Relaxed) < 3 && Instant::now() < patience {
            thread::yield_now();
        }
        assert_eq!(counted.1.load(Relaxed) % 3, 0);
        assert_eq!(Arc::weak_count(&counted), 1, "known once");
    }
}
