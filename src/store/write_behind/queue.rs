//! Writes that wait, and writes that are being done: no threads here, only their order.

use std::collections::HashMap;

use lru::LruCache;

use crate::store::{Session, SessionKey, StoreError};

/// What a write counts beside its record: key, list node and table slot.
const OVERHEAD: usize = 128;

#[derive(Clone)]
pub(super) enum Write {
    Put(Session),
    Remove,
}

impl Write {
    pub(super) fn session(&self) -> Option<&Session> {
        match self {
            Self::Put(session) => Some(session),
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
    writing: HashMap<SessionKey, Write>,
    bytes: usize,
    pub(super) max_entries: usize,
    pub(super) max_bytes: usize,
    pub(super) lost: u64,
}

impl Queue {
    pub(super) fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self {
            waiting: LruCache::unbounded(),
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
            self.bytes -= replaced.size();
        }
        while self.waiting.len() >= self.max_entries || self.bytes > self.max_bytes - size {
            let Some((_, oldest)) = self.waiting.pop_lru() else {
                break;
            };
            self.bytes -= oldest.size();
            self.lost += 1;
        }
        self.bytes += size;
        self.waiting.put(key, write);
        Ok(())
    }

    /// What the inner store will have: a session or none; `None` if no write of the key is known.
    pub(super) fn get(&self, key: &SessionKey) -> Option<Option<&Session>> {
        let newest = self.waiting.peek(key).or_else(|| self.writing.get(key));
        newest.map(Write::session)
    }

    pub(super) fn take(&mut self, key: &SessionKey) -> Taken {
        if let Some(waiting) = self.waiting.peek_mut(key) {
            self.bytes -= waiting.size() - OVERHEAD;
            // It may have been to replace a session in the inner store, and must not bring it back.
            return match std::mem::replace(waiting, Write::Remove) {
                Write::Put(session) => Taken::Here(Some(session)),
                Write::Remove => Taken::Here(None),
            };
        }
        match self.writing.get(key) {
            Some(Write::Put(_)) => Taken::Writing,
            Some(Write::Remove) => Taken::Here(None),
            None => Taken::Elsewhere,
        }
    }

    /// The inner store gave this session away. If it is the one that is being written (the take
    /// began before the put then), it is not to be had here any more.
    pub(super) fn taken(&mut self, key: &SessionKey, taken: &Session) {
        if let Some(write) = self.writing.get_mut(key)
            && write.session().map(Session::as_bytes) == Some(taken.as_bytes())
        {
            *write = Write::Remove;
        }
    }

    /// The oldest write whose key is not being written: the caller's to do.
    pub(super) fn next(&mut self) -> Option<(SessionKey, Write)> {
        let mut oldest_first = self.waiting.iter().rev().map(|(key, _)| *key);
        let key = oldest_first.find(|key| !self.writing.contains_key(key))?;
        let write = self.waiting.pop(&key)?;
        self.bytes -= write.size();
        self.writing.insert(key, write.clone());
        Some((key, write))
    }

    /// The write of this key that [`next`](Self::next) gave out has been done, or has failed.
    pub(super) fn done(&mut self, key: &SessionKey, done: bool) {
        self.writing.remove(key);
        self.lost += u64::from(!done);
    }
}
