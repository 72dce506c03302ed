//! What is looked up ahead is what OpenSSL would ask for, whatever the ClientHello.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use openssl::ssl::{Ssl, SslContext};
use openssl_resumption::{
    Handshake::Resumed, MemoryStore, Resumption, SessionKey, Source, TicketKeys,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;

use crate::store::{Call, Watched};
use crate::{LONG, common::*, meet_async, pair, runtime, serve, session_of, watched};

/// Sends the hellos, the second one when the first is answered, and leaves; the keys that the store
/// was asked for meanwhile.
fn asked_ahead(store: &Watched, context: &SslContext, hellos: &[Vec<u8>]) -> Vec<SessionKey> {
    store.forget_calls();
    let (near, far) = pair();
    thread::scope(|scope| {
        scope.spawn(|| send(near, hellos));
        let served = runtime().block_on(serve(Ssl::new(context).unwrap(), far));
        assert!(served.is_err(), "a handshake without a client");
    });
    assert_eq!(
        store.count_here(Call::Get) + store.count_here(Call::Take),
        0
    );
    store.asked_for()
}

fn send(mut near: UnixStream, hellos: &[Vec<u8>]) {
    let (last, first) = hellos.split_last().unwrap();
    for hello in first {
        near.write_all(hello).unwrap();
        assert!(near.read(&mut [0; 16_384]).unwrap() > 0);
    }
    // The server may have found something that it does not like.
    let _ = near.write_all(last);
    let _ = near.shutdown(Shutdown::Write);
    let _ = near.read_to_end(&mut Vec::new());
}

/// What OpenSSL asks for by itself.
fn asked(store: &Watched, context: &SslContext, hellos: &[Vec<u8>]) -> Vec<SessionKey> {
    store.forget_calls();
    let (near, far) = UnixStream::pair().unwrap();
    far.set_read_timeout(Some(LONG)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| send(near, hellos));
        assert!(Ssl::new(context).unwrap().accept(far).is_err());
    });
    store.asked_for()
}

#[test]
fn four_lookups_however_many_tickets_are_offered() {
    for single_use in [false, true] {
        let (store, policy) = watched();
        let context = context(&policy.clone().single_use(single_use));
        let hello = offering("P-256", (0..1_000).map(ticket_of_nobody));
        let keys = asked_ahead(&store, &context, std::slice::from_ref(&hello));
        assert_eq!(keys.len(), 4);
        assert_eq!(policy.stats().store.capped, 996);
        assert_eq!(keys, asked(&store, &context, &[hello]));
    }
}

#[test]
fn a_ticket_that_is_offered_often_is_looked_up_once() {
    let (store, policy) = watched();
    let context = context(&policy);
    let hello = offering("P-256", [0, 0, 0, 0, 1, 0, 2].map(ticket_of_nobody));
    let keys = asked_ahead(&store, &context, std::slice::from_ref(&hello));
    assert_eq!(keys.len(), 3);
    assert_eq!(keys, asked(&store, &context, &[hello]));
}

/// The first one says where all are looked for: in the store if it has the length of a session id, and otherwise it is
/// opened.
#[test]
fn tickets_of_a_hybrid_policy_are_looked_up_if_the_first_may_name_a_session() {
    let short = ticket_of_nobody;
    let sealed = |len| vec![7; len];
    let offers = [
        (vec![short(0)], 1),
        (vec![short(0), sealed(200), short(1), short(0)], 2),
        ((0..1_000).map(short).collect(), 4),
        (vec![sealed(200), short(0)], 0),
        (vec![sealed(31), short(0)], 0),
        (vec![sealed(33), short(0)], 0),
    ];
    for (offer, expected) in offers {
        let store = Arc::new(Watched::default());
        let policy = Resumption::hybrid(Arc::clone(&store), TicketKeys::random());
        let context = context(&policy.suspend_lookups(true).lookup_deadline(LONG));
        let hello = offering("P-256", offer.clone());
        let keys = asked_ahead(&store, &context, std::slice::from_ref(&hello));
        assert_eq!(keys.len(), expected, "{offer:?}");
        assert_eq!(keys, asked(&store, &context, &[hello]), "{offer:?}");
    }
}

#[test]
fn four_lookups_in_both_hellos_of_a_hello_retry_request_together() {
    // In the second hello some are the same, and some more there are.
    for (first, second, expected) in [(1, 2..4, 3), (2, 1..3, 3), (3, 2..9, 4), (9, 5..9, 4)] {
        let (store, policy) = watched();
        let (context, _) = retrying(&policy);
        let hellos = [
            offering("P-256:P-384", (0..first).map(ticket_of_nobody)),
            offering("P-384", second.map(ticket_of_nobody)),
        ];
        let keys = asked_ahead(&store, &context, &hellos);
        assert_eq!(keys.len(), expected, "{first}");
        assert_eq!(keys, asked(&store, &context, &hellos), "{first}");
    }
}

/// The rest would be taken out of the store for nothing.
#[test]
fn nothing_is_looked_up_behind_what_was_found() {
    let (store, policy) = watched();
    let context = context(&policy.single_use(true));
    let sessions = [(); 2].map(|()| session_of(&context, Kind::Tls13));
    let tickets = sessions.each_ref().map(|session| ticket(session).to_vec());
    let offers = [&[ticket_of_nobody(0)][..], &tickets].concat();
    let keys = asked_ahead(&store, &context, &[offering("P-256", offers)]);
    assert_eq!(keys.len(), 2);
    let client = Client::new(Kind::Tls13).unwrap();
    let met = meet_async(&context, &client, Some(&sessions[1]));
    assert_eq!(met.agreed(), Resumed(Source::Store));
}

/// The client's second ticket is asked for when the first is declined, after the lookups.
#[test]
fn what_was_not_looked_up_ahead_is_not_found() {
    let (store, policy) = watched();
    let context = context(&policy);
    let shop = Client::new(Kind::Tls13)
        .unwrap()
        .server_name("shop.example");
    let shop = meet_async(&context, &shop, None);
    let session = session_of(&context, Kind::Tls13);
    let tickets = [shop.next().unwrap(), &session].map(|session| ticket(session).to_vec());
    let hello = offering("P-256", tickets);
    let keys = asked_ahead(&store, &context, std::slice::from_ref(&hello));
    assert_eq!(keys.len(), 1);
    assert_eq!(asked(&store, &context, &[hello])[..1], keys);
}

/// Changes a few bytes, mostly where lengths, versions and extensions are.
fn changed(hello: &[u8], changes: &[(Index, u8, bool)]) -> Vec<u8> {
    let mut hello = hello.to_vec();
    for (at, byte, flip) in changes {
        let at = at.index(hello.len());
        hello[at] = if *flip {
            hello[at] ^ (1 << (byte % 8))
        } else {
            *byte
        };
    }
    hello
}

/// Clients with sessions and clients with tickets, at servers of either mode.
#[test]
fn what_is_asked_ahead_is_what_openssl_asks_for() {
    for mode in ["stateful", "hybrid", "hybrid without TLS 1.2 tickets"] {
        // Empty: what is found depends on the client.
        let store = Arc::new(Watched::default());
        let policy = match mode {
            "stateful" => Resumption::stateful(Arc::clone(&store)),
            _ => Resumption::hybrid(Arc::clone(&store), TicketKeys::random()),
        };
        let policy = policy.tls12_tickets(mode == "hybrid");
        let policy = policy.suspend_lookups(true).lookup_deadline(LONG);
        let context = context(&policy);
        let other = crate::common::context(&Resumption::stateful(MemoryStore::default()));
        let tickets = crate::common::context(&Resumption::stateless(TicketKeys::random()));
        let both = |kind| Client::with(kind, |context| context.set_max_proto_version(None));
        let mut hellos = vec![
            offering("P-256", (0..6).map(ticket_of_nobody)),
            // Sealed ones among them, in front and behind.
            offering("P-256", [vec![7; 200], ticket_of_nobody(0)]),
            offering(
                "P-256",
                [ticket_of_nobody(0), vec![7; 200], ticket_of_nobody(1)],
            ),
        ];
        for kind in Kind::ALL {
            for from in [&other, &tickets] {
                let client = both(kind).unwrap();
                let session = Client::new(kind).unwrap();
                let session = meet(from, &session, None).next().map(<[u8]>::to_vec);
                hellos.push(client.hello(session.as_deref()));
                hellos.push(Client::new(kind).unwrap().hello(session.as_deref()));
            }
        }
        let asks = std::cell::Cell::new(0);
        for hello in &hellos {
            let same = |hello: &[u8]| {
                let asked = asked(&store, &context, &[hello.to_vec()]);
                let ahead = asked_ahead(&store, &context, &[hello.to_vec()]);
                // OpenSSL may end a handshake before it asks.
                if !asked.is_empty() {
                    asks.set(asks.get() + 1);
                    assert_eq!(ahead, asked, "{mode}");
                }
            };
            same(hello);
            let changes = vec((any::<Index>(), any::<u8>(), any::<bool>()), 1..4);
            let config = ProptestConfig {
                cases: 60,
                failure_persistence: None,
                ..ProptestConfig::default()
            };
            let ran = TestRunner::new(config).run(&changes, |changes| {
                same(&changed(hello, &changes));
                Ok(())
            });
            if let Err(error) = ran {
                panic!("{error}");
            }
        }
        assert!(asks.get() > 20, "nothing was asked for: {}", asks.get());
    }
}
