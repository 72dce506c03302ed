//! What is limited, and what is counted when a limit bites.

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use common::*;
use openssl::ssl::{Ssl, SslContext, SslOptions, SslVerifyMode};
use openssl_resumption::{
    Error,
    Handshake::{Full, Resumed},
    MemoryStore, Reason, Resumption, Session, SessionKey, SessionStore, Source,
    SslContextBuilderExt, StoreError, TicketKeys,
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

/// The first flight of a client with these groups.
fn hello(groups: &str) -> Vec<u8> {
    Client::with(Kind::Tls13, |c| c.set_groups_list(groups))
        .unwrap()
        .hello(None)
}

/// A vector with its length before it in `prefix` bytes.
fn vector(prefix: usize, content: &[u8]) -> Vec<u8> {
    [&content.len().to_be_bytes()[8 - prefix..], content].concat()
}

/// The hello with these stateful tickets offered as well, each with an age, and one binder for all:
/// OpenSSL looks at binders only when it has found a session.
fn offering(hello: &[u8], tickets: impl Iterator<Item = [u8; 32]>) -> Vec<u8> {
    // A record header of five bytes and a message header of four, then version and random.
    let body = &hello[9..];
    let mut at = 2 + 32;
    at += 1 + usize::from(body[at]);
    at += 2 + usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
    at += 1 + usize::from(body[at]);
    let (fixed, extensions) = (&body[..at], &body[at + 2..]);

    let identity = |ticket: [u8; 32]| [&vector(2, &ticket)[..], &[0; 4]].concat();
    let identities: Vec<u8> = tickets.flat_map(identity).collect();
    let offered = [vector(2, &identities), vector(2, &vector(1, &[0; 32]))].concat();
    let pre_shared_key = [&[0, 41][..], &vector(2, &offered)].concat();
    let extensions = vector(2, &[extensions, &pre_shared_key].concat());
    let message = [&[1][..], &vector(3, &[fixed, &extensions].concat())].concat();
    // Records hold 16 KiB at most.
    let record = |part: &[u8]| [&[22, 3, 1][..], &vector(2, part)].concat();
    message.chunks(16_000).flat_map(record).collect()
}

fn tickets(n: usize) -> impl Iterator<Item = [u8; 32]> {
    (0..n).map(|i| {
        let mut ticket = [0xaa; 32];
        ticket[..8].copy_from_slice(&i.to_be_bytes());
        ticket
    })
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
        let store = Arc::new(Counting::default());
        let policy = Resumption::stateful(Arc::clone(&store)).single_use(single_use);
        let context = context(&policy);
        let answer = send(&context, &[offering(&hello("P-256"), tickets(1_000))]);
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
    let store = Arc::new(Counting::default());
    let policy = Resumption::stateful(Arc::clone(&store));
    let mut builder = acceptor();
    builder.set_groups_list("P-384").unwrap();
    builder.set_resumption(&policy).unwrap();
    let context = builder.build().into_context();
    let hellos = ["P-256:P-384", "P-384"].map(|groups| offering(&hello(groups), tickets(1_000)));
    let answer = send(&context, &hellos);
    assert!(is_server_hello(&answer), "{:02x?}", &answer[..16]);
    assert_eq!(store.gets.load(Relaxed), 4);
}

#[test]
fn a_session_that_is_too_large_is_not_stored() {
    let ca = mint("clients", None).unwrap();
    let large = mint(&"a".repeat(60), Some(&ca)).unwrap();
    for kind in Kind::ALL {
        let store = Arc::new(Counting::default());
        let policy = Resumption::stateful(Arc::clone(&store));
        let server = |policy: &Resumption| {
            let mut builder = acceptor();
            demand_certificates(&mut builder, &ca);
            builder.set_resumption(policy).unwrap();
            builder.build().into_context()
        };
        let client = client_as(kind, &large);
        let met = meet(
            &server(&policy.clone().max_session_size(400)),
            &client,
            None,
        );
        assert_eq!(
            (policy.stats().store.puts, policy.stats().store.too_large),
            (0, 1),
            "{kind:?}"
        );
        let met = meet(&server(&policy), &client, met.next());
        assert_eq!(met.agreed(), Full(Reason::NotFound), "{kind:?}");
        assert_eq!(
            (policy.stats().store.puts, policy.stats().store.too_large),
            (1, 1),
            "{kind:?}"
        );
    }
}

/// Sealing more than 65,280 bytes is a fatal error to OpenSSL.
#[test]
fn a_client_certificate_too_large_for_a_ticket_costs_the_ticket_and_not_the_connection() {
    let ca = mint("clients", None).unwrap();
    let huge = mint_with_padding("huge", &ca, 66 * 1024);
    for (mode, policy) in modes() {
        let mut builder = acceptor();
        demand_certificates(&mut builder, &ca);
        builder.set_resumption(&policy).unwrap();
        let context = builder.build().into_context();
        let met = meet(&context, &client_as(Kind::Tls13, &huge), None);
        assert!(met.authenticated, "{mode}");
        let tickets = if mode == "stateful" { 1 } else { 0 };
        assert_eq!(met.client.sessions.len(), tickets, "{mode}");
        assert_eq!(policy.stats().tickets.sealed, 0, "{mode}");
    }
}

#[test]
fn single_use_needs_a_store_that_takes_once_and_the_stateful_mode() {
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
        Resumption::stateless(TicketKeys::random()),
        Resumption::hybrid(MemoryStore::default(), TicketKeys::random()),
        Resumption::off(),
    ];
    for policy in refused {
        let error = acceptor()
            .set_resumption(&policy.single_use(true))
            .unwrap_err();
        assert!(matches!(error, Error::SingleUse(_)), "{error}");
    }
    let policy = Resumption::stateful(MemoryStore::default()).single_use(true);
    acceptor().set_resumption(&policy).unwrap();
}

#[test]
fn a_tls_1_3_session_resumes_once_and_so_does_its_successor() {
    let store = Arc::new(Counting::default());
    let policy = Resumption::stateful(Arc::clone(&store)).single_use(true);
    let context = context(&policy);
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
    let store = Arc::new(Counting::default());
    let policy = Resumption::stateful(Arc::clone(&store)).single_use(true);
    let mut builder = acceptor();
    builder.set_groups_list("P-384").unwrap();
    builder.set_resumption(&policy).unwrap();
    let context = builder.build().into_context();
    let client = Client::with(Kind::Tls13, |c| c.set_groups_list("P-256:P-384")).unwrap();
    let met = meet(&context, &client, None);
    assert_eq!(
        meet(&context, &client, met.next()).agreed(),
        Resumed(Source::Store)
    );
    assert_eq!(store.takes.load(Relaxed), 1);
    assert_eq!(
        meet(&context, &client, met.next()).agreed(),
        Full(Reason::NotFound)
    );
}

/// A server that reads early data, though there is none, goes through the handshake in pieces.
#[test]
fn a_handshake_in_pieces_is_one_connection() {
    use openssl::ssl::SslStream;
    use openssl_resumption::SslRefExt;
    for groups in ["P-256", "P-256:P-384"] {
        let store = Arc::new(Counting::default());
        let policy = Resumption::stateful(Arc::clone(&store)).single_use(true);
        let mut builder = acceptor();
        builder
            .set_groups_list(groups.rsplit(':').next().unwrap())
            .unwrap();
        builder.set_resumption(&policy).unwrap();
        let context = builder.build().into_context();
        let client = Client::with(Kind::Tls13, |c| c.set_groups_list(groups)).unwrap();
        let connect = |session: Option<&[u8]>| {
            let (near, far) = UnixStream::pair().unwrap();
            let ssl = Ssl::new(&context).unwrap();
            let server = thread::spawn(move || {
                let mut stream = SslStream::new(ssl, far).unwrap();
                assert_eq!(stream.read_early_data(&mut [0; 8]).unwrap(), 0);
                stream.accept().unwrap();
                stream.write_all(b"hello").unwrap();
                stream.shutdown().unwrap();
                stream.ssl().resumption().unwrap().handshake
            });
            let stream = client.connect(near, session).unwrap();
            let seen = client.finish(stream).unwrap();
            (server.join().unwrap(), seen)
        };
        let (first, seen) = connect(None);
        assert_eq!(first, Full(Reason::NothingOffered), "{groups}");
        let (second, _) = connect(seen.sessions.last().map(Vec::as_slice));
        assert_eq!(second, Resumed(Source::Store), "{groups}");
        assert_eq!(store.takes.load(Relaxed), 1, "{groups}");
        assert_eq!(handshakes(&policy.stats()), (1, 1), "{groups}");
    }
}

/// With OpenSSL's replay protection off, early data would be taken as often as it is sent.
#[test]
fn early_data_switched_on_later_is_declined_and_the_connection_completes() {
    for (mode, policy) in modes().into_iter().take(3) {
        for anti_replay in [true, false] {
            let mut builder = acceptor();
            builder.set_resumption(&policy).unwrap();
            builder.set_max_early_data(1_000).unwrap();
            if !anti_replay {
                builder.set_options(SslOptions::from_bits_retain(1 << 24));
            }
            let context = builder.build().into_context();
            let client = Client::new(Kind::Tls13).unwrap();
            let before = policy.stats();
            let met = early(&context, &client, None);
            let met = early(&context, &client, met.as_deref());
            assert!(met.is_some(), "{mode} {anti_replay}");
            let stats = policy.stats();
            assert_eq!(
                stats.overridden - before.overridden,
                1,
                "{mode} {anti_replay}"
            );
            let declined = stats.early_data_declined - before.early_data_declined;
            assert_eq!(declined, u64::from(!anti_replay), "{mode} {anti_replay}");
            let all = (
                handshakes(&stats).0 + handshakes(&stats).1,
                handshakes(&before),
            );
            assert_eq!(all.0 - all.1.0 - all.1.1, 2, "{mode} {anti_replay}");
        }
    }
}

/// A connection whose client sends early data if it can and whose server reads it; the session.
fn early(context: &SslContext, client: &Client, session: Option<&[u8]>) -> Option<Vec<u8>> {
    use openssl::ssl::SslStream;
    let (near, far) = UnixStream::pair().unwrap();
    let ssl = Ssl::new(context).unwrap();
    let server = thread::spawn(move || {
        let mut stream = SslStream::new(ssl, far).unwrap();
        let mut early = [0; 100];
        let n = stream.read_early_data(&mut early).unwrap();
        assert_eq!(n, 0, "early data was taken");
        stream.accept().unwrap();
        stream.write_all(b"hello").unwrap();
        stream.shutdown().unwrap();
    });
    let mut stream = client.start(near, session).unwrap();
    if session.is_some() {
        assert_eq!(
            stream.write_early_data(b"buy").unwrap(),
            3,
            "no early data was tried"
        );
    }
    stream.connect().unwrap();
    let seen = client.finish(stream).unwrap();
    server.join().unwrap();
    seen.sessions.last().cloned()
}

#[test]
fn verify_mode_and_id_context_changed_afterwards_are_noticed_and_safe() {
    type Change = fn(&mut openssl::ssl::SslAcceptorBuilder);
    let changes: [(&str, Change); 3] = [
        ("verify mode", |b| b.set_verify(SslVerifyMode::PEER)),
        ("id context", |b| b.set_session_id_context(b"mine").unwrap()),
        ("empty id context", |b| {
            b.set_session_id_context(b"").unwrap()
        }),
    ];
    for (what, change) in changes {
        for (mode, policy) in modes() {
            let mut builder = acceptor();
            builder.set_resumption(&policy).unwrap();
            change(&mut builder);
            let context = builder.build().into_context();
            for kind in Kind::ALL {
                let client = Client::new(kind).unwrap();
                let met = meet(&context, &client, None);
                meet(&context, &client, met.next()).agreed();
            }
            assert_eq!(policy.stats().overridden, 1, "{what} {mode}");
        }
    }
}

/// OpenSSL's internal cache, or callbacks of somebody else, would resume past our checks.
#[test]
fn while_others_decide_what_resumes_nothing_does() {
    use openssl::ssl::SslSessionCacheMode;
    type Change = fn(&mut openssl::ssl::SslAcceptorBuilder);
    let changes: [(&str, Change); 2] = [
        ("internal cache", |b| {
            b.set_session_cache_mode(SslSessionCacheMode::SERVER);
        }),
        ("session callback", |b| {
            b.set_new_session_callback(|_, _| {})
        }),
    ];
    for (what, change) in changes {
        for (mode, policy) in modes() {
            let mut builder = acceptor();
            builder.set_resumption(&policy).unwrap();
            change(&mut builder);
            let context = builder.build().into_context();
            for kind in Kind::ALL {
                let client = Client::new(kind).unwrap();
                let met = meet(&context, &client, None);
                let met = meet(&context, &client, met.next());
                assert!(matches!(met.agreed(), Full(_)), "{what} {mode} {kind:?}");
            }
            assert_eq!(policy.stats().overridden, 1, "{what} {mode}");
        }
    }
}
