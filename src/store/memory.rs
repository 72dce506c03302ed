use std::fmt;
use std::num::NonZeroUsize;
use std::time::SystemTime;

use lru::LruCache;
use parking_lot::Mutex;

use super::{Session, SessionKey, SessionStore, StoreError, Usage};

/// A key cut to what tells sessions apart, as no one can find two ids with the same 128 bits.
type ShortKey = [u8; 16];

/// What an entry counts beside its record: short key, list node and table slot, and what the
/// allocator adds.
const OVERHEAD: usize = 128;

/// A shard below these sizes would evict by accident of hashing rather than by age.
const SHARD_ENTRIES: usize = 256;
const SHARD_BYTES: usize = 256 * 1024;
/// When erased entries have used a table up it is tidied in place, which stops the callers of its shard for
/// 0.1 µs an entry: with so many shards that stays below a millisecond up to eight million entries.
const MAX_SHARDS: usize = 1_024;
/// A shard for no more entries has its table made at once: to grow one later stops its callers for
/// as long as it takes to move them all.
const PRE_SIZED: usize = 8_192;

/// A store in the memory of this process, bounded in entries and in bytes.
///
/// When it is full the least recently used session goes first. The entries are spread over up to 1,024
/// shards, each behind its own lock and with an equal part of the capacity: a large store begins to
/// evict a little before all of its parts are full. One for fewer than 512 entries or 512 KiB is
/// one shard and evicts in exact order of use.
///
/// A session that has ended leaves the store when it is next asked for, and is returned that one
/// time, so that the connection can tell "expired" from "not found".
pub struct MemoryStore {
    /// A power of two of them, or none if the capacity is zero.
    shards: Box<[Mutex<Shard>]>,
}

struct Shard {
    sessions: LruCache<ShortKey, Session>,
    max_entries: usize,
    bytes: usize,
    max_bytes: usize,
    evictions: u64,
}

impl MemoryStore {
    /// Entries of a [`default`](Self::default) store.
    pub const DEFAULT_ENTRIES: usize = 20_480;
    /// Bytes of a [`default`](Self::default) store.
    pub const DEFAULT_BYTES: usize = 32 * 1024 * 1024;

    /// A store for at most `entries` sessions of together at most `bytes` bytes, each session
    /// counted as its record and 128 bytes more.
    ///
    /// If either is 0, nothing is stored. A session too large for its shard is not stored, which
    /// counts as an eviction.
    #[must_use]
    pub fn new(entries: usize, bytes: usize) -> Self {
        let most = (entries / SHARD_ENTRIES).min(bytes / SHARD_BYTES);
        let shards = match entries.min(bytes) {
            0 => 0,
            _ => 1 << most.clamp(1, MAX_SHARDS).ilog2(),
        };
        // What does not divide evenly goes to the first shards, so that the sum is exact.
        let share = |total: usize, i: usize| total / shards + usize::from(i < total % shards);
        Self {
            shards: (0..shards)
                .map(|i| Mutex::new(Shard::new(share(entries, i), share(bytes, i))))
                .collect(),
        }
    }

    fn shard(&self, key: &SessionKey) -> Option<&Mutex<Shard>> {
        // Keys are SHA-256 values: any of their bits spread evenly.
        let [a, b, ..] = *key.as_bytes();
        let index = usize::from(u16::from_be_bytes([a, b])) & self.shards.len().wrapping_sub(1);
        self.shards.get(index)
    }

    fn get_at(&self, key: &SessionKey, now: SystemTime) -> Option<Session> {
        let mut shard = self.shard(key)?.lock();
        let session = shard.sessions.get(short(key))?;
        if session.expires_at() <= now {
            return shard.pop(key);
        }
        Some(session.clone())
    }

    fn pop(&self, key: &SessionKey) -> Option<Session> {
        self.shard(key)?.lock().pop(key)
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
        if let Some(shard) = self.shard(key) {
            // What goes is wiped and freed outside the lock, but for the rare second one.
            let gone = shard.lock().put(key, session);
            drop(gone);
        }
        Ok(())
    }

    fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        Ok(self.get_at(key, SystemTime::now()))
    }

    fn remove(&self, key: &SessionKey) -> Result<(), StoreError> {
        self.pop(key);
        Ok(())
    }

    fn take(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        Ok(self.pop(key))
    }

    fn takes_once(&self) -> bool {
        true
    }

    fn usage(&self) -> Option<Usage> {
        let mut usage = Usage::default();
        for shard in &self.shards {
            let shard = shard.lock();
            usage.entries += shard.sessions.len() as u64;
            usage.bytes += shard.bytes as u64;
            usage.evictions += shard.evictions;
        }
        Some(usage)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}

impl Shard {
    fn new(max_entries: usize, max_bytes: usize) -> Self {
        // The bounds are kept here, because `lru` knows nothing of bytes. Where those are what fills it
        // nobody knows beforehand how many entries they are.
        let sessions = if max_entries <= PRE_SIZED.min(max_bytes / OVERHEAD) {
            // One more is there while another makes room.
            LruCache::new(NonZeroUsize::MIN.saturating_add(max_entries))
        } else {
            LruCache::unbounded()
        };
        Self {
            sessions,
            max_entries,
            bytes: 0,
            max_bytes,
            evictions: 0,
        }
    }

    /// Returns a session that had to go.
    fn put(&mut self, key: &SessionKey, session: Session) -> Option<Session> {
        let size = size(&session);
        if size > self.max_bytes {
            self.evictions += 1;
            return self.pop(key);
        }
        self.bytes += size;
        let mut gone = self.sessions.put(*short(key), session);
        self.bytes -= gone.as_ref().map_or(0, self::size);
        while self.sessions.len() > self.max_entries || self.bytes > self.max_bytes {
            // Not the new one, which is the most recently used and fits.
            let Some((_, oldest)) = self.sessions.pop_lru() else {
                break;
            };
            self.bytes -= self::size(&oldest);
            self.evictions += 1;
            gone = Some(oldest);
        }
        gone
    }

    fn pop(&mut self, key: &SessionKey) -> Option<Session> {
        let session = self.sessions.pop(short(key))?;
        self.bytes -= size(&session);
        Some(session)
    }
}

fn short(key: &SessionKey) -> &ShortKey {
    key.as_bytes().first_chunk().expect("16 is less than 32")
}

fn size(session: &Session) -> usize {
    session.as_bytes().len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(n: u32) -> SessionKey {
        SessionKey::derive(b"test", true, &n.to_be_bytes())
    }

    fn session(len: usize) -> Session {
        Session::new(SystemTime::now() + Duration::from_secs(60), &vec![0; len])
    }

    fn usage(store: &MemoryStore) -> (u64, u64, u64) {
        let usage = store.usage().unwrap();
        (usage.entries, usage.bytes, usage.evictions)
    }

    fn has(store: &MemoryStore, n: u32) -> bool {
        store.get(&key(n)).unwrap().is_some()
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let store = MemoryStore::new(3, 1 << 20);
        for n in 0..3 {
            store.put(&key(n), session(10)).unwrap();
        }
        assert!(has(&store, 0), "a look counts as use");
        store.put(&key(3), session(10)).unwrap();
        assert!(has(&store, 0) && !has(&store, 1) && has(&store, 2) && has(&store, 3));
        assert_eq!(usage(&store), (3, 3 * (9 + 10 + 128), 1));
    }

    #[test]
    fn bytes_are_bounded_like_entries() {
        let each = 9 + 100 + 128;
        let store = MemoryStore::new(100, 3 * each);
        for n in 0..4 {
            store.put(&key(n), session(100)).unwrap();
        }
        assert!(!has(&store, 0) && has(&store, 1) && has(&store, 3));
        assert_eq!(usage(&store), (3, 3 * each as u64, 1));

        store.put(&key(9), session(2 * each)).unwrap();
        assert!(
            has(&store, 9),
            "a larger session displaces as many as it needs"
        );
        assert_eq!(usage(&store).0, 1);

        store.put(&key(9), session(4 * each)).unwrap();
        assert!(
            !has(&store, 9),
            "the old session must not outlive its replacement"
        );
        assert_eq!(usage(&store), (0, 0, 5));
    }

    #[test]
    fn capacity_zero_stores_nothing() {
        for store in [
            MemoryStore::new(0, 1 << 20),
            MemoryStore::new(10, 0),
            MemoryStore::new(0, 0),
        ] {
            store.put(&key(0), session(1)).unwrap();
            store.remove(&key(0)).unwrap();
            assert!(!has(&store, 0) && store.take(&key(0)).unwrap().is_none());
            assert_eq!(usage(&store).0, 0);
        }
    }

    #[test]
    fn huge_capacities_cost_nothing_up_front() {
        let store = MemoryStore::new(usize::MAX, usize::MAX);
        store.put(&key(0), session(1)).unwrap();
        assert!(has(&store, 0));
    }

    /// As many as its bytes would allow of the smallest sessions never come.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn tables_are_not_made_for_more_than_bytes_allow() {
        let before = crate::ffi::allocated();
        let _store = MemoryStore::new(usize::MAX, 512 << 20);
        // Other tests allocate too, and not as much.
        assert!(crate::ffi::allocated().saturating_sub(before) < 32 << 20);
    }

    #[test]
    fn replacing_counts_once() {
        let store = MemoryStore::default();
        store.put(&key(0), session(10)).unwrap();
        store.put(&key(0), session(20)).unwrap();
        assert_eq!(usage(&store), (1, 9 + 20 + 128, 0));
    }

    #[test]
    fn an_expired_session_is_returned_once_and_gone() {
        let store = MemoryStore::default();
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        store.put(&key(0), Session::new(end, b"x")).unwrap();
        assert!(
            store
                .get_at(&key(0), end - Duration::from_secs(1))
                .is_some()
        );
        assert!(store.get_at(&key(0), end).is_some());
        assert!(store.get_at(&key(0), end).is_none());
        assert_eq!(usage(&store), (0, 0, 0));
    }

    #[test]
    fn the_shards_together_hold_the_capacity_and_no_more() {
        let store = MemoryStore::new(1_000, 1 << 30);
        assert_eq!(store.shards.len(), 2);
        for n in 0..5_000 {
            store.put(&key(n), session(1)).unwrap();
        }
        let (entries, _, evictions) = usage(&store);
        assert_eq!((entries, evictions), (1_000, 4_000));
        assert_eq!(MemoryStore::default().shards.len(), 64);
        // A shard for less than 256 KiB would have room for few large sessions.
        assert_eq!(MemoryStore::new(usize::MAX, 1 << 20).shards.len(), 4);
        assert_eq!(MemoryStore::new(usize::MAX, usize::MAX).shards.len(), 1_024);
    }

    /// Sessions in use and the newest half stay, though each shard evicts for itself.
    #[test]
    fn at_capacity_what_is_new_or_in_use_stays() {
        let capacity = 20_000;
        let store = MemoryStore::new(capacity as usize, 1 << 30);
        let in_use = capacity / 10;
        for n in 0..10 * capacity {
            store.put(&key(n), session(1)).unwrap();
            // Each of those in use is asked for ten times in a capacity.
            if n >= in_use {
                has(&store, n % in_use);
            }
        }
        let kept = |range: std::ops::Range<u32>| {
            let len = f64::from(range.end - range.start);
            range.filter(|n| has(&store, *n)).count() as f64 / len
        };
        assert!(kept(0..in_use) >= 0.99);
        assert!(kept(10 * capacity - capacity / 2..10 * capacity) >= 0.99);
    }

    #[test]
    fn of_many_takers_one_gets_the_session() {
        let store = MemoryStore::default();
        for n in 0..200 {
            store.put(&key(n), session(1)).unwrap();
            let taken: usize = std::thread::scope(|scope| {
                let takers: Vec<_> = (0..4)
                    .map(|_| scope.spawn(|| usize::from(store.take(&key(n)).unwrap().is_some())))
                    .collect();
                takers.into_iter().map(|taker| taker.join().unwrap()).sum()
            });
            assert_eq!(taken, 1);
        }
    }
}
