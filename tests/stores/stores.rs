//! Stores that fail, lie, or are slow cost a full handshake and a counter, never a connection.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::*;
use openssl::ssl::SslSession;
use openssl_resumption::{
    Handshake::{Full, Resumed},
    MemoryStore, Reason, Resumption, Session, SessionKey, SessionStore, Source, StoreError,
};

/// A store whose answers are made by a function of what was stored.
struct Answering<F> {
    stored: Arc<Mutex<Vec<(SessionKey, Session)>>>,
    answer: F,
}

type Answer = Result<Option<Session>, StoreError>;

impl<F> SessionStore for Answering<F>
where
    F: Fn(&[(SessionKey, Session)], &SessionKey) -> Answer + Send + Sync + 'static,
{
    fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
        self.stored.lock().unwrap().push((*key, session));
        Ok(())
    }

    fn get(&self, key: &SessionKey) -> Answer {
        (self.answer)(&self.stored.lock().unwrap(), key)
    }

    fn remove(&self, _: &SessionKey) -> Result<(), StoreError> {
        Ok(())
    }
}

fn answering<F>(answer: F) -> Resumption
where
    F: Fn(&[(SessionKey, Session)], &SessionKey) -> Answer + Send + Sync + 'static,
{
    Resumption::stateful(Answering {
        stored: Arc::default(),
        answer,
    })
}

/// What is under `key`.
fn honest(stored: &[(SessionKey, Session)], key: &SessionKey) -> Option<Session> {
    stored
        .iter()
        .find(|(k, _)| k == key)
        .map(|(_, session)| session.clone())
}

/// The session with its record changed.
fn changed(session: &Session, change: impl FnOnce(&mut Vec<u8>)) -> Session {
    let mut bytes = session.as_bytes().to_vec();
    change(&mut bytes);
    Session::from_bytes(&bytes).unwrap()
}

/// The second of two connections to a server with this policy.
#[track_caller]
fn second(policy: &Resumption, kind: Kind) -> openssl_resumption::Handshake {
    let context = context(policy);
    let client = Client::new(kind).unwrap();
    let first = meet(&context, &client, None);
    meet(&context, &client, first.next()).agreed()
}

#[test]
fn an_honest_store_of_the_users_own_resumes() {
    let policy = answering(|stored, key| Ok(honest(stored, key)));
    for kind in Kind::ALL {
        assert_eq!(second(&policy, kind), Resumed(Source::Store));
    }
    assert_eq!(
        (policy.stats().store.puts, policy.stats().store.hits),
        (4, 3)
    );
}

#[test]
fn an_error_is_a_full_handshake() {
    for kind in Kind::ALL {
        let policy = answering(|_, _| Err(StoreError::new("the network is down")));
        assert_eq!(second(&policy, kind), Full(Reason::StoreFailed));
        let store = policy.stats().store;
        assert_eq!((store.hits, store.misses, store.errors), (0, 0, 1));
    }
}

#[test]
fn an_error_that_panics_when_it_is_dropped_is_an_error() {
    #[derive(Debug, thiserror::Error)]
    #[error("bad")]
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("worse");
        }
    }
    for kind in Kind::ALL {
        let policy = answering(|_, _| Err(StoreError::new(Bad)));
        assert_eq!(second(&policy, kind), Full(Reason::StoreFailed));
        assert_eq!(policy.stats().store.errors, 1);
    }
}

#[test]
fn errors_that_a_store_leaves_in_openssls_queue_are_taken_out() {
    let policy = answering(|stored, key| {
        openssl::x509::X509::from_pem(b"no certificate")
            .unwrap_err()
            .put();
        Ok(honest(stored, key))
    });
    for kind in Kind::ALL {
        // `agreed` looks at the queue.
        assert_eq!(second(&policy, kind), Resumed(Source::Store));
    }
}

#[test]
fn a_store_that_stores_nothing_counts_errors_and_not_puts() {
    struct Full;
    impl SessionStore for Full {
        fn put(&self, _: &SessionKey, _: Session) -> Result<(), StoreError> {
            Err(StoreError::new("disk full"))
        }
        fn get(&self, _: &SessionKey) -> Answer {
            Ok(None)
        }
        fn remove(&self, _: &SessionKey) -> Result<(), StoreError> {
            Ok(())
        }
    }
    let policy = Resumption::stateful(Full);
    assert_eq!(second(&policy, Kind::Tls12), self::Full(Reason::NotFound));
    let store = policy.stats().store;
    assert_eq!(
        (store.puts, store.errors, store.misses, store.usage),
        (0, 2, 1, None)
    );
}

/// OpenSSL 3.0 does not compare the id of the session it gets with the one it asked for; the
/// handshake then ends with an alert.
#[test]
fn another_clients_session_is_a_full_handshake() {
    for kind in Kind::ALL {
        // The first session stored, which is the other client's.
        let policy = answering(|stored, _| Ok(stored.first().map(|(_, s)| s.clone())));
        let context = context(&policy);
        let (other, client) = (Client::new(kind).unwrap(), Client::new(kind).unwrap());
        meet(&context, &other, None);
        let first = meet(&context, &client, None);
        let met = meet(&context, &client, first.next());
        assert_eq!(met.agreed(), Full(Reason::StoreFailed), "{kind:?}");
        assert_eq!(policy.stats().store.errors, 1, "{kind:?}");
    }
}

#[test]
fn a_session_of_another_version_is_a_full_handshake() {
    for (made, asked) in [(Kind::Tls12, Kind::Tls13), (Kind::Tls13, Kind::Tls12)] {
        let policy = answering(|stored, _| Ok(stored.first().map(|(_, s)| s.clone())));
        let context = context(&policy);
        meet(&context, &Client::new(made).unwrap(), None);
        let client = Client::new(asked).unwrap();
        let first = meet(&context, &client, None);
        let met = meet(&context, &client, first.next());
        assert_eq!(
            met.agreed(),
            Full(Reason::StoreFailed),
            "{made:?} for {asked:?}"
        );
        assert_eq!(policy.stats().store.errors, 1);
    }
}

#[test]
fn a_damaged_session_is_a_full_handshake() {
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, Change); 5] = [
        ("truncated", |bytes| bytes.truncate(bytes.len() - 1)),
        ("empty", |bytes| bytes.truncate(9)),
        ("shorter than a checksum", |bytes| bytes.truncate(16)),
        ("longer", |bytes| bytes.push(0)),
        ("not DER", |bytes| bytes[9] ^= 0xff),
    ];
    for kind in Kind::ALL {
        for (what, change) in changes {
            let policy =
                answering(move |stored, key| Ok(honest(stored, key).map(|s| changed(&s, change))));
            assert_eq!(
                second(&policy, kind),
                Full(Reason::StoreFailed),
                "{kind:?} {what}"
            );
            let store = policy.stats().store;
            assert_eq!((store.hits, store.errors), (0, 1), "{kind:?} {what}");
        }
    }
}

/// A damaged secret would otherwise be noticed by the client only, and fail the connection. The second
/// damage is to two bytes in a row, such that a hash that rotates words would not notice.
#[test]
fn whatever_byte_of_a_record_is_changed_the_connection_completes() {
    for (kind, flips) in [Kind::Tls12WithoutTickets, Kind::Tls13]
        .into_iter()
        .flat_map(|kind| [(kind, [1, 0]), (kind, [0x80, 0x10])])
    {
        let at = Arc::new(AtomicUsize::new(usize::MAX));
        let len = Arc::new(AtomicUsize::new(usize::MAX));
        let (damaged, seen) = (Arc::clone(&at), Arc::clone(&len));
        let policy = answering(move |stored, key| {
            let Some(session) = honest(stored, key) else {
                return Ok(None);
            };
            seen.store(session.as_bytes().len(), Relaxed);
            let mut bytes = session.as_bytes().to_vec();
            let damaged = bytes.iter_mut().skip(damaged.load(Relaxed));
            damaged.zip(flips).for_each(|(byte, flip)| *byte ^= flip);
            Session::from_bytes(&bytes).map(Some)
        });
        let context = context(&policy);
        let client = Client::new(kind).unwrap();
        let first = meet(&context, &client, None);
        for byte in (0..).take_while(|byte| *byte < len.load(Relaxed)) {
            at.store(byte, Relaxed);
            let met = meet(&context, &client, first.next()).agreed();
            // Bytes 1 to 8 say when it ends, which may then be long ago.
            let why = match met {
                Full(Reason::Expired) if (1..9).contains(&byte) => Reason::Expired,
                _ => Reason::StoreFailed,
            };
            assert_eq!(met, Full(why), "{kind:?} byte {byte}");
        }
        assert!(len.load(Relaxed) > 100, "a record that was seen");
    }
}

/// Another thread may read it at that moment.
#[test]
fn a_session_that_the_application_has_seen_is_not_written_to() {
    let policy = Resumption::stateful(MemoryStore::default());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&seen);
    let context = context_with(&policy, |builder| {
        builder.set_keylog_callback(move |ssl, _| {
            let session = ssl.session().unwrap().to_owned();
            let der = session.to_der().unwrap();
            keep.lock().unwrap().push((session, der));
        });
    });
    for kind in [Kind::Tls12, Kind::Tls12WithoutTickets] {
        let client = Client::new(kind).unwrap();
        let first = meet(&context, &client, None);
        let met = meet(&context, &client, first.next());
        assert_eq!(met.agreed(), Resumed(Source::Store));
    }
    let seen = seen.lock().unwrap();
    assert!(seen.len() >= 2);
    for (session, der) in seen.iter() {
        assert_eq!(session.to_der().unwrap(), *der);
    }
}

/// It is what a store must not know, and 32 bytes.
#[test]
fn a_record_does_not_hold_the_id_of_its_session() {
    let stored = Arc::default();
    let context = context(&Resumption::stateful(Answering {
        stored: Arc::clone(&stored),
        answer: |stored: &[(SessionKey, Session)], key: &SessionKey| Ok(honest(stored, key)),
    }));
    let client = Client::new(Kind::Tls12WithoutTickets).unwrap();
    let first = meet(&context, &client, None);
    let session = SslSession::from_der(first.next().unwrap()).unwrap();
    let (key, record) = stored.lock().unwrap()[0].clone();
    for part in session.id().windows(8) {
        let holds = |bytes: &[u8]| bytes.windows(8).any(|window| window == part);
        assert!(!holds(record.as_bytes()) && !holds(key.as_bytes()));
    }
    let second = meet(&context, &client, first.next());
    assert_eq!(second.agreed(), Resumed(Source::Store));
}

#[test]
fn an_expired_session_is_told_from_one_that_is_not_there() {
    for kind in Kind::ALL {
        let policy = answering(|stored, key| {
            Ok(honest(stored, key).map(|s| changed(&s, |bytes| bytes[1..9].fill(0))))
        });
        assert_eq!(second(&policy, kind), Full(Reason::Expired));
        let store = policy.stats().store;
        assert_eq!((store.hits, store.misses, store.expired), (0, 0, 1));
    }
}

#[test]
fn a_slow_store_is_counted() {
    let policy = answering(|stored, key| {
        std::thread::sleep(Duration::from_millis(11));
        Ok(honest(stored, key))
    });
    assert_eq!(second(&policy, Kind::Tls13), Resumed(Source::Store));
    assert_eq!(policy.stats().store.slow, 1);
}

#[test]
fn ids_that_openssl_never_makes_do_not_reach_the_store() {
    let policy = answering(|_, _| panic!("asked for a session"));
    let context = context(&policy);
    // A TLS 1.2 client whose session has an id of one byte.
    let client = Client::new(Kind::Tls12WithoutTickets).unwrap();
    let first = meet(&context, &client, None);
    let mut session = first.next().unwrap().to_vec();
    let id = session.windows(2).position(|w| w == [4, 32]).unwrap();
    session.drain(id + 3..id + 2 + 32);
    session[id + 1] = 1;
    assert_eq!(
        session[..2],
        [0x30, 0x82],
        "a sequence with a length of two bytes"
    );
    let len = u16::try_from(session.len() - 4).unwrap();
    session[2..4].copy_from_slice(&len.to_be_bytes());
    let met = meet(&context, &client, Some(&session));
    assert_eq!(met.agreed(), Full(Reason::NotFound));
    assert_eq!(policy.stats().store.errors, 0);
}

#[test]
fn capacity_zero_is_full_handshakes() {
    let policy = Resumption::stateful(MemoryStore::new(0, 0));
    for kind in Kind::ALL {
        assert_eq!(second(&policy, kind), Full(Reason::NotFound));
    }
}

#[test]
fn boxed_and_shared_stores_are_stores() {
    let shared: Arc<dyn SessionStore> = Arc::new(MemoryStore::default());
    let policy = Resumption::stateful(Arc::clone(&shared));
    assert_eq!(second(&policy, Kind::Tls13), Resumed(Source::Store));
    let boxed: Box<dyn SessionStore> = Box::new(shared);
    assert!(boxed.takes_once());
    assert_eq!(boxed.usage().unwrap().entries, 2);
    assert_eq!(policy.stats().store.usage, boxed.usage());
}

#[test]
fn the_default_take_is_unsupported() {
    struct Map(Mutex<HashMap<SessionKey, Session>>);
    impl SessionStore for Map {
        fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
            self.0.lock().unwrap().insert(*key, session);
            Ok(())
        }
        fn get(&self, key: &SessionKey) -> Answer {
            Ok(self.0.lock().unwrap().get(key).cloned())
        }
        fn remove(&self, key: &SessionKey) -> Result<(), StoreError> {
            self.0.lock().unwrap().remove(key);
            Ok(())
        }
    }
    let map = Map(Mutex::default());
    assert!(!map.takes_once() && map.usage().is_none());
    assert!(map.take(&SessionKey::from([0; 32])).is_err());
    assert_eq!(
        second(&Resumption::stateful(map), Kind::Tls12),
        Resumed(Source::Store)
    );
}
