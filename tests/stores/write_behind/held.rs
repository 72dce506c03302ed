//! A store whose writes can be stopped, and made to fail.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use openssl_resumption::{Session, SessionKey, SessionStore, StoreError, Usage};

/// Nothing that a test waits for takes this long.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Where writes stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    Before,
    After,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Writes {
    #[default]
    Work,
    Fail,
    Panic,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) sessions: HashMap<SessionKey, Session>,
    /// What was written, in order: the session's number, or `None` for a removal.
    pub(crate) written: Vec<(SessionKey, Option<u8>)>,
    pub(crate) writes: Writes,
    stop: Option<Stop>,
    pub(crate) stopped: Vec<SessionKey>,
    pub(crate) on_end: Option<Sender<()>>,
}

/// Clones are the same store.
#[derive(Clone, Default)]
pub(crate) struct Held(Arc<(Mutex<State>, Condvar)>);

thread_local! {
    static ON_END: RefCell<Option<OnEnd>> = const { RefCell::new(None) };
}

/// Tells the test that a thread that wrote has ended.
struct OnEnd(Sender<()>);

impl Drop for OnEnd {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

impl Held {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A write that panics does it without the lock.
        self.0.0.lock().unwrap()
    }

    pub(crate) fn hold(&self, stop: Stop) {
        self.state().stop = Some(stop);
    }

    pub(crate) fn release(&self) {
        self.state().stop = None;
        self.0.1.notify_all();
    }

    /// Waits until so many writes have stopped.
    #[track_caller]
    pub(crate) fn wait_stopped(&self, n: usize) {
        let waits = |state: &mut State| state.stopped.len() < n;
        let (state, timeout) = self
            .0
            .1
            .wait_timeout_while(self.state(), LONG, waits)
            .unwrap();
        assert!(!timeout.timed_out(), "{} stopped", state.stopped.len());
    }

    /// How many own it.
    pub(crate) fn owners(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// Gets a message whenever a thread ends that wrote from now on.
    pub(crate) fn ends(&self) -> Receiver<()> {
        let (sender, receiver) = channel();
        self.state().on_end = Some(sender);
        receiver
    }

    fn stop_at(&self, key: &SessionKey, stop: Stop) {
        let mut state = self.state();
        if state.stop == Some(stop) {
            state.stopped.push(*key);
            self.0.1.notify_all();
            let stops = |state: &mut State| state.stop == Some(stop);
            let (mut state, timeout) = self.0.1.wait_timeout_while(state, LONG, stops).unwrap();
            state.stopped.retain(|stopped| stopped != key);
            drop(state);
            assert!(!timeout.timed_out(), "a write was not let go on");
        }
    }

    fn write(&self, key: &SessionKey, session: Option<Session>) -> Result<(), StoreError> {
        self.stop_at(key, Stop::Before);
        let mut state = self.state();
        if let Some(sender) = &state.on_end {
            ON_END.with_borrow_mut(|end| _ = end.get_or_insert_with(|| OnEnd(sender.clone())));
        }
        match state.writes {
            Writes::Work => {}
            Writes::Fail => return Err(StoreError::new("the network is down")),
            Writes::Panic => {
                drop(state);
                panic!("in a write");
            }
        }
        state.written.push((*key, session.as_ref().map(number)));
        match session {
            Some(session) => state.sessions.insert(*key, session),
            None => state.sessions.remove(key),
        };
        drop(state);
        self.stop_at(key, Stop::After);
        Ok(())
    }
}

impl SessionStore for Held {
    fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
        self.write(key, Some(session))
    }

    fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        Ok(self.state().sessions.get(key).cloned())
    }

    fn remove(&self, key: &SessionKey) -> Result<(), StoreError> {
        self.write(key, None)
    }

    fn take(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        Ok(self.state().sessions.remove(key))
    }

    fn takes_once(&self) -> bool {
        true
    }

    fn usage(&self) -> Option<Usage> {
        let mut usage = Usage::default();
        usage.entries = self.state().sessions.len() as u64;
        usage.lost = 1_000;
        Some(usage)
    }
}

pub(crate) fn key(n: u8) -> SessionKey {
    SessionKey::from([n; 32])
}

/// A session that is told from others by its number, and does not end in these tests.
pub(crate) fn session(n: u8) -> Session {
    until(1 << 35, n)
}

/// A session that ends at this time.
pub(crate) fn until(seconds: u64, n: u8) -> Session {
    let mut bytes = vec![1];
    bytes.extend(seconds.to_be_bytes());
    bytes.push(n);
    Session::from_bytes(&bytes).unwrap()
}

pub(crate) fn number(session: &Session) -> u8 {
    session.as_bytes()[9]
}
