use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::SystemTime;

use parking_lot::Mutex;

use super::{Session, SessionKey, SessionStore, StoreError, Usage};
use crate::shelf::{Item, Kind, Shelf};
use crate::stamp::unix_seconds;
use crate::timer::{self, Perishable, Watched};

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
/// First, sessions whose clients have got another for them: in TLS 1.3 a client that resumes gets a new session,
/// and its old one stays for as long as there is room. A client that comes back a thousand times takes the
/// room of one. (To look a session up is to come back, whether or not the handshake completes.) Then sessions that no client has come back with yet, as long as they are more than a tenth
/// of the store, so that a flood of them leaves those that are in use alone. Then those in use. Of each of the
/// three the least recently used goes first, but for the accident of hashing in large stores: the entries lie on
/// up to 1,024 shelves, each behind its own lock, and the shelf of the new one makes room.
///
/// So there is room for one client an entry, in TLS 1.2 and 1.3 alike:
/// [`DEFAULT_ENTRIES`](Self::DEFAULT_ENTRIES) come in turn and all resume. With
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
    /// counted as its record and 128 bytes more. While threads store at once there may be one more of each.
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
        timer::watch(&self.0);
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
        timer::watch(&self.0);
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
        while (self.entries.load(Relaxed) > self.max_entries
            || self.bytes.load(Relaxed) > self.max_bytes)
            && let Some(number) = next
        {
            let evicted = self.shelves[number].lock().evict(key);
            match evicted {
                Some(session) => {
                    self.has_left(&[session]);
                    self.evictions.fetch_add(1, Relaxed);
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
        if let Some(shelf) = self.shelves.get(*at) {
            let mut gone = Vec::new();
            let more = shelf.lock().sweep(now, &mut gone);
            self.has_ended(&gone);
            *at += usize::from(!more);
        }
        *at < self.shelves.len()
    }
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
        let end = SystemTime::now() + Duration::from_secs(3_600);
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
    fn the_shelves_together_hold_the_capacity_and_no_more() {
        let store = MemoryStore::new(1_000, 1 << 30);
        assert_eq!(store.0.shelves.len(), 2);
        (0..1_000).for_each(|n| store.put(&key(n), session(1)).unwrap());
        assert!(
            (0..1_000).all(|n| has(&store, n)),
            "however they are spread"
        );
        (1_000..5_000).for_each(|n| store.put(&key(n), session(1)).unwrap());
        let (entries, _, evictions) = usage(&store);
        assert_eq!((entries, evictions), (1_000, 4_000));
        assert_eq!(MemoryStore::default().0.shelves.len(), 64);
        // More shelves than that would have room for few large sessions.
        assert_eq!(MemoryStore::new(usize::MAX, 1 << 20).0.shelves.len(), 4);
        let huge = MemoryStore::new(usize::MAX, usize::MAX);
        assert_eq!(huge.0.shelves.len(), 1_024);
    }

    #[test]
    fn a_session_may_be_as_large_as_the_store() {
        let store = MemoryStore::new(1_000, 4 << 20);
        (0..900).for_each(|n| store.put(&key(n), session(4_000)).unwrap());
        store.put(&key(1_000), session((4 << 20) - 137)).unwrap();
        assert!(has(&store, 1_000));
        assert_eq!(usage(&store), (1, 4 << 20, 900));
        store.put(&key(1_001), session((4 << 20) - 136)).unwrap();
        assert!(has(&store, 1_000) && !has(&store, 1_001));
    }

    /// A client that comes back: its session is found, and gets a successor.
    fn resume(store: &MemoryStore, used: u32, successor: u32) -> bool {
        let found = has(store, used);
        let session = session(1);
        match found {
            true => store.put_successor(&key(successor), session, &key(used)),
            false => store.put(&key(successor), session),
        }
        .unwrap();
        found
    }

    #[test]
    fn there_is_room_for_one_client_an_entry() {
        for (room, clients) in [(10, 10), (1_000, 1_000), (20_480, 20_480)] {
            let store = MemoryStore::new(room, 1 << 30);
            (0..clients).for_each(|n| store.put(&key(n), session(1)).unwrap());
            for round in 0..3 {
                for n in round * clients..(round + 1) * clients {
                    assert!(resume(&store, n, n + clients), "{clients} {n}");
                }
            }
            assert_eq!(usage(&store).0, room as u64);
        }
    }

    #[test]
    fn a_client_that_comes_back_often_costs_others_nothing() {
        let store = MemoryStore::new(1_000, 1 << 30);
        (0..999).for_each(|n| store.put(&key(n), session(1)).unwrap());
        for n in 10_000..20_000 {
            resume(&store, n, n + 1);
        }
        assert!((0..999).all(|n| has(&store, n)));
    }

    #[test]
    fn a_used_session_serves_while_there_is_room() {
        let store = MemoryStore::new(3, 1 << 30);
        store.put(&key(0), session(1)).unwrap();
        assert!((1..3).all(|n| resume(&store, 0, n)));
        assert!(has(&store, 0));
        store.put_successor(&key(3), session(1), &key(0)).unwrap();
        assert!(!has(&store, 0) && (1..4).all(|n| has(&store, n)));
    }

    /// Each of its resumptions brings a session, and none but the first was earned by one before.
    #[test]
    fn a_stranger_with_one_ticket_drives_out_nobody() {
        let store = MemoryStore::new(1_000, 1 << 30);
        (0..900).for_each(|n| store.put(&key(n), session(1)).unwrap());
        assert!((0..900).all(|n| resume(&store, n, 1_000 + n)));
        store.put(&key(5_000), session(1)).unwrap();
        let resumed = (10_000..20_000).take_while(|n| resume(&store, 5_000, *n));
        assert!(resumed.count() > 0);
        let kept = (1_000..1_900).filter(|n| has(&store, *n)).count();
        assert!(kept >= 891, "{kept} of 900");
    }

    /// In one that is full or not, of few entries or many, whatever the sessions that are in use have become.
    #[test]
    fn a_flood_of_new_sessions_leaves_those_in_use() {
        for room in [100, 20_480] {
            let store = MemoryStore::new(room, 1 << 30);
            let clients = room as u32 * 4 / 5;
            (0..clients).for_each(|n| store.put(&key(n), session(1)).unwrap());
            assert!((0..clients).all(|n| resume(&store, n, clients + n)));
            for n in 1_000_000..1_000_000 + 10 * room as u32 {
                store.put(&key(n), session(1)).unwrap();
            }
            let kept = (clients..2 * clients).filter(|n| has(&store, *n)).count();
            assert!(kept >= clients as usize * 99 / 100, "{kept} of {clients}");
        }
    }

    #[test]
    fn what_has_ended_is_gone_and_counted() {
        let store = MemoryStore::new(10_000, 1 << 30);
        let second = unix_seconds(SystemTime::now()) + 3_600;
        let end = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(second + seconds);
        for n in 0..1_000 {
            let session = Session::new(end(u64::from(n % 2)), b"x");
            store.put(&key(n), session).unwrap();
        }
        let sweep = |seconds| {
            let mut at = 0;
            while store.0.sweep(second + seconds, &mut at) {}
            (usage(&store), store.usage().unwrap().expired)
        };
        assert_eq!(sweep(0), ((500, 500 * (10 + 128), 0), 500));
        assert_eq!(sweep(1), ((0, 0, 0), 1_000));
    }

    /// Sessions in use and the newest half stay, though each shelf makes room for itself.
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
