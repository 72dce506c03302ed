//! What is limited, and what is counted when a limit bites.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use crate::common::*;
use openssl::ssl::{
    Ssl, SslAcceptorBuilder, SslContext, SslOptions, SslSessionCacheMode, SslStream, SslVerifyMode,
};
use openssl_resumption::{
    EarlyData, Error,
    Handshake::{self, Full, Resumed},
    MemoryStore, Reason, Resumption, Session, SessionKey, SessionStore, Source,
    SslContextBuilderExt, SslRefExt, StoreError, TicketKeys,
};

/// A store that counts how it is asked.
#[derive(Default)]
struct Counting {
    store: MemoryStore,
    gets: AtomicUsize,
    takes: AtomicUsize,
}

impl SessionStore for Counting {
    fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
        self.store.put(key, session)
    }
    fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        self.gets.fetch_add(1, Relaxed);
        self.store.get(key)
    }
    fn remove(&self, key: &SessionKey) -> Result<(), StoreError> {
        self.store.remove(key)
    }
    fn take(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        self.takes.fetch_add(1, Relaxed);
        self.store.take(key)
    }
    fn takes_once(&self) -> bool {
        true
    }
}

/// A policy in the stateful mode, with its store.
fn counting() -> (Arc<Counting>, Resumption) {
    let store = Arc::new(Counting::default());
    let policy = Resumption::stateful(Arc::clone(&store));
    (store, policy)
}

/// `offering` a thousand stateful tickets.
fn hello(groups: &str) -> Vec<u8> {
    offering(groups, (0..1_000).map(ticket_of_nobody))
}

/// Sends the hellos, the second one when the first is answered, and leaves; the bytes of the
/// server's last answer.
fn send(context: &SslContext, hellos: &[Vec<u8>]) -> Vec<u8> {
    let (mut near, far) = UnixStream::pair().unwrap();
    let ssl = Ssl::new(context).unwrap();
    let server = thread::spawn(move || ssl.accept(far).is_err());
    let mut answer = vec![0; 16_384];
    for hello in hellos {
        near.write_all(hello).unwrap();
        let n = near.read(&mut answer).unwrap();
        answer.truncate(n);
    }
    near.shutdown(Shutdown::Write).unwrap();
    assert!(server.join().unwrap(), "a handshake without a client");
    answer
}

const SERVER_HELLO: [u8; 2] = [22, 2];

fn is_server_hello(answer: &[u8]) -> bool {
    [answer[0], answer[5]] == SERVER_HELLO
}

#[test]
fn four_lookups_in_a_handshake_however_many_tickets_are_offered() {
    for single_use in [false, true] {
        let (store, policy) = counting();
        let policy = policy.single_use(single_use);
        let answer = send(&context(&policy), &[hello("P-256")]);
        assert!(
            is_server_hello(&answer),
            "the hello was not understood: {:02x?}",
            &answer[..16]
        );
        assert_eq!(store.gets.load(Relaxed) + store.takes.load(Relaxed), 4);
        assert_eq!(policy.stats().store.capped, 996);
        assert_eq!(policy.stats().store.misses, 4);
    }
}

#[test]
fn four_lookups_in_both_hellos_of_a_hello_retry_request_together() {
    let (store, policy) = counting();
    let (context, _) = retrying(&policy);
    let answer = send(&context, &["P-256:P-384", "P-384"].map(hello));
    assert!(is_server_hello(&answer), "{:02x?}", &answer[..16]);
    assert_eq!(store.gets.load(Relaxed), 4);
}

/// Under a name that it does not resume for.
#[test]
fn what_a_client_offers_over_and_over_is_looked_at_once() {
    let ca = mint("clients", None).unwrap();
    for (mode, policy) in resuming() {
        let policy = policy.max_decoded(0);
        let me = mint("me", Some(&ca)).unwrap();
        let client = client_as(Kind::Tls13, &me).server_name("a.example");
        let server = demanding(&policy, &[&ca]);
        let met = meet(&server, &client, None);
        let ticket = ticket(met.next().unwrap()).to_vec();
        let before = policy.stats();
        let answer = send(&server, &[offering("P-256", vec![ticket; 60])]);
        assert!(is_server_hello(&answer), "{mode}: {:02x?}", &answer[..16]);
        let stats = policy.stats();
        let decoded = stats.store.decoded - before.store.decoded;
        assert_eq!(decoded, u64::from(mode != "stateless"), "{mode}");
        assert_eq!((stats.store.capped, stats.tickets.capped), (0, 0), "{mode}");
    }
}

#[test]
fn four_tickets_are_opened_in_a_connection_however_many_are_offered() {
    let policy = Resumption::stateless(TicketKeys::random());
    let (context, client) = retrying(&policy);
    let client = client.server_name("a.example");
    let tickets: Vec<_> = (0..6)
        .map(|_| ticket(meet(&context, &client, None).next().unwrap()).to_vec())
        .collect();
    let hellos = ["P-256:P-384", "P-384"].map(|groups| offering(groups, tickets.clone()));
    let answer = send(&context, &hellos);
    assert!(is_server_hello(&answer), "{:02x?}", &answer[..16]);
    assert_eq!(policy.stats().tickets.capped, 4, "two in each hello");
}

#[test]
fn a_session_that_is_too_large_is_not_stored() {
    let ca = mint("clients", None).unwrap();
    let large = mint(&"a".repeat(60), Some(&ca)).unwrap();
    for kind in Kind::ALL {
        let policy = Resumption::stateful(MemoryStore::default());
        let stored = || {
            let stats = policy.stats().store;
            (stats.puts, stats.too_large)
        };
        let client = client_as(kind, &large);
        let small = demanding(&policy.clone().max_session_size(400), &[&ca]);
        let met = meet(&small, &client, None);
        assert_eq!(stored(), (0, 1), "{kind:?}");
        let met = meet(&demanding(&policy, &[&ca]), &client, met.next());
        assert_eq!(met.agreed(), Full(Reason::NotFound), "{kind:?}");
        assert_eq!(stored(), (1, 1), "{kind:?}");
    }
}

/// Sealing more than 65,280 bytes is a fatal error to OpenSSL.
#[test]
fn a_client_certificate_too_large_for_a_ticket_costs_the_ticket_and_not_the_connection() {
    let ca = mint("clients", None).unwrap();
    // The second would fit alone, and not with the rest of a session.
    for padding in [66 * 1024, 64_500] {
        let huge = mint_with_padding("huge", &ca, padding);
        assert!(huge.cert.to_der().unwrap().len().abs_diff(padding) < 700);
        for (mode, policy) in modes() {
            let client = client_as(Kind::Tls13, &huge);
            let met = meet(&demanding(&policy, &[&ca]), &client, None);
            assert!(met.authenticated, "{mode}");
            // A session in the store is known to be too large when its ticket has been written.
            let tickets = match mode {
                "stateful" => 1,
                "hybrid" => 2,
                _ => 0,
            };
            assert_eq!(met.client.sessions.len(), tickets, "{mode}");
            let stats = policy.stats();
            assert_eq!((stats.tickets.sealed, stats.store.puts), (0, 0), "{mode}");
            assert_eq!(stats.store.too_large, tickets as u64, "{mode}");
            // A store with room for it is all that it takes to resume.
            let roomy = demanding(&policy.max_session_size(100_000), &[&ca]);
            let [_, second] = meet_twice(&roomy, &client);
            assert_eq!(second.client.resumed, tickets > 0, "{mode}");
        }
    }
}

#[test]
fn single_use_needs_a_store_that_takes_once() {
    struct Plain(MemoryStore);
    impl SessionStore for Plain {
        fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
            self.0.put(key, session)
        }
        fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
            self.0.get(key)
        }
        fn remove(&self, key: &SessionKey) -> Result<(), StoreError> {
            self.0.remove(key)
        }
    }
    let refused = [
        Resumption::stateful(Plain(MemoryStore::default())),
        Resumption::hybrid(Plain(MemoryStore::default()), TicketKeys::random()),
        Resumption::stateless(TicketKeys::random()),
        Resumption::off(),
    ];
    for policy in refused {
        let error = acceptor()
            .set_resumption(&policy.single_use(true))
            .unwrap_err();
        assert!(matches!(error, Error::SingleUse(_)), "{error}");
    }
    let works = [
        Resumption::stateful(MemoryStore::default()),
        Resumption::hybrid(MemoryStore::default(), TicketKeys::random()),
    ];
    for policy in works {
        acceptor().set_resumption(&policy.single_use(true)).unwrap();
    }
}

#[test]
fn a_tls_1_3_session_resumes_once_and_so_does_its_successor() {
    let (store, policy) = counting();
    let context = context(&policy.single_use(true));
    let client = Client::new(Kind::Tls13).unwrap();
    let mut met = meet(&context, &client, None);
    for _ in 0..5 {
        let next = meet(&context, &client, met.next());
        assert_eq!(next.agreed(), Resumed(Source::Store));
        assert_eq!(
            meet(&context, &client, met.next()).agreed(),
            Full(Reason::NotFound)
        );
        met = next;
    }
    assert_eq!(store.gets.load(Relaxed), 0);

    // TLS 1.2 ids are sent in clear: who saw one must not be able to use the session up.
    for kind in [Kind::Tls12, Kind::Tls12WithoutTickets] {
        let client = Client::new(kind).unwrap();
        let met = meet(&context, &client, None);
        for _ in 0..3 {
            assert_eq!(
                meet(&context, &client, met.next()).agreed(),
                Resumed(Source::Store)
            );
        }
    }
}

#[test]
fn of_many_connections_that_offer_one_session_exactly_one_resumes() {
    let policy = Resumption::stateful(MemoryStore::default()).single_use(true);
    let context = context(&policy);
    for round in 0..25 {
        let client = Client::new(Kind::Tls13).unwrap();
        let session = meet(&context, &client, None).next().unwrap().to_vec();
        let resumed: usize = thread::scope(|scope| {
            let one = || {
                let client = Client::new(Kind::Tls13).unwrap();
                usize::from(meet(&context, &client, Some(&session)).client.resumed)
            };
            let all: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
            all.into_iter().map(|each| each.join().unwrap()).sum()
        });
        assert_eq!(resumed, 1, "round {round}");
    }
}

#[test]
fn a_hello_retry_request_does_not_lose_a_session_that_was_taken() {
    let (store, policy) = counting();
    let (context, client) = retrying(&policy.single_use(true));
    let [first, second] = meet_twice(&context, &client);
    assert_eq!(second.agreed(), Resumed(Source::Store));
    assert_eq!(store.takes.load(Relaxed), 1);
    let again = meet(&context, &client, first.next());
    assert_eq!(again.agreed(), Full(Reason::NotFound));
}

/// A connection whose client sends this early data, if any, and whose server reads it and is not to
/// get it: it goes through the handshake in pieces.
fn meet_in_pieces(
    context: &SslContext,
    client: &Client,
    session: Option<&[u8]>,
    early: &[u8],
) -> (Handshake, Seen) {
    let (near, far) = UnixStream::pair().unwrap();
    let ssl = Ssl::new(context).unwrap();
    let server = thread::spawn(move || {
        let mut stream = SslStream::new(ssl, far).unwrap();
        let n = stream.read_early_data(&mut [0; 100]).unwrap();
        assert_eq!(n, 0, "early data was taken");
        stream.accept().unwrap();
        stream.write_all(b"hello").unwrap();
        stream.shutdown().unwrap();
        stream.ssl().resumption().unwrap().handshake
    });
    let mut stream = client.start(near, session).unwrap();
    if !early.is_empty() {
        let n = stream.write_early_data(early).unwrap();
        assert_eq!(n, early.len(), "no early data was tried");
    }
    stream.connect().unwrap();
    let seen = client.finish(stream).unwrap();
    (server.join().unwrap(), seen)
}

#[test]
fn a_handshake_in_pieces_is_one_connection() {
    for retry in [false, true] {
        let (store, policy) = counting();
        let policy = policy.single_use(true);
        let (context, client) = if retry {
            retrying(&policy)
        } else {
            (context(&policy), with_groups("P-256"))
        };
        let (first, seen) = meet_in_pieces(&context, &client, None, b"");
        assert_eq!(first, Full(Reason::NothingOffered), "{retry}");
        let session = seen.sessions.last().map(Vec::as_slice);
        let (second, _) = meet_in_pieces(&context, &client, session, b"");
        assert_eq!(second, Resumed(Source::Store), "{retry}");
        assert_eq!(store.takes.load(Relaxed), 1, "{retry}");
        assert_eq!(handshakes(&policy.stats()), (1, 1), "{retry}");
    }
}

/// With OpenSSL's replay protection off, early data would be taken as often as it is sent.
#[test]
fn early_data_switched_on_later_is_declined_and_the_connection_completes() {
    for anti_replay in [true, false] {
        for (mode, policy) in resuming() {
            let what = format!("{mode} {anti_replay}");
            let context = context_changed(&policy, |builder| {
                builder.set_max_early_data(1_000).unwrap();
                if !anti_replay {
                    builder.set_options(SslOptions::from_bits_retain(1 << 24));
                }
            });
            let client = Client::new(Kind::Tls13).unwrap();
            let (_, first) = meet_in_pieces(&context, &client, None, b"");
            let session = first.sessions.last().expect("a session");
            let (_, second) = meet_in_pieces(&context, &client, Some(session), b"buy");
            assert!(!second.sessions.is_empty(), "{what}");
            let stats = policy.stats();
            assert_eq!(stats.overridden, 1, "{what}");
            // With OpenSSL's own protection on its session does not resume, and it is not asked for.
            let declined = stats.early_data(EarlyData::Off);
            assert_eq!((declined, stats.early_data_offered()), (1, 1), "{what}");
            let (full, resumed) = handshakes(&stats);
            assert_eq!(full + resumed, 2, "{what}");
        }
    }
}

/// What a test changes in a server that has its policy, and what to call it.
type Change = (&'static str, fn(&mut SslAcceptorBuilder));

#[test]
fn verify_mode_and_id_context_changed_afterwards_are_noticed_and_safe() {
    let changes: [Change; 3] = [
        ("verify mode", |b| b.set_verify(SslVerifyMode::PEER)),
        ("id context", |b| b.set_session_id_context(b"mine").unwrap()),
        ("empty id context", |b| {
            b.set_session_id_context(b"").unwrap()
        }),
    ];
    for (what, change) in changes {
        for (mode, policy) in modes() {
            let context = context_changed(&policy, change);
            for kind in Kind::ALL {
                let [_, met] = meet_twice(&context, &Client::new(kind).unwrap());
                met.agreed();
            }
            assert_eq!(policy.stats().overridden, 1, "{what} {mode}");
        }
    }
}

/// OpenSSL's internal cache, or callbacks of somebody else, would resume past our checks.
#[test]
fn while_others_decide_what_resumes_nothing_does() {
    let changes: [Change; 2] = [
        ("internal cache", |b| {
            b.set_session_cache_mode(SslSessionCacheMode::SERVER);
        }),
        ("session callback", |b| {
            b.set_new_session_callback(|_, _| {})
        }),
    ];
    for (what, change) in changes {
        for (mode, policy) in modes() {
            let context = context_changed(&policy, change);
            for kind in Kind::ALL {
                let [_, met] = meet_twice(&context, &Client::new(kind).unwrap());
                assert!(matches!(met.agreed(), Full(_)), "{what} {mode} {kind:?}");
            }
            assert_eq!(policy.stats().overridden, 1, "{what} {mode}");
        }
    }
}
