//! A store that says who calls it, and does what the test says.

use std::sync::{Condvar, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use openssl_resumption::{MemoryStore, Session, SessionKey, SessionStore, StoreError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Put,
    Get,
    Remove,
    Take,
}

/// What the store does before it does what it is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Mood {
    #[default]
    Prompt,
    /// Lets each call wait for so long.
    Slow(Duration),
    /// Lets lookups wait until the mood has changed.
    Holding,
    Failing,
    Panicking,
}

#[derive(Default)]
pub(crate) struct Watched {
    store: MemoryStore,
    mood: Mutex<Mood>,
    changed: Condvar,
    calls: Mutex<Vec<(Call, SessionKey, ThreadId)>>,
}

impl Watched {
    pub(crate) fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
        self.changed.notify_all();
    }

    pub(crate) fn forget_calls(&self) {
        self.calls.lock().unwrap().clear();
    }

    /// The calls of this kind, which may not have ended.
    pub(crate) fn count(&self, call: Call) -> usize {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|(made, ..)| *made == call).count()
    }

    /// What the store was asked for, in order.
    pub(crate) fn asked_for(&self) -> Vec<SessionKey> {
        let calls = self.calls.lock().unwrap();
        let lookups = calls
            .iter()
            .filter(|(call, ..)| matches!(call, Call::Get | Call::Take));
        lookups.map(|(_, key, _)| *key).collect()
    }

    /// How many calls of this kind this thread has made.
    pub(crate) fn count_here(&self, call: Call) -> usize {
        let here = (call, thread::current().id());
        let calls = self.calls.lock().unwrap();
        let mine = calls.iter().filter(|(call, _, by)| (*call, *by) == here);
        mine.count()
    }

    fn called(&self, call: Call, key: &SessionKey) -> Result<(), StoreError> {
        let made = (call, *key, thread::current().id());
        self.calls.lock().unwrap().push(made);
        let lookup = matches!(call, Call::Get | Call::Take);
        let mood = self.mood.lock().unwrap();
        let mood = self
            .changed
            .wait_while(mood, |mood| lookup && matches!(mood, Mood::Holding));
        let mood = *mood.unwrap();
        match mood {
            Mood::Prompt | Mood::Holding => {}
            Mood::Slow(latency) => thread::sleep(latency),
            Mood::Failing => return Err(StoreError::new("out of order")),
            Mood::Panicking => panic!("the store panics"),
        }
        Ok(())
    }
}

impl SessionStore for Watched {
    fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
        self.called(Call::Put, key)?;
        self.store.put(key, session)
    }

    fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        self.called(Call::Get, key)?;
        self.store.get(key)
    }

    fn remove(&self, key: &SessionKey) -> Result<(), StoreError> {
        self.called(Call::Remove, key)?;
        self.store.remove(key)
    }

    fn take(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        self.called(Call::Take, key)?;
        self.store.take(key)
    }

    fn takes_once(&self) -> bool {
        true
    }
}
