//! A store in the memory of this process.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::SystemTime;

use parking_lot::Mutex;

use super::session_store::{SessionStore, Usage};
use super::shelf::{Item, Kind, Shelf};
use crate::base::unix_seconds;
use crate::session::{Session, SessionKey, StoreError};
use crate::threads::{self, Perishable, Watched};

/// What an entry counts beside its record: its places on a shelf, and what the allocator adds.
const OVERHEAD: usize = 128;

/// With so many entries each, a few threads seldom wait for one another, and a table that grows stops nobody
/// for long.
const SHELF_ENTRIES: usize = 256;
const SHELF_BYTES: usize = 256 * 1024;
const MAX_SHELVES: usize = 1_024;

/// A store in the memory of this process, bounded in entries and in bytes.
///
/// # What goes when it is full
///
/// Of each of these in turn, the least recently used goes first:
///
/// 1. sessions whose client has got another in their place: in TLS 1.3 each resumption brings one, and the used one
///    stays while there is room;
/// 2. sessions that nobody has looked up yet, while they are more than a tenth of the store, so that a flood of
///    new clients leaves alone those that come back;
/// 3. all others.
///
/// In a large store, which is split into up to 1,024 parts with a lock each, the order is approximate.
///
/// So one entry is enough for each client, in TLS 1.2 and 1.3 alike:
/// [`DEFAULT_ENTRIES`](Self::DEFAULT_ENTRIES) clients come in turn and all resume. With
/// [`tickets`](crate::Resumption::tickets) above 1 a TLS 1.3 client takes as many when it is new.
///
/// # What has ended
///
/// It is wiped within ten seconds of its end, also if nobody comes, by one thread of the process named
/// `session-ends`. If it is asked for before, it is returned that one time, so that the connection can tell
/// "expired" from "not found".
pub struct MemoryStore(Arc<Shelves>);

struct Shelves {
    /// A power of two of them, or none if the capacity is zero.
    shelves: Box<[Mutex<Shelf<Session>>]>,
    /// Bounds and counts of all together: that hashing fills one shelf before another does not matter.
    max_entries: usize,
    max_bytes: usize,
    entries: AtomicUsize,
    bytes: AtomicUsize,
    evictions: AtomicU64,
    expired: AtomicU64,
    watched: Watched,
}

impl Item for Session {
    fn size(&self) -> usize {
        self.as_bytes().len() + OVERHEAD
    }

    fn ends(&self) -> u64 {
        unix_seconds(self.expires_at())
    }
}

impl MemoryStore {
    /// Entries of a [`default`](Self::default) store.
    pub const DEFAULT_ENTRIES: usize = 20_480;
    /// Bytes of a [`default`](Self::default) store.
    pub const DEFAULT_BYTES: usize = 32 * 1024 * 1024;

    /// A store for at most `entries` sessions of together at most `bytes` bytes, each session
    /// counted as its record and 128 bytes more. While threads store at once there may be one session more for
    /// each of them.
    ///
    /// If either is 0, nothing is stored. A session too large for the store is not stored, which
    /// counts as an eviction.
    #[must_use]
    pub fn new(entries: usize, bytes: usize) -> Self {
        let most = (entries / SHELF_ENTRIES).min(bytes / SHELF_BYTES);
        let shelves = match entries.min(bytes) {
            0 => 0,
            _ => 1 << most.clamp(1, MAX_SHELVES).ilog2(),
        };
        Self(Arc::new(Shelves {
            shelves: (0..shelves).map(|_| Mutex::new(Shelf::default())).collect(),
            max_entries: entries,
            max_bytes: bytes,
            entries: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            evictions: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            watched: Watched::default(),
        }))
    }

    fn get_at(&self, key: &SessionKey, now: SystemTime) -> Option<Session> {
        let mut shelf = self.0.shelf(key)?.lock();
        let session = shelf.get(key)?;
        if session.expires_at() > now {
            return Some(session.clone());
        }
        let ended = shelf.pop(key);
        drop(shelf);
        self.0.has_ended(ended.as_slice());
        ended
    }
}

/// 20,480 entries (OpenSSL's own default) and 32 MiB.
impl Default for MemoryStore {
    fn default() -> Self {
        Self::new(Self::DEFAULT_ENTRIES, Self::DEFAULT_BYTES)
    }
}

impl SessionStore for MemoryStore {
    fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
        self.0.put(key, session, Kind::Fresh, key);
        threads::watch(&self.0);
        Ok(())
    }

    fn put_successor(
        &self,
        key: &SessionKey,
        session: Session,
        used: &SessionKey,
    ) -> Result<(), StoreError> {
        let kind = match self.0.shelf(used) {
            Some(shelf) => shelf.lock().supersede(used),
            None => Kind::Used,
        };
        self.0.put(key, session, kind, used);
        threads::watch(&self.0);
        Ok(())
    }

    fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        Ok(self.get_at(key, SystemTime::now()))
    }

    fn remove(&self, key: &SessionKey) -> Result<(), StoreError> {
        self.0.pop(key);
        Ok(())
    }

    fn take(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        Ok(self.0.pop(key))
    }

    fn takes_once(&self) -> bool {
        true
    }

    fn usage(&self) -> Option<Usage> {
        Some(Usage {
            entries: self.0.entries.load(Relaxed) as u64,
            bytes: self.0.bytes.load(Relaxed) as u64,
            evictions: self.0.evictions.load(Relaxed),
            expired: self.0.expired.load(Relaxed),
            ..Usage::default()
        })
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}

impl Shelves {
    fn number(&self, key: &SessionKey) -> usize {
        // Keys are SHA-256 values: any of their bits spread evenly.
        let [a, b, ..] = *key.as_bytes();
        usize::from(u16::from_be_bytes([a, b])) & self.shelves.len().wrapping_sub(1)
    }

    fn shelf(&self, key: &SessionKey) -> Option<&Mutex<Shelf<Session>>> {
        self.shelves.get(self.number(key))
    }

    /// Puts a session in, and makes room for it, on the shelf of `first` to begin with. What goes is wiped and
    /// freed outside of the locks.
    fn put(&self, key: &SessionKey, session: Session, kind: Kind, first: &SessionKey) {
        let Some(shelf) = self.shelf(key) else { return };
        let size = session.size();
        if size > self.max_bytes {
            self.evictions.fetch_add(1, Relaxed);
            self.pop(key);
            return;
        }
        self.entries.fetch_add(1, Relaxed);
        self.bytes.fetch_add(size, Relaxed);
        let replaced = shelf.lock().insert(key, kind, session);
        self.has_left(replaced.as_slice());
        let first = self.number(first);
        let mut shelves = (first..self.shelves.len()).chain(0..first);
        let mut next = shelves.next();
        let is_over = || {
            self.entries.load(Relaxed) > self.max_entries
                || self.bytes.load(Relaxed) > self.max_bytes
        };
        while let Some(number) = next.filter(|_| is_over()) {
            let evicted = self.shelves[number].lock().evict(key);
            match evicted {
                Some((kind, session)) => {
                    self.has_left(&[session]);
                    // One whose client has got another is no loss.
                    let lost = u64::from(kind != Kind::Superseded);
                    self.evictions.fetch_add(lost, Relaxed);
                }
                None => next = shelves.next(),
            }
        }
    }

    fn pop(&self, key: &SessionKey) -> Option<Session> {
        let session = self.shelf(key)?.lock().pop(key);
        self.has_left(session.as_slice());
        session
    }

    /// Counts sessions that are on no shelf any more.
    fn has_left(&self, sessions: &[Session]) {
        let bytes = sessions.iter().map(Item::size).sum();
        self.entries.fetch_sub(sessions.len(), Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
    }

    fn has_ended(&self, sessions: &[Session]) {
        self.has_left(sessions);
        self.expired.fetch_add(sessions.len() as u64, Relaxed);
    }
}

impl Perishable for Shelves {
    fn watched(&self) -> &Watched {
        &self.watched
    }

    fn is_empty(&self) -> bool {
        self.entries.load(Relaxed) == 0
    }

    fn sweep(&self, now: u64, at: &mut usize) -> bool {
        // On most there is nothing, and each step is followed by a rest.
        const SHELVES: usize = 16;
        let mut gone = Vec::new();
        for shelf in self.shelves.iter().skip(*at).take(SHELVES) {
            let more = shelf.lock().sweep(now, &mut gone);
            *at += usize::from(!more);
            if more || !gone.is_empty() {
                break;
            }
        }
        self.has_ended(&gone);
        *at < self.shelves.len()
    }
}

#[cfg(test)]
mod tests;
