//! One thread for the whole process that takes out what has ended, wherever it is kept, also while nobody comes.

use std::io;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicUsize, fence};
use std::sync::{Arc, Once, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::guest;
use crate::base::unix_seconds;
use crate::ffi;

/// How often the thread looks. It sleeps by a clock that does not jump, and what has ended is told by the wall
/// clock, which may.
const PATROL: Duration = Duration::from_secs(5);

/// Between two steps. A million that end at once take a second or two.
const REST: Duration = Duration::from_micros(10);

/// What keeps something that ends.
pub(crate) trait Perishable: Send + Sync + 'static {
    fn watched(&self) -> &Watched;

    /// Whether there is nothing that could end.
    fn is_empty(&self) -> bool;

    /// Takes out and wipes some of what has ended by this second, which takes a few microseconds. Returns whether
    /// there may be more. `at` is 0 when it begins, and for its own use from then on.
    fn sweep(&self, now: u64, at: &mut usize) -> bool;
}

/// In which process, of those that are forks of one another, the thread knows of something; 0 if it does not.
#[derive(Default)]
pub(crate) struct Watched(AtomicUsize);

/// The number of the process. The thread of one is not in its forks.
static PROCESS: AtomicUsize = AtomicUsize::new(1);

/// Locked within `step` only.
static TIMER: Mutex<Timer> = Mutex::new(Timer {
    perishables: Vec::new(),
    thread: None,
});

struct Timer {
    perishables: Vec<Weak<dyn Perishable>>,
    thread: Option<(usize, Thread)>,
}

/// Sees to it that the thread knows of `perishable`, into which something was put that ends.
pub(crate) fn watch<P: Perishable>(perishable: &Arc<P>) {
    // What has been put in is seen by `is_to_be_watched`, or that it has let go of it is seen here.
    fence(SeqCst);
    let process = PROCESS.load(Relaxed);
    if perishable.watched().0.load(Relaxed) != process {
        // Without the thread, what is put in next tries again.
        let _ = step(|| TIMER.lock().watch(perishable, process));
    }
}

/// Whether the thread goes on to watch this: not what is empty, which says so when something is put in again.
fn is_to_be_watched(perishable: &dyn Perishable) -> bool {
    let watched = &perishable.watched().0;
    let before = watched.swap(0, Relaxed);
    fence(SeqCst);
    let watch = !perishable.is_empty();
    if watch {
        watched.store(before, Relaxed);
    }
    watch
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

    /// What is to be swept; `None` if there is nothing any more, and the thread is to end.
    fn perishables(&mut self) -> Option<Vec<Arc<dyn Perishable>>> {
        let known = self
            .perishables
            .drain(..)
            .filter_map(|known| known.upgrade());
        // Those that are not to be watched are dropped by the caller as well.
        let known: Vec<_> = known.collect();
        let watched = known.iter().filter(|known| is_to_be_watched(&***known));
        self.perishables = watched.map(Arc::downgrade).collect();
        if known.is_empty() {
            self.thread = None;
            return None;
        }
        Some(known)
    }
}

/// Ends the thread, if this was the last.
impl Drop for Watched {
    fn drop(&mut self) {
        if *self.0.get_mut() != 0 {
            step(|| {
                if let Some((_, thread)) = &TIMER.lock().thread {
                    thread.unpark();
                }
            });
        }
    }
}

fn run() {
    loop {
        let Some(perishables) = step(|| TIMER.lock().perishables()) else {
            return;
        };
        for perishable in perishables {
            let now = unix_seconds(SystemTime::now());
            let mut at = 0;
            while guest::in_openssl(|| step(|| perishable.sweep(now, &mut at))) {
                // The allocator has locks too, for which others would wait behind a thread that frees all the time.
                thread::sleep(REST);
            }
            // Nobody else may have it any more.
            guest::in_openssl(move || drop(perishable));
        }
        if step(|| !TIMER.lock().perishables.is_empty()) {
            thread::park_timeout(PATROL);
        }
    }
}

/// Held at each step, and in a fork: a process that is forked off meanwhile would have the locks of what is swept for
/// ever. It has no queue, in which a fork might leave a thread that is not there.
static STEP: AtomicBool = AtomicBool::new(false);

fn hold() {
    let mut tries = 0_u32;
    while STEP
        .compare_exchange_weak(false, true, Acquire, Relaxed)
        .is_err()
    {
        tries = tries.saturating_add(1);
        if tries < 64 {
            thread::yield_now();
        } else {
            thread::sleep(Duration::from_micros(200));
        }
    }
}

struct Held;

impl Drop for Held {
    fn drop(&mut self) {
        STEP.store(false, Release);
    }
}

/// Not within another.
fn step<T>(step: impl FnOnce() -> T) -> T {
    hold();
    let _held = Held;
    step()
}

extern "C" fn before_fork() {
    hold();
}

extern "C" fn after_fork() {
    STEP.store(false, Release);
}

extern "C" fn in_fork() {
    PROCESS.fetch_add(1, Relaxed);
    STEP.store(false, Release);
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[derive(Default)]
    struct Counted(Watched, AtomicUsize, AtomicBool);

    impl Perishable for Counted {
        fn watched(&self) -> &Watched {
            &self.0
        }

        fn is_empty(&self) -> bool {
            self.2.load(Relaxed)
        }

        fn sweep(&self, _: u64, at: &mut usize) -> bool {
            *at += 1;
            self.1.fetch_add(1, Relaxed);
            *at < 3
        }
    }

    #[test]
    fn what_is_watched_is_swept_in_steps() {
        let counted = Arc::new(Counted::default());
        watch(&counted);
        watch(&counted);
        let patience = Instant::now() + Duration::from_secs(30);
        while counted.1.load(Relaxed) < 3 && Instant::now() < patience {
            thread::yield_now();
        }
        assert!(counted.1.load(Relaxed) >= 3, "or the machine is too busy");
        // Between two steps of the thread, which may look at any time.
        let known = step(|| Arc::weak_count(&counted));
        assert_eq!(known, 1, "known once");
    }

    #[test]
    fn what_is_empty_is_let_go_of_until_something_is_put_in() {
        let counted = Arc::new(Counted::default());
        // Between two steps of the thread, which may look at any time.
        let is_known = || step(|| counted.0.0.load(Relaxed)) != 0;
        let is_to_be = || step(|| is_to_be_watched(&*counted));
        watch(&counted);
        assert!(is_known());
        counted.2.store(true, Relaxed);
        assert!(!is_to_be());
        assert!(!is_known());
        counted.2.store(false, Relaxed);
        watch(&counted);
        assert!(is_known());
        assert!(is_to_be());
        assert!(is_known());
    }
}
