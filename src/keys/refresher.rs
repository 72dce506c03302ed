//! The thread that keeps a ring of keys up to date.

use std::io;
use std::process;
use std::sync::Weak;
use std::thread::{self, Thread};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::ring::RETRY;
use crate::threads;

/// The thread looks at the clock this often: it sleeps by a clock that does not jump, and wall
/// clocks do.
const PATROL: Duration = Duration::from_secs(60);

/// What the thread looks after.
pub(super) trait Refresh: Send + Sync + 'static {
    /// Does what is due at `now`.
    fn refresh(&self, now: SystemTime);

    /// When there is something to do.
    fn next_event(&self) -> Option<SystemTime>;
}

/// The thread of one ring, and the process in which it runs: a fork leaves it behind.
#[derive(Default)]
pub(super) struct Refresher(Mutex<Option<(u32, Thread)>>);

impl Refresher {
    /// Starts the thread, unless it runs.
    pub(super) fn start<R: Refresh>(&self, shared: &Weak<R>) -> io::Result<()> {
        let mut running = self.0.lock();
        if !matches!(*running, Some((process, _)) if process == process::id()) {
            let shared = Weak::clone(shared);
            let thread = threads::spawn("ticket-keys", move || run(&shared))?;
            *running = Some((process::id(), thread.thread().clone()));
        }
        Ok(())
    }

    /// Sees to it that the thread looks at the ring now, without waiting for it.
    pub(super) fn wake<R: Refresh>(&self, shared: &Weak<R>) {
        // If it is locked somebody else is waking it.
        let Some(running) = self.0.try_lock() else {
            return;
        };
        match &*running {
            Some((process, thread)) if *process == process::id() => thread.unpark(),
            Some(_) => {
                drop(running);
                // Without, the next handshake tries again.
                let _ = self.start(shared);
            }
            None => {}
        }
    }
}

/// Ends the thread: it finds its ring gone.
impl Drop for Refresher {
    fn drop(&mut self) {
        if let Some((_, thread)) = self.0.get_mut() {
            thread.unpark();
        }
    }
}

fn run<R: Refresh>(shared: &Weak<R>) {
    // Here too the ring may end, and its source with it.
    let refreshed = || {
        let ring = shared.upgrade()?;
        let now = SystemTime::now();
        ring.refresh(now);
        Some(match ring.next_event() {
            Some(time) => time.duration_since(now).unwrap_or(RETRY),
            None => PATROL,
        })
    };
    while let Some(rest) = threads::in_openssl(refreshed) {
        thread::park_timeout(rest.min(PATROL));
    }
}
