//! The threads that do the writes.

use std::panic::AssertUnwindSafe;
use std::process;
use std::sync::{Arc, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, SystemTime};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::queue::{Queue, Write};
use crate::base::catch;
use crate::session::SessionKey;
use crate::store::session_store::SessionStore;
use crate::threads::{self, Perishable, Watched};

/// The queue of one store, and its threads.
pub(super) struct Workers {
    state: Mutex<State>,
    /// A write has been done, or a thread has ended.
    progress: Condvar,
    watched: Watched,
}

pub(super) struct State {
    pub(super) queue: Queue,
    pub(super) max_threads: usize,
    threads: usize,
    /// Those that have nothing to do. They are parked, which unlike waiting at a `Condvar` leaves
    /// nothing behind in a process that is forked off.
    idle: Vec<Thread>,
    closed: bool,
    /// The process that the threads are in.
    process: u32,
}

impl Workers {
    pub(super) fn new(queue: Queue, max_threads: usize) -> Self {
        let state = State {
            queue,
            max_threads,
            threads: 0,
            idle: Vec::new(),
            closed: false,
            process: process::id(),
        };
        Self {
            state: Mutex::new(state),
            progress: Condvar::new(),
            watched: Watched::default(),
        }
    }

    /// The state of this process. One that was forked off has none of the threads, and begins with
    /// an empty queue: what waits is its parent's to write, and to be taken there.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        if state.process != process::id() {
            let mut queue = Queue::new(state.queue.max_entries, state.queue.max_bytes);
            queue.lost = state.queue.lost;
            *state = State {
                queue,
                max_threads: state.max_threads,
                threads: 0,
                idle: Vec::new(),
                closed: false,
                process: process::id(),
            };
        }
        state
    }

    /// Sees to it that a thread looks at the queue: one that is idle, or a new one, or one of those
    /// at work when it has done its write.
    pub(super) fn wake<S>(self: &Arc<Self>, mut state: MutexGuard<'_, State>, inner: &Arc<S>)
    where
        S: SessionStore,
    {
        if let Some(thread) = state.idle.pop() {
            drop(state);
            thread.unpark();
        } else if state.threads < state.max_threads {
            let (workers, inner) = (Arc::clone(self), Arc::downgrade(inner));
            let started = threads::spawn("session-writes", move || workers.run(&inner));
            // Without, the next write tries again.
            state.threads += usize::from(started.is_ok());
        }
    }

    /// Waits for a write to be done.
    pub(super) fn wait(&self, state: &mut MutexGuard<'_, State>) {
        self.progress.wait(state);
    }

    /// Waits until all writes are done, at most this long; returns how many are not.
    pub(super) fn flush(&self, timeout: Duration) -> usize {
        let mut state = self.lock();
        let busy = |state: &mut State| state.queue.len() > 0;
        self.progress.wait_while_for(&mut state, busy, timeout);
        state.queue.len()
    }

    /// Lets the threads do what there is and end, waits for that at most this long, and drops the
    /// rest. A thread that is still in a call of the inner store ends after it.
    pub(super) fn close(&self, timeout: Duration) {
        let mut state = self.lock();
        state.closed = true;
        state.idle.drain(..).for_each(|thread| thread.unpark());
        let running = |state: &mut State| state.threads > 0;
        self.progress.wait_while_for(&mut state, running, timeout);
        state.queue = Queue::new(0, 0);
    }

    /// One thread's life. It owns the inner store only while it writes.
    fn run<S: SessionStore>(&self, inner: &Weak<S>) {
        while let Some((key, write)) = self.next() {
            let write = || perform(inner, &key, write);
            let done = threads::in_openssl(|| catch(AssertUnwindSafe(write)));
            self.lock().queue.done(&key, done == Some(true));
            self.progress.notify_all();
        }
        self.lock().threads -= 1;
        self.progress.notify_all();
    }

    /// Waits for a write to do; `None` when there will be none.
    fn next(&self) -> Option<(SessionKey, Write)> {
        let me = thread::current();
        let mut state = self.lock();
        loop {
            let next = state.queue.next();
            if next.is_some() || state.closed {
                return next;
            }
            state.idle.push(me.clone());
            MutexGuard::unlocked(&mut state, thread::park);
            // Parking may end for no reason.
            state.idle.retain(|idle| idle.id() != me.id());
        }
    }
}

impl Perishable for Workers {
    fn watched(&self) -> &Watched {
        &self.watched
    }

    fn is_empty(&self) -> bool {
        self.lock().queue.ends.is_empty()
    }

    fn sweep(&self, now: u64, _: &mut usize) -> bool {
        const MOST: usize = 16;
        let mut state = self.lock();
        let ended = std::iter::from_fn(|| state.queue.pop_ended(now));
        let ended: Vec<_> = ended.take(MOST).collect();
        drop(state);
        ended.len() == MOST
    }
}

/// Does a write, and says whether it was done. An error is dropped here, where it may panic; so is
/// the inner store if everybody else has let go of it.
fn perform<S: SessionStore>(inner: &Weak<S>, key: &SessionKey, write: Write) -> bool {
    let Some(inner) = inner.upgrade() else {
        return false;
    };
    match write {
        Write::Put(session, used) if session.expires_at() > SystemTime::now() => match &used {
            Some(used) => inner.put_successor(key, session, used),
            None => inner.put(key, session),
        },
        // A session that has ended is not written, but what it was to replace goes all the same.
        Write::Put(..) | Write::Remove => inner.remove(key),
    }
    .is_ok()
}
