//! A store that writes later: a client that comes back before its session is written resumes.

mod ends;
mod held;
mod rules;
mod schedules;

use std::sync::Arc;
use std::thread;

use crate::common::*;
use held::{Held, LONG, Stop, key, number, session};
use openssl_resumption::{
    Handshake::{Full, Resumed},
    Reason, Resumption, Session, SessionKey, SessionStore, Source, StoreError, WriteBehind,
};

/// Where a write is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Waiting,
    Writing(Stop),
    Written,
}

impl Phase {
    pub(crate) const ALL: [Self; 4] = [
        Self::Waiting,
        Self::Writing(Stop::Before),
        Self::Writing(Stop::After),
        Self::Written,
    ];
}

/// A store of one thread, and what `write` makes by giving it a write, which is then in this phase.
fn with_write<T>(
    phase: Phase,
    write: impl FnOnce(&Arc<WriteBehind<Held>>) -> T,
) -> (Held, Arc<WriteBehind<Held>>, T) {
    let held = Held::default();
    let store = Arc::new(WriteBehind::new(held.clone()).workers(1));
    let made;
    match phase {
        Phase::Waiting => {
            held.hold(Stop::Before);
            store.put(&key(100), session(100)).unwrap();
            held.wait_stopped(1);
            made = write(&store);
        }
        Phase::Writing(stop) => {
            held.hold(stop);
            made = write(&store);
            held.wait_stopped(1);
        }
        Phase::Written => {
            made = write(&store);
            settled(&held, &store);
        }
    }
    (held, store, made)
}

/// A store with a session, number 1 under key 0, whose write is in this phase.
pub(crate) fn with_put(phase: Phase) -> (Held, Arc<WriteBehind<Held>>) {
    let (held, store, ()) = with_write(phase, |store| store.put(&key(0), session(1)).unwrap());
    (held, store)
}

/// Lets all writes go on, and waits for them.
#[track_caller]
pub(crate) fn settled(held: &Held, store: &WriteBehind<Held>) {
    held.release();
    assert_eq!(store.flush(LONG), 0);
}

pub(crate) fn found(answer: Result<Option<Session>, StoreError>) -> Option<u8> {
    answer.unwrap().as_ref().map(number)
}

pub(crate) fn take(store: &WriteBehind<Held>, key: SessionKey) -> Option<u8> {
    found(store.take(&key))
}

#[test]
fn a_client_that_comes_back_before_its_session_is_written_resumes() {
    for kind in Kind::ALL {
        for phase in Phase::ALL {
            let (held, _, (policy, context, first)) = with_write(phase, |store| {
                let policy = Resumption::stateful(Arc::clone(store));
                let context = context(&policy);
                let first = meet(&context, &Client::new(kind).unwrap(), None);
                (policy, context, first)
            });
            let client = Client::new(kind).unwrap();
            for _ in 0..2 {
                let next = meet(&context, &client, first.next());
                assert_eq!(next.agreed(), Resumed(Source::Store), "{kind:?} {phase:?}");
            }
            let queued = policy.stats().store.usage.unwrap().queued;
            assert!(queued > 0 || phase == Phase::Written);
            held.release();
        }
    }
}

#[test]
fn with_single_use_it_resumes_once_wherever_its_session_is() {
    for phase in Phase::ALL {
        let (held, store, (context, first)) = with_write(phase, |store| {
            let context = context(&Resumption::stateful(Arc::clone(store)).single_use(true));
            let first = meet(&context, &Client::new(Kind::Tls13).unwrap(), None);
            (context, first)
        });
        let again = || {
            let client = Client::new(Kind::Tls13).unwrap();
            meet(&context, &client, first.next()).agreed()
        };
        let both = thread::scope(|scope| {
            let other = scope.spawn(again);
            if let Phase::Writing(_) = phase {
                held.release();
            }
            [again(), other.join().unwrap()]
        });
        assert!(both.contains(&Resumed(Source::Store)), "{phase:?} {both:?}");
        assert!(both.contains(&Full(Reason::NotFound)), "{phase:?} {both:?}");
        settled(&held, &store);
        assert_eq!(again(), Full(Reason::NotFound), "{phase:?}");
    }
}
