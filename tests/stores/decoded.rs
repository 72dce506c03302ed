//! Sessions of clients with a certificate, which are kept decoded beside the store.

use std::sync::Arc;
use std::thread;

use openssl_resumption::{
    Handshake::{Full, Resumed},
    MemoryStore, Reason, Resumption, Session, SessionKey, SessionStore, Source, StoreError,
};
use parking_lot::Mutex;

use crate::common::*;

const FROM_STORE: openssl_resumption::Handshake = Resumed(Source::Store);

#[test]
fn a_session_with_a_certificate_is_decoded_only_if_it_is_not_kept() {
    let (ca, me) = ca_and_client();
    for kind in Kind::ALL {
        for (limit, decoded) in [(Resumption::DEFAULT_MAX_DECODED, 0), (0, 3)] {
            let policy = Resumption::stateful(MemoryStore::default()).max_decoded(limit);
            let context = demanding(&policy, &[&ca]);
            let client = client_as(kind, &me);
            let mut met = meet(&context, &client, None);
            for _ in 0..3 {
                let session = met.next().unwrap().to_vec();
                met = meet(&context, &client, Some(&session));
                assert_eq!(met.agreed(), FROM_STORE, "{kind:?}");
                assert!(met.authenticated, "{kind:?}");
                if met.next().is_none() {
                    met.client.sessions.push(session);
                }
            }
            assert_eq!(policy.stats().store.decoded, decoded, "{kind:?} {limit}");
        }
    }
}

/// OpenSSL marks the session of a connection that ends without a shutdown as not resumable.
#[test]
fn what_a_connection_does_to_its_session_stays_with_it() {
    let (ca, me) = ca_and_client();
    for kind in Kind::ALL {
        let policy = Resumption::stateful(MemoryStore::default());
        let context = demanding(&policy, &[&ca]);
        let client = client_as(kind, &me);
        let first = meet(&context, &client, None);
        for _ in 0..3 {
            let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
            let ssl = openssl::ssl::Ssl::new(&context).unwrap();
            let server = thread::spawn(move || drop(ssl.accept(far).unwrap()));
            drop(client.connect(near, first.next()).unwrap());
            server.join().unwrap();
            let met = meet(&context, &client, first.next());
            assert_eq!(met.agreed(), FROM_STORE, "{kind:?}");
        }
        assert_eq!(policy.stats().store.decoded, 0);
    }
}

/// Answers with what is in the slot: a store that loses sessions, or finds others.
#[derive(Default)]
struct Slot(Mutex<Option<Session>>);

impl SessionStore for Slot {
    fn put(&self, _: &SessionKey, session: Session) -> Result<(), StoreError> {
        *self.0.lock() = Some(session);
        Ok(())
    }

    fn get(&self, _: &SessionKey) -> Result<Option<Session>, StoreError> {
        Ok(self.0.lock().clone())
    }

    fn remove(&self, _: &SessionKey) -> Result<(), StoreError> {
        Ok(())
    }
}

#[test]
fn what_the_store_no_longer_has_or_has_otherwise_does_not_resume() {
    let (ca, me) = ca_and_client();
    for kind in Kind::ALL {
        let store = Arc::new(Slot::default());
        let policy = Resumption::stateful(Arc::clone(&store));
        let context = demanding(&policy, &[&ca]);
        let client = client_as(kind, &me);
        let first = meet(&context, &client, None);
        let record = store.0.lock().take();
        let bytes = record.as_ref().unwrap().as_bytes().to_vec();

        let gone = meet(&context, &client, first.next());
        assert_eq!(gone.agreed(), Full(Reason::NotFound), "{kind:?}");
        let other = store.0.lock().clone();
        assert!(other.is_some_and(|other| other.as_bytes() != bytes));
        let met = meet(&context, &client, first.next());
        assert_eq!(met.agreed(), Full(Reason::StoreFailed), "{kind:?}");

        let mut changed = bytes.clone();
        *changed.last_mut().unwrap() ^= 1;
        *store.0.lock() = Some(Session::from_bytes(&changed).unwrap());
        let met = meet(&context, &client, first.next());
        assert_eq!(met.agreed(), Full(Reason::StoreFailed), "{kind:?}");

        *store.0.lock() = record;
        let met = meet(&context, &client, first.next());
        assert_eq!(met.agreed(), FROM_STORE, "{kind:?}");
    }
}

#[test]
fn sessions_of_many_threads_resume_at_once() {
    let (ca, me) = ca_and_client();
    let policy = Resumption::stateful(MemoryStore::default());
    let context = demanding(&policy, &[&ca]);
    // TLS 1.2 sessions stay: all offer the same.
    let made = meet(&context, &client_as(Kind::Tls12, &me), None);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let client = client_as(Kind::Tls12, &me);
                for _ in 0..25 {
                    let met = meet(&context, &client, made.next());
                    assert_eq!(met.agreed(), FROM_STORE);
                }
            });
        }
    });
    assert_eq!(policy.stats().store.decoded, 0);
}

/// A session keeps the client's own certificate only, wherever it was kept meanwhile.
#[test]
fn a_resumed_connection_has_no_chain() {
    let (ca, _) = ca_and_client();
    let middle = mint("middle", Some(&ca)).unwrap();
    let client = Client::with(Kind::Tls13, |context| {
        let me = mint("me", Some(&ca))?;
        context.set_certificate(&me.cert)?;
        context.set_private_key(&me.key)?;
        context.add_extra_chain_cert(middle.cert.clone())
    })
    .unwrap();
    let policy = Resumption::stateful(MemoryStore::default());
    let context = demanding(&policy, &[&ca]);
    let [_, second] = meet_twice(&context, &client);
    assert_eq!(second.agreed(), FROM_STORE);
    assert_eq!(policy.stats().store.decoded, 1, "the first was not kept");
    let third = meet(&context, &client, second.next());
    assert_eq!(third.agreed(), FROM_STORE);
    assert_eq!(policy.stats().store.decoded, 1, "the second was");
}
