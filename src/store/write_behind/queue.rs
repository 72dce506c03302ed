//! Writes that wait, and writes that are being done: no threads here, only their order.

use std::collections::{BTreeSet, HashMap};

use lru::LruCache;

use crate::session::{Session, SessionKey, StoreError};
use crate::store::shelf::Item;

/// What a write counts beside its record: key, list node and table slot.
const OVERHEAD: usize = 128;

#[derive(Clone)]
pub(super) enum Write {
    /// A session, and which one it succeeds.
    Put(Session, Option<SessionKey>),
    Remove,
}

impl Write {
    pub(super) fn session(&self) -> Option<&Session> {
        match self {
            Self::Put(session, _) => Some(session),
            Self::Remove => None,
        }
    }

    fn size(&self) -> usize {
        OVERHEAD + self.session().map_or(0, |session| session.as_bytes().len())
    }
}

/// What the queue knows of a session that is to be taken.
#[derive(Debug)]
pub(super) enum Taken {
    /// All: this is it, or there is none. What waited for the key is now its removal.
    Here(Option<Session>),
    /// It is being written, and soon the inner store has it.
    Writing,
    /// Nothing.
    Elsewhere,
}

/// The newest write of each key waits at most once, in the order of their age, and of one key one
/// write at most is being done.
///
/// That is what keeps the writes of a key in order, whoever does them, and lets a look at the queue
/// say what the inner store will have: what waits for a key is newer than what is being written,
/// and that is newer than what the inner store has.
pub(super) struct Queue {
    /// In order of use, which is the order of writing: nothing else here counts as use.
    waiting: LruCache<SessionKey, Write>,
    /// The ends of the sessions that wait.
    pub(super) ends: BTreeSet<(u64, SessionKey)>,
    writing: HashMap<SessionKey, Write>,
    pub(super) bytes: usize,
    pub(super) max_entries: usize,
    pub(super) max_bytes: usize,
    pub(super) lost: u64,
}

impl Queue {
    pub(super) fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self {
            waiting: LruCache::unbounded(),
            ends: BTreeSet::new(),
            writing: HashMap::new(),
            bytes: 0,
            max_entries,
            max_bytes,
            lost: 0,
        }
    }

    /// Writes that are not done.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.writing.len()
    }

    /// Puts a write last, in place of one of the same key, and drops the oldest that it leaves no
    /// room for.
    pub(super) fn push(&mut self, key: SessionKey, write: Write) -> Result<(), StoreError> {
        let size = write.size();
        if self.max_entries == 0 || size > self.max_bytes {
            return Err(StoreError::new("the write is larger than the queue"));
        }
        if let Some(replaced) = self.waiting.pop(&key) {
            self.no_longer_waits(&key, &replaced);
        }
        while self.waiting.len() >= self.max_entries || self.bytes > self.max_bytes - size {
            let Some((oldest, write)) = self.waiting.pop_lru() else {
                break;
            };
            self.no_longer_waits(&oldest, &write);
            self.lost += 1;
        }
        self.bytes += size;
        if let Some(session) = write.session() {
            self.ends.insert((session.ends(), key));
        }
        self.waiting.put(key, write);
        Ok(())
    }

    /// A write has been taken out of those that wait.
    fn no_longer_waits(&mut self, key: &SessionKey, write: &Write) {
        self.bytes -= write.size();
        if let Some(session) = write.session() {
            self.ends.remove(&(session.ends(), *key));
        }
    }

    /// Leaves the removal of its key in the place of a session that waits: it may have been to replace one in
    /// the inner store.
    fn cancel(&mut self, key: &SessionKey) -> Option<Session> {
        let waiting = self.waiting.peek_mut(key)?;
        let Write::Put(session, _) = std::mem::replace(waiting, Write::Remove) else {
            return None;
        };
        self.bytes -= session.as_bytes().len();
        self.ends.remove(&(session.ends(), *key));
        Some(session)
    }

    /// A session that has ended by this second while it waits.
    pub(super) fn pop_ended(&mut self, now: u64) -> Option<Session> {
        let (ends, key) = *self.ends.first()?;
        if ends > now {
            return None;
        }
        self.cancel(&key)
    }

    /// What the inner store will have: a session or none; `None` if no write of the key is known.
    pub(super) fn get(&self, key: &SessionKey) -> Option<Option<&Session>> {
        let newest = self.waiting.peek(key).or_else(|| self.writing.get(key));
        newest.map(Write::session)
    }

    pub(super) fn take(&mut self, key: &SessionKey) -> Taken {
        if self.waiting.contains(key) {
            return Taken::Here(self.cancel(key));
        }
        match self.writing.get(key) {
            Some(Write::Put(..)) => Taken::Writing,
            Some(Write::Remove) => Taken::Here(None),
            None => Taken::Elsewhere,
        }
    }

    /// The inner store gave this session away. If it is the one that is being written (the take
    /// began before the put then), it is not to be had here any more.
    pub(super) fn taken(&mut self, key: &SessionKey, taken: &Session) {
        let Some(write) = self.writing.get_mut(key) else {
            return;
        };
        if write.session().map(Session::as_bytes) == Some(taken.as_bytes()) {
            *write = Write::Remove;
        }
    }

    /// The oldest write whose key is not being written: the caller's to do.
    pub(super) fn next(&mut self) -> Option<(SessionKey, Write)> {
        let mut oldest_first = self.waiting.iter().rev().map(|(key, _)| *key);
        let key = oldest_first.find(|key| !self.writing.contains_key(key))?;
        let write = self.waiting.pop(&key)?;
        self.no_longer_waits(&key, &write);
        self.writing.insert(key, write.clone());
        Some((key, write))
    }

    /// The write of this key that [`next`](Self::next) gave out has been done, or has failed.
    pub(super) fn done(&mut self, key: &SessionKey, done: bool) {
        self.writing.remove(key);
        self.lost += u64::from(!done);
    }
}
