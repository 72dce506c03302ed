//! What the tests of stores over stores stand on.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::{MemoryStore, SessionStore, Usage};
use crate::session::{Session, SessionKey, StoreError};

pub(super) fn key(n: u8) -> SessionKey {
    SessionKey::from([n; 32])
}

/// A session that ends in an hour, of so many bytes.
pub(super) fn session(len: usize) -> Session {
    let payload: Vec<u8> = (0..len).map(|i| i as u8).collect();
    Session::new(SystemTime::now() + Duration::from_secs(3_600), &payload)
}

/// The bytes of what a lookup found.
#[track_caller]
pub(super) fn found(answer: Result<Option<Session>, StoreError>) -> Option<Vec<u8>> {
    answer.unwrap().map(|session| session.as_bytes().to_vec())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    Failing,
    Panicking,
}

/// A store in memory that does what it is told to do.
pub(super) struct Faulty {
    pub(super) memory: MemoryStore,
    mood: Mutex<Mood>,
    calls: AtomicUsize,
}

impl Faulty {
    pub(super) fn new() -> Self {
        Self {
            memory: MemoryStore::default(),
            mood: Mutex::new(Mood::Well),
            calls: AtomicUsize::new(0),
        }
    }

    pub(super) fn set(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }

    /// How often it was called.
    pub(super) fn calls(&self) -> usize {
        self.calls.load(Relaxed)
    }

    fn called(&self) -> Result<&MemoryStore, StoreError> {
        self.calls.fetch_add(1, Relaxed);
        let mood = *self.mood.lock();
        match mood {
            Mood::Well => Ok(&self.memory),
            Mood::Failing => Err(StoreError::new("failing")),
            Mood::Panicking => panic!("panicking"),
        }
    }
}

impl SessionStore for Faulty {
    fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
        self.called()?.put(key, session)
    }

    fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        self.called()?.get(key)
    }

    fn remove(&self, key: &SessionKey) -> Result<(), StoreError> {
        self.called()?.remove(key)
    }

    fn take(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        self.called()?.take(key)
    }

    fn takes_once(&self) -> bool {
        true
    }

    fn usage(&self) -> Option<Usage> {
        self.memory.usage()
    }

    fn last_error(&self) -> Option<String> {
        (*self.mood.lock() == Mood::Failing).then(|| "failing".into())
    }
}

/// A store that can only put, get and remove, and says nothing of itself; it is empty.
pub(super) struct Plain;

impl SessionStore for Plain {
    fn put(&self, _: &SessionKey, _: Session) -> Result<(), StoreError> {
        Ok(())
    }

    fn get(&self, _: &SessionKey) -> Result<Option<Session>, StoreError> {
        Ok(None)
    }

    fn remove(&self, _: &SessionKey) -> Result<(), StoreError> {
        Ok(())
    }
}
