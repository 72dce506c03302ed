//! A store over a store that writes later.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::session_store::{SessionStore, Usage};
use crate::session::{Session, SessionKey, StoreError};
use crate::threads;
use queue::{Queue, Taken, Write};
use workers::Workers;

mod queue;
mod workers;

/// How long a drop waits for the last writes: a second, less what the rest of it may take.
const LAST_WRITES: Duration = Duration::from_millis(900);

/// A store over a slow one, whose writes no handshake waits for.
///
/// [`put`](SessionStore::put) and [`remove`](SessionStore::remove) go into a queue and return at
/// once; threads of the store's own do them, the oldest first. Until a session is written it is
/// served from the queue, so a client that comes back at once resumes, if it comes back to this
/// process: others know a session only once it is written.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use openssl_resumption::{MemoryStore, Resumption, WriteBehind};
///
/// # let shared = MemoryStore::default();
/// let store = Arc::new(WriteBehind::new(shared));
/// let policy = Resumption::stateful(Arc::clone(&store));
/// // … and when the server stops:
/// let unwritten = store.flush(Duration::from_secs(5));
/// # assert_eq!(unwritten, 0);
/// ```
///
/// [`Sealed`](crate::Sealed) and [`CircuitBreaker`](crate::CircuitBreaker) belong inside, where the
/// threads do their work; it belongs inside [`Tiered`](crate::Tiered).
///
/// # What it promises
///
/// The writes of one key are done in their order, those that a newer one replaces not at all. As
/// long as no write is lost:
///
/// - A session that was put is what `get` returns, until it is replaced, removed or taken.
/// - A session that was removed or taken does not come back. A put that waits is replaced by the
///   removal; one that is just being written is removed after it.
/// - `take` is as exact as the inner store's, so [`takes_once`](SessionStore::takes_once) says what
///   that one says. A session whose write waits is known to this process alone; who takes it gets
///   it under the lock of the queue and leaves a removal in its place, so it is never written, and
///   nobody else can get it. While it is being written, others may find it in the inner store:
///   `take` waits for the end of that one `put`, and then lets the inner store decide, as it does
///   for all other sessions.
///
/// `put`, `remove`, and `get` and `take` of sessions that wait do not call the inner store. A `get`
/// takes as long as the inner store's otherwise, and a `take` as its `take` and at most one `put`.
/// The inner store bounds its own time.
///
/// A write is **lost**, and counted in [`Usage::lost`], if the queue is full when newer ones come
/// (the oldest goes first), or if the inner store fails or panics (it is not asked twice). A
/// session whose put is lost does not resume, unless the store does later what it said that it
/// could not (a network that is slow). One whose removal is lost may, until it ends;
/// [`forget_before`](crate::Resumption::forget_before) ends sessions wherever they are. Sessions
/// that end while they wait are not written, and wiped within ten seconds of their end; one that is being
/// written then is wiped when the inner store has done with it.
///
/// # How many threads
///
/// Each thread does one write at a time, so the inner store gets as many writes a second as there
/// are threads, divided by the seconds that it takes for one:
///
/// | threads | 0.2 ms a write | 1 ms a write |
/// |---|---|---|
/// | 1 | 5,000 | 1,000 |
/// | 8, the default | 40,000 | 8,000 |
///
/// A full handshake is one put (in TLS 1.3, one for each ticket), and so is a TLS 1.3 resumption.
/// A server of 5,000 handshakes a second, 1 ms from its store, keeps five threads busy: one would
/// not do. Threads are started when all others are busy, so a server that needs few has few. When
/// the inner store is too slow for a while, the queue bridges 10,000 writes.
///
/// # The end of it, and forks
///
/// Dropping the store does what writes it can, for at most a second. Then it drops the rest, and
/// the inner store; if that hangs in a call, it is dropped at the end of the call. A process that
/// ends without dropping the store (one in a `static`, say) loses what waits: call
/// [`flush`](Self::flush).
///
/// A process that is forked off starts threads of its own and leaves what waits to its parent.
pub struct WriteBehind<S> {
    inner: Arc<S>,
    workers: Arc<Workers>,
}

impl<S: SessionStore> WriteBehind<S> {
    /// Writes in a queue of the default [`capacity`](Self::capacity).
    pub const DEFAULT_ENTRIES: usize = 10_000;
    /// Bytes in a queue of the default [`capacity`](Self::capacity).
    pub const DEFAULT_BYTES: usize = 32 * 1024 * 1024;
    /// Threads by default; see [`workers`](Self::workers).
    pub const DEFAULT_WORKERS: usize = 8;

    /// Puts a queue before `inner`. No thread is started yet.
    #[must_use]
    pub fn new(inner: S) -> Self {
        let queue = Queue::new(Self::DEFAULT_ENTRIES, Self::DEFAULT_BYTES);
        Self {
            inner: Arc::new(inner),
            workers: Arc::new(Workers::new(queue, Self::DEFAULT_WORKERS)),
        }
    }

    /// At most so many writes wait, of together at most so many bytes, each counted as the record
    /// of its session and 128 bytes more. By default 10,000 and 32 MiB.
    ///
    /// A write too large for the queue even when it is empty is an error of `put` or `remove`; if
    /// either is 0, all are. Beside what waits, each thread has the write that it does.
    #[must_use]
    pub fn capacity(self, entries: usize, bytes: usize) -> Self {
        let mut state = self.workers.lock();
        state.queue.max_entries = entries;
        state.queue.max_bytes = bytes;
        drop(state);
        self
    }

    /// At most so many threads write, at least one; by default 8.
    ///
    /// As many writes of the inner store run at the same time, beside the lookups of handshakes: if
    /// it has a pool of connections, that should be larger.
    #[must_use]
    pub fn workers(self, threads: usize) -> Self {
        self.workers.lock().max_threads = threads.max(1);
        self
    }

    /// Waits until all writes are done, at most for `timeout`, and returns how many are not.
    ///
    /// For a server that stops and accepts no more connections: it waits for new writes too.
    #[must_use = "it is the number of writes that may be lost"]
    pub fn flush(&self, timeout: Duration) -> usize {
        self.workers.flush(timeout)
    }

    fn write(&self, key: &SessionKey, write: Write) -> Result<(), StoreError> {
        let mut state = self.workers.lock();
        state.queue.push(*key, write)?;
        self.workers.wake(state, &self.inner);
        threads::watch(&self.workers);
        Ok(())
    }
}

impl<S: SessionStore> SessionStore for WriteBehind<S> {
    fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
        self.write(key, Write::Put(session, None))
    }

    fn put_successor(
        &self,
        key: &SessionKey,
        session: Session,
        used: &SessionKey,
    ) -> Result<(), StoreError> {
        self.write(key, Write::Put(session, Some(*used)))
    }

    fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        if let Some(session) = self.workers.lock().queue.get(key) {
            return Ok(session.cloned());
        }
        self.inner.get(key)
    }

    fn remove(&self, key: &SessionKey) -> Result<(), StoreError> {
        self.write(key, Write::Remove)
    }

    fn take(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        let mut state = self.workers.lock();
        loop {
            match state.queue.take(key) {
                Taken::Here(session) => return Ok(session),
                Taken::Writing => self.workers.wait(&mut state),
                Taken::Elsewhere => break,
            }
        }
        drop(state);
        let session = self.inner.take(key)?;
        if let Some(session) = &session {
            self.workers.lock().queue.taken(key, session);
        }
        Ok(session)
    }

    fn takes_once(&self) -> bool {
        self.inner.takes_once()
    }

    fn remembers_takes(&self, lives: Duration) -> Result<bool, StoreError> {
        self.inner.remembers_takes(lives)
    }

    /// The inner store's, with the writes of this one added. Writes that are being done count as
    /// queued.
    fn usage(&self) -> Option<Usage> {
        let mut usage = self.inner.usage().unwrap_or_default();
        let state = self.workers.lock();
        usage.queued += state.queue.len() as u64;
        usage.lost += state.queue.lost;
        Some(usage)
    }

    fn last_error(&self) -> Option<String> {
        self.inner.last_error()
    }
}

impl<S> Drop for WriteBehind<S> {
    fn drop(&mut self) {
        self.workers.close(LAST_WRITES);
    }
}

/// The queue only: the inner store is not asked.
impl<S> fmt::Debug for WriteBehind<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.workers.lock();
        f.debug_struct("WriteBehind")
            .field("queued", &state.queue.len())
            .field("lost", &state.queue.lost)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
