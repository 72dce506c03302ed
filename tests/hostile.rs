//! Whatever clients and stores come up with: a full handshake, or a failure that only the client at
//! fault sees, and never a session that was not to be resumed.
//!
//! Both ends run on one thread, over memory: what arrives when is for the test to say, and a panic
//! that the library catches is noticed.

mod common;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;
use std::sync::{Arc, Once};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::*;
use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sha::sha256;
use openssl::sign::Signer;
use openssl::ssl::{
    HandshakeError, MidHandshakeSslStream, Ssl, SslAcceptorBuilder, SslContext, SslStream,
    SslVerifyMode,
};
use openssl::symm::{Cipher, decrypt, encrypt};
use openssl_resumption::{
    Handshake::{self, Full, Resumed},
    KeyError, KeySet, KeySource, MemoryStore, Reason, Resumption, Session, SessionKey,
    SessionStore, Source, SslContextBuilderExt, SslRefExt, StoreError, TicketKey, TicketKeys,
};
use parking_lot::Mutex;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;

// ---- Both ends on one thread

/// One direction of a connection.
#[derive(Debug, Clone, Default)]
struct Pipe(Rc<RefCell<VecDeque<u8>>>);

impl Pipe {
    fn take(&self) -> Vec<u8> {
        self.0.take().into()
    }

    fn push(&self, bytes: &[u8]) {
        self.0.borrow_mut().extend(bytes);
    }
}

/// One end of a connection.
#[derive(Debug, Default)]
struct End {
    from: Pipe,
    to: Pipe,
    /// Whether nothing will come any more.
    closed: Rc<Cell<bool>>,
}

impl Read for End {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.from.0.borrow_mut().read(buf)? {
            0 if !self.closed.get() => Err(ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }
}

impl Write for End {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.to.push(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A client or a server, and how far it has come.
enum Party {
    Shaking(MidHandshakeSslStream<End>),
    Done(SslStream<End>),
    Failed(String),
}

impl Party {
    fn from(result: Result<SslStream<End>, HandshakeError<End>>) -> Self {
        match result {
            Ok(stream) => Self::Done(stream),
            Err(HandshakeError::WouldBlock(shaking)) => Self::Shaking(shaking),
            Err(error) => Self::Failed(error.to_string()),
        }
    }

    /// Does what can be done with what has arrived.
    fn go_on(self) -> Self {
        match self {
            Self::Shaking(shaking) => Self::from(shaking.handshake()),
            other => other,
        }
    }

    fn failure(&self) -> String {
        match self {
            Self::Shaking(_) => "still waiting".into(),
            Self::Done(_) => "fine".into(),
            Self::Failed(error) => error.clone(),
        }
    }
}

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// A server that counts its handshakes, to compare with the policy's own count.
struct Server {
    policy: Resumption,
    context: SslContext,
    completed: Cell<u64>,
}

impl Server {
    fn new(policy: &Resumption) -> Self {
        Self::with(policy, |_| ())
    }

    fn with(policy: &Resumption, adjust: impl FnOnce(&mut SslAcceptorBuilder)) -> Self {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                PANICS.set(PANICS.get() + 1);
                before(panic);
            }));
        });
        let mut builder = acceptor();
        adjust(&mut builder);
        builder.set_resumption(policy).unwrap();
        let stats = policy.stats().handshakes();
        Self {
            policy: policy.clone(),
            context: builder.build().into_context(),
            completed: Cell::new(stats.full + stats.resumed),
        }
    }

    /// A connection that must succeed.
    #[track_caller]
    fn meet(&self, client: &Client, session: Option<&[u8]>) -> Met {
        match self.try_meet(client, session) {
            Ok(met) => met,
            Err(failure) => panic!("{failure}"),
        }
    }

    #[track_caller]
    fn try_meet(&self, client: &Client, session: Option<&[u8]>) -> Result<Met, String> {
        self.meet_over(client, session, |hello| vec![hello])
    }

    /// A connection whose ClientHello, one record, arrives as `network` says, in pieces: each is
    /// read before the next is there.
    #[track_caller]
    fn meet_over(
        &self,
        client: &Client,
        session: Option<&[u8]>,
        network: impl FnOnce(Vec<u8>) -> Vec<Vec<u8>>,
    ) -> Result<Met, String> {
        let panics = PANICS.get();
        let (mut near, far) = (End::default(), End::default());
        let (sent, arrives) = (near.to.clone(), far.from.clone());
        near.from = far.to.clone();
        let closed = Rc::clone(&far.closed);
        let mut server = Party::from(Ssl::new(&self.context).unwrap().accept(far));
        let mut client_side = Party::from(client.connect(near, session));
        for piece in network(sent.take()) {
            arrives.push(&piece);
            server = server.go_on();
        }
        loop {
            client_side = client_side.go_on();
            let flight = sent.take();
            if flight.is_empty() {
                break;
            }
            arrives.push(&flight);
            server = server.go_on();
        }
        closed.set(true);
        let server = match server.go_on() {
            Party::Done(stream) => stream,
            failed => {
                self.check(panics);
                let failures = (client_side.failure(), failed.failure());
                return Err(format!("client: {}; server: {}", failures.0, failures.1));
            }
        };
        self.completed.set(self.completed.get() + 1);
        let met = finish(client, client_side, server);
        self.check(panics);
        met
    }

    /// A client that sends these bytes and leaves: its connection fails, and nothing else.
    #[track_caller]
    fn hear(&self, bytes: &[u8]) {
        let panics = PANICS.get();
        let end = End::default();
        end.closed.set(true);
        end.from.push(bytes);
        let server = Party::from(Ssl::new(&self.context).unwrap().accept(end));
        assert!(matches!(server, Party::Failed(_)), "{}", server.failure());
        drop(server);
        self.check(panics);
    }

    /// Whether what was counted adds up, and nothing has panicked since: the library would have
    /// caught it.
    #[track_caller]
    fn check(&self, panics: u32) {
        let stats = self.policy.stats();
        let full: u64 = Reason::ALL.iter().map(|reason| stats.full(*reason)).sum();
        let resumed: u64 = Source::ALL
            .iter()
            .map(|source| stats.resumed(*source))
            .sum();
        assert_eq!(handshakes(&stats), (full, resumed), "{stats:?}");
        assert_eq!(full + resumed, self.completed.get(), "{stats:?}");
        assert_eq!(PANICS.get(), panics, "something panicked");
    }

    /// A new client of this server, with a session.
    #[track_caller]
    fn guest(&self, kind: Kind) -> Guest<'_> {
        let client = Client::new(kind).unwrap().server_name("shop.example");
        let session = self.meet(&client, None).next().unwrap().to_vec();
        let hello = hello(&client, Some(&session));
        Guest {
            server: self,
            kind,
            client,
            session,
            hello,
        }
    }
}

/// The server says hello and both close.
fn finish(client: &Client, client_side: Party, mut server: SslStream<End>) -> Result<Met, String> {
    server.write_all(b"hello").unwrap();
    server.shutdown().unwrap();
    let outcome = server.ssl().resumption();
    let server_reused = server.ssl().session_reused();
    let authenticated = server.ssl().peer_certificate().is_some();
    drop(server);
    match client_side {
        Party::Done(stream) => Ok(Met {
            client: client.finish(stream).map_err(|e| e.to_string())?,
            outcome,
            server_reused,
            authenticated,
            errors: ErrorStack::get().errors().len(),
        }),
        failed => Err(format!("client: {}; server: fine", failed.failure())),
    }
}

/// A client that has a session, and what is done in its name.
struct Guest<'a> {
    server: &'a Server,
    kind: Kind,
    client: Client,
    session: Vec<u8>,
    /// A ClientHello that offers the session.
    hello: Vec<u8>,
}

impl Guest<'_> {
    /// Offers the session with another ticket in it.
    #[track_caller]
    fn offer(&self, ticket: &[u8]) -> Result<Handshake, String> {
        let session = with_field(&self.session, TICKET, Some(ticket));
        let met = self.server.try_meet(&self.client, Some(&session))?;
        Ok(met.agreed())
    }

    fn ticket(&self) -> &[u8] {
        &self.session[field(&self.session, TICKET).unwrap()]
    }

    /// Whatever has happened: whose session it is resumes it.
    #[track_caller]
    fn still_resumes(&self) {
        let met = self.server.meet(&self.client, Some(&self.session));
        assert!(matches!(met.agreed(), Resumed(_)), "{:?}", self.kind);
    }
}

/// The ClientHello of this client: one record.
fn hello(client: &Client, session: Option<&[u8]>) -> Vec<u8> {
    let end = End::default();
    let sent = end.to.clone();
    let _waiting = client.connect(end, session);
    let hello = sent.take();
    assert_eq!(hello, record(&hello[5..]), "one record");
    hello
}

/// A handshake record, as a client sends its first.
fn record(body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&[22, 3, 1, len[0], len[1]], body].concat()
}

/// Checks `cases` random values.
#[track_caller]
fn for_all<S: Strategy>(cases: u32, values: S, check: impl Fn(S::Value)) {
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let ran = TestRunner::new(config).run(&values, |value| {
        check(value);
        Ok(())
    });
    if let Err(error) = ran {
        panic!("{error}");
    }
}

// ---- Sessions taken apart

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len()).unwrap().to_be_bytes();
    let header = match content.len() {
        0..0x80 => vec![tag, len[1]],
        0x80..0x100 => vec![tag, 0x81, len[1]],
        _ => vec![tag, 0x82, len[0], len[1]],
    };
    [&header, content].concat()
}

/// The tag and content of what `der` begins with, and the rest.
fn element(der: &[u8]) -> (u8, &[u8], &[u8]) {
    let (at, size) = match der[1] {
        0x81 => (2, 1),
        0x82 => (2, 2),
        _ => (1, 1),
    };
    let (len, rest) = der[at..].split_at(size);
    let len = len
        .iter()
        .fold(0, |len, byte| len << 8 | usize::from(*byte));
    (der[0], &rest[..len], &rest[len..])
}

/// The elements of a session, as tag and content.
fn elements(der: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut rest = element(der).1;
    let mut elements = Vec::new();
    while !rest.is_empty() {
        let (tag, content, after) = element(rest);
        elements.push((tag, content.to_vec()));
        rest = after;
    }
    elements
}

fn assembled(elements: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let body: Vec<_> = elements
        .iter()
        .map(|(tag, content)| tlv(*tag, content))
        .collect();
    tlv(0x30, &body.concat())
}

/// The session with another content in one of the fields without a tag of their own: version of the
/// format, version of TLS, cipher, id and secret.
fn with_plain(der: &[u8], n: usize, content: &[u8]) -> Vec<u8> {
    let mut elements = elements(der);
    elements[n].1 = content.to_vec();
    assembled(&elements)
}

/// The session with this in its field `[n]`, or without the field.
fn with_element(der: &[u8], n: u8, content: Option<Vec<u8>>) -> Vec<u8> {
    let mut elements = elements(der);
    elements.retain(|(tag, _)| *tag != 0xa0 | n);
    elements.extend(content.map(|content| (0xa0 | n, content)));
    // Stable: the fields without a tag of their own come first and keep their order.
    elements.sort_by_key(|(tag, _)| if *tag < 0xa0 { 0 } else { *tag });
    assembled(&elements)
}

fn with_field(der: &[u8], n: u8, bytes: Option<&[u8]>) -> Vec<u8> {
    with_element(der, n, bytes.map(|bytes| tlv(4, bytes)))
}

fn with_number(der: &[u8], n: u8, number: u64) -> Vec<u8> {
    let bytes = [&[0], &number.to_be_bytes()[..]].concat();
    // As short as the sign allows.
    let start = (0..8)
        .find(|at| bytes[*at] != 0 || bytes[at + 1] >= 0x80)
        .unwrap_or(8);
    with_element(der, n, Some(tlv(2, &bytes[start..])))
}

const CIPHER_SUITE: usize = 2;
const ID: usize = 3;
const SECRET: usize = 4;
const TIME: u8 = 1;
const TIMEOUT: u8 = 2;
const ID_CONTEXT: u8 = 4;
const STAMP: u8 = 18;
/// No version of OpenSSL has as many fields.
const LATER: u8 = 29;

#[test]
fn sessions_survive_being_taken_apart() {
    let server = Server::new(&Resumption::stateless(known()));
    for kind in [Kind::Tls12, Kind::Tls13] {
        let guest = server.guest(kind);
        for der in [&guest.session, &open(guest.ticket())] {
            assert_eq!(assembled(&elements(der)), *der);
            assert_eq!(with_element(der, LATER, None), *der);
            let stamp = field(der, STAMP).map(|at| der[at].to_vec());
            assert_eq!(with_field(der, STAMP, stamp.as_deref()), *der);
        }
        let der = open(guest.ticket());
        let time = |der: &[u8]| {
            let bytes = &der[field(der, TIME).unwrap()];
            bytes
                .iter()
                .fold(0, |time, byte| time << 8 | u64::from(*byte))
        };
        assert_eq!(with_number(&der, TIME, time(&der)), der);
        for other in [0, 1, 0x7f, 0x80, 0xffff, u64::MAX] {
            assert_eq!(time(&with_number(&der, TIME, other)), other);
        }
        assert_eq!(guest.offer(&seal(&der)), Ok(Resumed(Source::Ticket)));
    }
}

// ---- Tickets sealed by the test

const NAME: [u8; 16] = [7; 16];
const AES: [u8; 32] = [8; 32];
const HMAC: [u8; 32] = [9; 32];

/// A ring of one key, which the test has too.
fn known() -> TicketKeys {
    struct Known;
    impl KeySource for Known {
        fn load(&self, now: SystemTime) -> Result<KeySet, KeyError> {
            let key = TicketKey::new(NAME, &AES, &HMAC);
            Ok(KeySet::new(
                key,
                Vec::new(),
                now + Duration::from_secs(3_600),
            ))
        }
    }
    TicketKeys::from_source(Known)
}

fn seal(session: &[u8]) -> Vec<u8> {
    seal_with(&AES, &HMAC, session)
}

/// A ticket: name, IV, what is sealed, and a MAC over all of it.
fn seal_with(aes: &[u8], hmac: &[u8], session: &[u8]) -> Vec<u8> {
    let iv = [0x1f; 16];
    let sealed = encrypt(Cipher::aes_256_cbc(), aes, Some(&iv), session).unwrap();
    with_mac(hmac, &[&NAME[..], &iv, &sealed].concat())
}

fn with_mac(hmac: &[u8], bytes: &[u8]) -> Vec<u8> {
    let key = PKey::hmac(hmac).unwrap();
    let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
    let mac = signer.sign_oneshot_to_vec(bytes).unwrap();
    [bytes, &mac].concat()
}

/// The session in a ticket.
fn open(ticket: &[u8]) -> Vec<u8> {
    let (head, _mac) = ticket.split_at(ticket.len() - 32);
    decrypt(
        Cipher::aes_256_cbc(),
        &AES,
        Some(&head[16..32]),
        &head[32..],
    )
    .unwrap()
}

/// Clients that take tickets, each with a session, on a server whose key is known.
fn with_tickets(check: impl Fn(&Guest<'_>)) {
    let [_, (_, stateless), (_, hybrid)] = related();
    let servers = [
        (Kind::Tls12, &stateless),
        // Where a ticket that is declined must not lead to a session in the store.
        (Kind::Tls12, &hybrid),
        (Kind::Tls13, &stateless),
    ];
    for (kind, policy) in servers {
        let server = Server::new(policy);
        let guest = server.guest(kind);
        check(&guest);
        guest.still_resumes();
        let store = policy.stats().store;
        assert_eq!((store.hits, store.errors), (0, 0));
    }
}

#[test]
fn whatever_bit_of_a_ticket_is_changed_the_handshake_is_full() {
    with_tickets(|guest| {
        let mut ticket = guest.ticket().to_vec();
        for bit in 0..ticket.len() * 8 {
            ticket[bit / 8] ^= 1 << (bit % 8);
            let why = if bit < 128 {
                Reason::UnknownKey
            } else {
                Reason::Malformed
            };
            assert_eq!(guest.offer(&ticket), Ok(Full(why)), "bit {bit}");
            ticket[bit / 8] ^= 1 << (bit % 8);
        }
    });
}

#[test]
fn whatever_the_length_of_a_ticket_becomes_the_handshake_is_full() {
    with_tickets(|guest| {
        let ticket = guest.ticket();
        // Without a ticket there is the id, which in hybrid mode is looked up.
        let none = guest.offer(b"").unwrap();
        assert!(
            [Reason::NothingOffered, Reason::NotFound]
                .map(Full)
                .contains(&none)
        );
        for len in 1..ticket.len() {
            let cut = guest.offer(&ticket[..len]);
            assert_eq!(cut, Ok(Full(Reason::Malformed)), "{len} bytes");
            let unnamed = guest.offer(&ticket[ticket.len() - len..]);
            let why = if len < 32 {
                Reason::Malformed
            } else {
                Reason::UnknownKey
            };
            assert_eq!(unnamed, Ok(Full(why)), "the last {len} bytes");
        }
        for more in (1..64).chain([256, 1_000, 10_000]) {
            let longer = [ticket, &vec![0; more]].concat();
            let outcome = guest.offer(&longer);
            assert_eq!(outcome, Ok(Full(Reason::Malformed)), "{more} bytes more");
        }
    });
}

#[test]
fn a_ticket_under_the_right_name_needs_the_right_mac() {
    with_tickets(|guest| {
        let session = open(guest.ticket());
        let ticket = seal(&session);
        let end = ticket.len() - 32;
        assert_eq!(guest.offer(&ticket), Ok(Resumed(Source::Ticket)));
        let forged = [
            ("another key", seal_with(&AES, &[10; 32], &session)),
            ("no key", seal_with(&AES, &[0; 32], &session)),
            ("the other key", seal_with(&AES, &AES, &session)),
            ("zeros", [&ticket[..end], &[0; 32]].concat()),
            ("no MAC", ticket[..end].to_vec()),
            ("a MAC twice", [&ticket[..], &ticket[end..]].concat()),
            ("without the name", {
                let rest = with_mac(&HMAC, &ticket[16..end]);
                [&NAME, &rest[..]].concat()
            }),
            ("of the session", {
                let mac = with_mac(&HMAC, &session);
                [&ticket[..end], &mac[session.len()..]].concat()
            }),
        ];
        for (what, ticket) in forged {
            assert_eq!(guest.offer(&ticket), Ok(Full(Reason::Malformed)), "{what}");
        }
        for_all(32, vec(any::<u8>(), 0..400), |rest| {
            let ticket = [&NAME, &rest[..]].concat();
            assert_eq!(guest.offer(&ticket), Ok(Full(Reason::Malformed)));
        });
    });
}

/// What a session is not.
fn no_sessions(session: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let cuts = (0..session.len()).map(|len| ("cut", session[..len].to_vec()));
    [
        ("zeros", vec![0; 200]),
        ("an empty sequence", tlv(0x30, b"")),
        ("a certificate", identity().cert.to_der().unwrap()),
        ("a byte more", [session, &[0]].concat()),
        ("two sessions", [session, session].concat()),
        ("no format version", with_plain(session, 0, &[])),
        ("a later format", with_plain(session, 0, &[2])),
        (
            "a field of a later OpenSSL",
            with_field(session, LATER, Some(b"new")),
        ),
        (
            "a cipher of no length",
            with_plain(session, CIPHER_SUITE, &[]),
        ),
        ("an id too long", with_plain(session, ID, &[1; 33])),
    ]
    .into_iter()
    .chain(cuts)
    .collect()
}

/// Sessions that are not ours or not for this time and place, and why.
fn strange_sessions(session: &[u8], kind: Kind) -> Vec<(&'static str, Vec<u8>, Reason)> {
    let other_version = [3, if kind == Kind::Tls13 { 3 } else { 4 }];
    let ago = |seconds| now() - seconds;
    let dated = |session: &[u8], time: u64| {
        stamped(session, |stamp| {
            stamp[2..10].copy_from_slice(&time.to_be_bytes())
        })
    };
    let day = Resumption::DEFAULT_LIFETIME.as_secs();
    let endless = with_number(&with_number(session, TIME, now()), TIMEOUT, 1 << 30);
    let stamp = |bytes| with_field(session, STAMP, bytes);
    let context = |bytes| with_field(session, ID_CONTEXT, bytes);
    let version = |bytes: &[u8]| with_plain(session, 1, bytes);
    let time = |time| with_number(session, TIME, time);
    [
        ("no stamp", stamp(None), Reason::NoStamp),
        ("an empty stamp", stamp(Some(b"")), Reason::NoStamp),
        (
            "the data of another product",
            stamp(Some(b"nginx")),
            Reason::NoStamp,
        ),
        ("no context", context(None), Reason::WrongContext),
        ("an empty context", context(Some(b"")), Reason::WrongContext),
        (
            "another context",
            context(Some(&[1; 32])),
            Reason::WrongContext,
        ),
        (
            "the other version",
            version(&other_version),
            Reason::WrongContext,
        ),
        ("an old version", version(&[3, 1]), Reason::WrongContext),
        ("made in 1970", time(1), Reason::Expired),
        ("made yesterday", time(ago(day)), Reason::Expired),
        ("an old stamp", dated(session, ago(day)), Reason::Expired),
        (
            "an old stamp in a session without end",
            dated(&endless, ago(day)),
            Reason::Expired,
        ),
        (
            "another name",
            stamped(session, |stamp| stamp[25] ^= 1),
            Reason::OtherBinding,
        ),
    ]
    .into()
}

#[test]
fn what_is_no_session_does_not_resume_even_if_sealed_with_our_key() {
    with_tickets(|guest| {
        let session = open(guest.ticket());
        let head = [&NAME[..], &[0x1f; 16]].concat();
        let mut tickets = vec![
            ("no block", with_mac(&HMAC, &head)),
            (
                "part of a block",
                with_mac(&HMAC, &[&head[..], &[1; 15]].concat()),
            ),
            (
                "no padding",
                with_mac(&HMAC, &[&head[..], &[17; 32]].concat()),
            ),
            ("another AES key", seal_with(&[1; 32], &HMAC, &session)),
        ];
        let sealed = no_sessions(&session).into_iter();
        tickets.extend(sealed.map(|(what, bytes)| (what, seal(&bytes))));
        for (what, ticket) in tickets {
            assert_eq!(guest.offer(&ticket), Ok(Full(Reason::Malformed)), "{what}");
        }
        for_all(64, vec(any::<u8>(), 0..400), |garbage| {
            assert_eq!(guest.offer(&seal(&garbage)), Ok(Full(Reason::Malformed)));
        });
    });
}

#[test]
fn a_strange_session_does_not_resume_even_if_sealed_with_our_key() {
    with_tickets(|guest| {
        let session = open(guest.ticket());
        for (what, strange, why) in strange_sessions(&session, guest.kind) {
            assert_eq!(guest.offer(&seal(&strange)), Ok(Full(why)), "{what}");
        }
    });
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// The session with its stamp changed.
fn stamped(session: &[u8], change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut stamp = session[field(session, STAMP).unwrap()].to_vec();
    change(&mut stamp);
    with_field(session, STAMP, Some(&stamp))
}

/// A client with another secret than its session's ends its connection, and nobody else's.
#[test]
fn another_secret_in_a_ticket_is_a_failed_connection() {
    with_tickets(|guest| {
        let session = open(guest.ticket());
        let secret = &elements(&session)[SECRET].1;
        let others = [
            vec![0; secret.len()],
            secret.iter().map(|byte| byte ^ 1).collect(),
        ];
        for other in others {
            let sealed = seal(&with_plain(&session, SECRET, &other));
            assert!(guest.offer(&sealed).is_err());
        }
    });
}

#[test]
fn a_sealed_session_with_any_byte_changed_resumes_as_it_is_or_not_at_all() {
    with_tickets(|guest| {
        let session = open(guest.ticket());
        let secret = elements(&session)[SECRET].1.clone();
        let context = session[field(&session, ID_CONTEXT).unwrap()].to_vec();
        let stamp = session[field(&session, STAMP).unwrap()].to_vec();
        let change = (any::<Index>(), 1..=255_u8);
        for_all(300, vec(change, 1..4), |changes| {
            let mut other = session.clone();
            for (at, mask) in changes {
                other[at.index(session.len())] ^= mask;
            }
            // Completes, or fails by this client's Finished or binder.
            if let Ok(Resumed(_)) = guest.offer(&seal(&other)) {
                // All but a time, a flag or the like is as it was.
                let has = |part: &[u8]| other.windows(part.len()).any(|window| window == part);
                assert!(has(&secret) && has(&context) && has(&stamp[10..26]));
            }
        });
    });
}

/// What may stand in a stamp's place.
fn stamp_like(own: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let flipped = (Just(own.clone()), any::<Index>(), 0..8_u8).prop_map(|(mut stamp, at, bit)| {
        let at = at.index(stamp.len());
        stamp[at] ^= 1 << bit;
        stamp
    });
    let resized =
        (Just(own.clone()), 0..70_usize, any::<u8>()).prop_map(|(mut stamp, len, fill)| {
            stamp.resize(len, fill);
            stamp
        });
    let retimed = (Just(own.clone()), 0..200_000_u64, any::<bool>()).prop_map(
        |(mut stamp, seconds, future)| {
            let time = if future {
                now() + seconds
            } else {
                now() - seconds
            };
            stamp[2..10].copy_from_slice(&time.to_be_bytes());
            stamp
        },
    );
    let with_authority = (Just(own), vec(any::<u8>(), 16))
        .prop_map(|(stamp, authority)| [stamp, authority].concat());
    prop_oneof![
        3 => flipped,
        3 => resized,
        2 => retimed,
        1 => with_authority,
        3 => vec(any::<u8>(), 0..70),
    ]
}

#[test]
fn only_a_whole_stamp_of_this_name_and_lifetime_resumes() {
    with_tickets(|guest| {
        let session = open(guest.ticket());
        let own = session[field(&session, STAMP).unwrap()].to_vec();
        let day = Resumption::DEFAULT_LIFETIME.as_secs();
        for_all(300, stamp_like(own.clone()), |stamp| {
            let ticket = seal(&with_field(&session, STAMP, Some(&stamp)));
            let outcome = guest.offer(&ticket);
            let is_whole = [26, 42].contains(&stamp.len()) && stamp[0] == 1 && stamp[1] <= 1;
            let is_ours = is_whole && stamp[10..26] == own[10..26];
            let time = |stamp: &[u8]| u64::from_be_bytes(stamp[2..10].try_into().unwrap());
            let from_now = if is_whole {
                time(&stamp).abs_diff(now())
            } else {
                0
            };
            if from_now.abs_diff(day) <= 2 {
                // The clock may have ticked.
            } else if is_ours && from_now < day {
                assert_eq!(outcome, Ok(Resumed(Source::Ticket)), "{stamp:02x?}");
            } else {
                assert!(matches!(outcome, Ok(Full(_))), "{outcome:?} {stamp:02x?}");
            }
        });
    });
}

// ---- Sessions from elsewhere

/// Where a session of this kind of client lives in this mode.
fn home(mode: &str, kind: Kind) -> Option<Source> {
    match (mode, kind) {
        ("stateful", _) | ("hybrid", Kind::Tls12WithoutTickets) => Some(Source::Store),
        ("stateless" | "hybrid", Kind::Tls12 | Kind::Tls13) => Some(Source::Ticket),
        _ => None,
    }
}

/// Whether a session that lives there can be had in this mode.
fn has(mode: &str, kind: Kind, home: Source) -> bool {
    match home {
        // A TLS 1.2 client may offer an id beside an empty ticket.
        Source::Store => mode == "stateful" || (mode == "hybrid" && kind != Kind::Tls13),
        _ => mode == "stateless" || mode == "hybrid",
    }
}

/// The three modes that resume, over one store and one ring.
fn related() -> [(&'static str, Resumption); 3] {
    let store: Arc<dyn SessionStore> = Arc::new(MemoryStore::default());
    let keys = known();
    [
        ("stateful", Resumption::stateful(Arc::clone(&store))),
        ("stateless", Resumption::stateless(keys.clone())),
        ("hybrid", Resumption::hybrid(store, keys)),
    ]
}

#[test]
fn a_session_of_another_mode_resumes_if_both_have_it_in_the_same_place() {
    let mut all = related().to_vec();
    all.push(("off", Resumption::off()));
    for kind in Kind::ALL {
        for (made, from) in &all {
            let client = Client::new(kind).unwrap();
            let first = Server::new(from).meet(&client, None);
            let home = home(made, kind);
            for (asked, to) in &all {
                let outcome = Server::new(to).meet(&client, first.next()).agreed();
                let what = format!("{kind:?}: {made} for {asked}: {outcome:?}");
                match home.filter(|home| has(asked, kind, *home)) {
                    Some(home) => assert_eq!(outcome, Resumed(home), "{what}"),
                    None => assert!(matches!(outcome, Full(_)), "{what}"),
                }
            }
        }
    }
}

#[test]
fn a_session_of_another_store_or_ring_does_not_resume() {
    for kind in Kind::ALL {
        for ((mode, own), (_, strange)) in modes().into_iter().zip(modes()).take(3) {
            let Some(home) = home(mode, kind) else {
                continue;
            };
            let (own, strange) = (Server::new(&own), Server::new(&strange));
            let (guest, stranger) = (own.guest(kind), strange.guest(kind));
            let outcome = own.meet(&stranger.client, Some(&stranger.session)).agreed();
            let why = match home {
                Source::Store => Reason::NotFound,
                _ => Reason::UnknownKey,
            };
            assert_eq!(outcome, Full(why), "{mode} {kind:?}");
            guest.still_resumes();
            stranger.still_resumes();
        }
    }
}

#[test]
fn a_session_of_another_scope_generation_name_or_demand_does_not_resume() {
    let ca = mint("ca", None).unwrap();
    let me = mint("me", Some(&ca)).unwrap();
    let what = ["scope", "generation", "name", "demand"];
    for (kind, what) in Kind::ALL
        .iter()
        .flat_map(|kind| what.map(|what| (*kind, what)))
    {
        for (mode, policy) in related() {
            if home(mode, kind).is_none() {
                continue;
            }
            let client = || client_as(kind, &me);
            let first = Server::new(&policy).meet(&client(), None);
            let (there, visitor) = match what {
                "scope" => (Server::new(&policy.clone().scope("shop")), client()),
                "generation" => (Server::new(&policy.clone().generation("2")), client()),
                "name" => (Server::new(&policy), client().server_name("other.example")),
                _ => {
                    let demand = |builder: &mut _| demand_certificates(builder, &ca);
                    (Server::with(&policy, demand), client())
                }
            };
            let met = there.meet(&visitor, first.next());
            assert!(matches!(met.agreed(), Full(_)), "{what} {mode} {kind:?}");
            assert_eq!(met.authenticated, what == "demand");

            let home = Server::new(&policy).meet(&client(), first.next());
            assert!(
                home.agreed() != met.agreed() && home.client.resumed,
                "{what} {mode}"
            );
        }
    }
}

/// Where the server lets such clients in, each connection is to ask it again.
#[test]
fn a_session_of_a_certificate_that_has_ended_does_not_resume_for_a_moment() {
    let ended = Asn1Time::from_unix(i64::try_from(now()).unwrap() - 1).unwrap();
    let me = mint_until("me", None, &ended).unwrap();
    for (mode, policy) in related() {
        let server = Server::with(&policy, |builder| {
            builder.set_verify_callback(SslVerifyMode::PEER, |_, _| true);
        });
        for kind in Kind::ALL {
            let client = client_as(kind, &me);
            let first = server.meet(&client, None);
            assert!(first.authenticated);
            let second = server.meet(&client, first.next());
            assert!(matches!(second.agreed(), Full(_)), "{mode} {kind:?}");
        }
    }
}

#[test]
fn a_session_of_another_version_does_not_resume_under_its_id() {
    let server = Server::new(&Resumption::stateful(MemoryStore::default()));
    let old = server.guest(Kind::Tls12WithoutTickets);
    let new = server.guest(Kind::Tls13);
    let id = elements(&old.session)[ID].1.clone();
    assert_eq!(new.offer(&id), Ok(Full(Reason::NotFound)));
    let grafted = with_plain(&old.session, ID, new.ticket());
    let met = server.meet(&old.client, Some(&grafted));
    assert_eq!(met.agreed(), Full(Reason::NotFound));
    old.still_resumes();
    new.still_resumes();
}

// ---- Stores

/// A store that answers as it is told.
#[derive(Default)]
struct Liar {
    stored: Mutex<Vec<(SessionKey, Session)>>,
    lie: Mutex<Option<Lie>>,
    lookups: Mutex<Vec<Lookup>>,
}

/// What was looked up, what is stored under it, and what was said.
struct Lookup {
    truth: Option<Session>,
    answer: Option<Session>,
}

#[derive(Debug, Clone)]
enum Lie {
    Nothing,
    Failure,
    /// Bytes that may or may not be a session.
    Bytes(Vec<u8>),
    /// A header of the right kind over any bytes.
    Payload(Vec<u8>),
    /// The session that was asked for, cut, lengthened, or with bytes changed.
    Cut(Index),
    Longer(Vec<u8>),
    Changed(Vec<(Index, u8)>),
    Ended,
    /// Another session that is stored.
    Other(Index),
    /// The start of the right one, the end of another.
    Mixed(Index, Index),
    /// The DER of another session, or a changed one, under a checksum that is right.
    ForgedOther(Index),
    ForgedChange(Vec<(Index, u8)>),
    Forged(Vec<u8>),
}

const HEADER: usize = 9;
const CHECKSUM: usize = 8;

impl Lie {
    fn record(&self, key: &SessionKey, truth: &Session, others: &[Session]) -> Vec<u8> {
        let mut record = truth.as_bytes().to_vec();
        let len = record.len();
        let change = |record: &mut Vec<u8>, from: usize, changes: &[(Index, u8)]| {
            for (at, mask) in changes {
                record[from + at.index(len - from)] ^= mask;
            }
        };
        let forge = |record: &mut Vec<u8>, der: &[u8]| {
            record.truncate(HEADER);
            let check = sha256(&[key.as_bytes(), der].concat());
            record.extend_from_slice(&check[..CHECKSUM]);
            record.extend_from_slice(der);
        };
        match self {
            Self::Nothing | Self::Failure => {}
            Self::Bytes(bytes) => record.clone_from(bytes),
            Self::Payload(bytes) => {
                record.truncate(HEADER);
                record.extend_from_slice(bytes);
            }
            Self::Cut(at) => record.truncate(at.index(len)),
            Self::Longer(bytes) => record.extend_from_slice(bytes),
            Self::Changed(changes) => change(&mut record, 0, changes),
            Self::Ended => record[1..HEADER].copy_from_slice(&now().to_be_bytes()),
            Self::Other(other) => return other.get(others).as_bytes().to_vec(),
            Self::Mixed(other, at) => {
                let other = other.get(others).as_bytes();
                let at = at.index(len);
                record.truncate(at);
                record.extend_from_slice(other.get(at..).unwrap_or_default());
            }
            Self::ForgedOther(other) => {
                forge(
                    &mut record,
                    &other.get(others).as_bytes()[HEADER + CHECKSUM..],
                );
            }
            Self::ForgedChange(changes) => {
                change(&mut record, HEADER + CHECKSUM, changes);
                let der = record[HEADER + CHECKSUM..].to_vec();
                forge(&mut record, &der);
            }
            Self::Forged(der) => forge(&mut record, der),
        }
        record
    }
}

impl SessionStore for Liar {
    fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
        self.stored.lock().push((*key, session));
        Ok(())
    }

    fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        let stored = self.stored.lock();
        let truth = stored
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, s)| s.clone());
        let others: Vec<_> = stored
            .iter()
            .filter(|(k, _)| k != key)
            .map(|(_, s)| s.clone())
            .collect();
        let answer = match (&*self.lie.lock(), &truth) {
            (Some(Lie::Nothing), _) => Ok(None),
            (Some(Lie::Failure), _) => Err(StoreError::new("no")),
            (Some(lie), Some(truth)) => {
                Session::from_bytes(&lie.record(key, truth, &others)).map(Some)
            }
            _ => Ok(truth.clone()),
        };
        let lookup = Lookup {
            truth,
            answer: answer.as_ref().ok().cloned().flatten(),
        };
        self.lookups.lock().push(lookup);
        answer
    }

    fn remove(&self, _: &SessionKey) -> Result<(), StoreError> {
        panic!("nobody has a reason to remove a session")
    }
}

fn lies() -> impl Strategy<Value = Lie> {
    let bytes = |len| vec(any::<u8>(), 0..len);
    let changes = || vec((any::<Index>(), 1..=255_u8), 1..4);
    prop_oneof![
        1 => Just(Lie::Nothing),
        1 => Just(Lie::Failure),
        1 => Just(Lie::Ended),
        1 => bytes(300).prop_map(Lie::Bytes),
        1 => bytes(300).prop_map(Lie::Payload),
        1 => any::<Index>().prop_map(Lie::Cut),
        1 => vec(any::<u8>(), 1..50).prop_map(Lie::Longer),
        3 => changes().prop_map(Lie::Changed),
        3 => any::<Index>().prop_map(Lie::Other),
        1 => any::<(Index, Index)>().prop_map(|(other, at)| Lie::Mixed(other, at)),
        1 => any::<Index>().prop_map(Lie::ForgedOther),
        3 => changes().prop_map(Lie::ForgedChange),
        1 => bytes(300).prop_map(Lie::Forged),
    ]
}

#[test]
fn whatever_a_store_answers_only_the_session_asked_for_resumes() {
    for kind in Kind::ALL {
        let store = Arc::new(Liar::default());
        let server = Server::new(&Resumption::stateful(Arc::clone(&store)));
        // Sessions of each version for the store to mix up.
        let guest = server.guest(kind);
        for other in Kind::ALL {
            server.guest(other);
        }
        for_all(250, lies(), |lie| {
            *store.lie.lock() = Some(lie.clone());
            let looked_up = store.lookups.lock().len();
            let met = server.try_meet(&guest.client, Some(&guest.session));
            let lookups = store.lookups.lock();
            let [lookup] = &lookups[looked_up..] else {
                panic!("{} lookups", lookups.len() - looked_up);
            };
            let met = match met {
                Ok(met) => met.agreed(),
                // A secret that was changed by a store that computes checksums.
                Err(_) if matches!(lie, Lie::ForgedChange(_)) => return,
                Err(failure) => panic!("{lie:?}: {failure}"),
            };
            let payload = |session: &Option<Session>| {
                let session = session.as_ref()?;
                Some(session.as_bytes()[HEADER..].to_vec())
            };
            let is_true = payload(&lookup.answer) == payload(&lookup.truth);
            let ends = lookup.answer.as_ref().map(Session::expires_at);
            if is_true && ends.is_some_and(|ends| ends > SystemTime::now()) {
                assert_eq!(met, Resumed(Source::Store), "{lie:?}");
            } else if matches!(lie, Lie::ForgedChange(_)) {
                // A time or a flag: what makes the secret and the binding is as it was.
            } else {
                assert!(matches!(met, Full(_)), "{lie:?} {met:?}");
            }
        });
        *store.lie.lock() = None;
        guest.still_resumes();
        let stats = server.policy.stats().store;
        let answers = stats.hits + stats.misses + stats.expired + stats.errors;
        assert_eq!(answers, store.lookups.lock().len() as u64, "{stats:?}");
        assert_eq!((stats.removed, stats.capped), (0, 0));
    }
}

#[test]
fn what_is_no_session_or_a_strange_one_does_not_resume_even_if_its_checksum_is_right() {
    for kind in Kind::ALL {
        let store = Arc::new(Liar::default());
        let server = Server::new(&Resumption::stateful(Arc::clone(&store)));
        let guest = server.guest(kind);
        let record = store.stored.lock()[0].1.clone();
        let session = &record.as_bytes()[HEADER + CHECKSUM..];
        let no_sessions = no_sessions(session).into_iter();
        let strange_sessions = strange_sessions(session, kind).into_iter();
        let all = no_sessions
            .map(|(what, bytes)| (what, bytes, Reason::StoreFailed))
            .chain(strange_sessions);
        for (what, bytes, why) in all {
            *store.lie.lock() = Some(Lie::Forged(bytes));
            let met = server.meet(&guest.client, Some(&guest.session));
            assert_eq!(met.agreed(), Full(why), "{kind:?} {what}");
        }
        *store.lie.lock() = Some(Lie::Forged(session.to_vec()));
        guest.still_resumes();
    }
}

// ---- ClientHellos

/// A client with a session of each kind, in each mode in which it has one.
fn everywhere(check: impl Fn(&Guest<'_>)) {
    for (mode, policy) in related() {
        for kind in Kind::ALL {
            if home(mode, kind).is_some() {
                let server = Server::new(&policy);
                let guest = server.guest(kind);
                check(&guest);
                guest.still_resumes();
            }
        }
    }
}

#[test]
fn a_client_that_leaves_after_any_byte_of_its_hello_harms_nobody() {
    everywhere(|guest| {
        for len in 0..=guest.hello.len() {
            guest.server.hear(&guest.hello[..len]);
        }
    });
}

#[test]
fn a_hello_cut_at_any_byte_with_lengths_that_are_right_is_refused() {
    everywhere(|guest| {
        let message = &guest.hello[5..];
        for len in 0..message.len() {
            guest.server.hear(&record(&message[..len]));
            if len >= 4 {
                guest.server.hear(&record(&with_len(&message[..len])));
            }
        }
    });
}

/// The message with its own length in its header.
fn with_len(message: &[u8]) -> Vec<u8> {
    let len = u32::try_from(message.len() - 4).unwrap().to_be_bytes();
    [&message[..1], &len[1..], &message[4..]].concat()
}

#[test]
fn a_hello_that_arrives_in_two_pieces_resumes_wherever_it_is_cut() {
    everywhere(|guest| {
        let len = guest.hello.len();
        for at in 1..len {
            let met = guest
                .server
                .meet_over(&guest.client, Some(&guest.session), |hello| {
                    assert_eq!(hello.len(), len);
                    vec![hello[..at].to_vec(), hello[at..].to_vec()]
                });
            assert!(matches!(met.unwrap().agreed(), Resumed(_)), "at {at}");
        }
        let met = guest
            .server
            .meet_over(&guest.client, Some(&guest.session), |hello| {
                hello.chunks(1).map(<[u8]>::to_vec).collect()
            });
        assert!(matches!(met.unwrap().agreed(), Resumed(_)), "byte by byte");
    });
}

#[test]
fn a_hello_in_two_records_resumes_wherever_it_is_cut() {
    everywhere(|guest| {
        for at in 1..guest.hello.len() - 5 {
            let met = guest
                .server
                .meet_over(&guest.client, Some(&guest.session), |hello| {
                    let (first, second) = hello[5..].split_at(at);
                    vec![record(first), record(second)]
                });
            assert!(matches!(met.unwrap().agreed(), Resumed(_)), "at {at}");
        }
    });
}

#[derive(Debug, Clone)]
enum Change {
    Flip(Index, u8),
    Set(Index, u8),
    Remove(Index, usize),
    Insert(Index, Vec<u8>),
    Repeat(Index, usize),
    Swap(Index, Index),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let len = bytes.len();
        let span = |at: &Index, n: usize| at.index(len)..(at.index(len) + n).min(len);
        match self {
            Self::Flip(at, bit) => bytes[at.index(len)] ^= 1 << bit,
            Self::Set(at, to) => bytes[at.index(len)] = *to,
            Self::Remove(at, n) => drop(bytes.drain(span(at, *n))),
            Self::Insert(at, new) => drop(bytes.splice(span(at, 0), new.iter().copied())),
            Self::Repeat(at, n) => {
                let again = bytes[span(at, *n)].to_vec();
                bytes.splice(span(at, 0), again);
            }
            Self::Swap(a, b) => bytes.swap(a.index(len), b.index(len)),
        }
    }
}

/// Which lengths are put right after the changes.
#[derive(Debug, Clone, Copy)]
enum Lengths {
    None,
    Record,
    Both,
}

fn changes() -> impl Strategy<Value = (Vec<Change>, Lengths)> {
    let index = any::<Index>;
    let change = prop_oneof![
        (index(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (index(), any::<u8>()).prop_map(|(at, to)| Change::Set(at, to)),
        (index(), 1..64_usize).prop_map(|(at, n)| Change::Remove(at, n)),
        (index(), vec(any::<u8>(), 1..64)).prop_map(|(at, new)| Change::Insert(at, new)),
        (index(), 1..64_usize).prop_map(|(at, n)| Change::Repeat(at, n)),
        (index(), index()).prop_map(|(a, b)| Change::Swap(a, b)),
    ];
    let lengths = prop_oneof![
        Just(Lengths::None),
        Just(Lengths::Record),
        Just(Lengths::Both)
    ];
    (vec(change, 1..4), lengths)
}

#[test]
fn a_hello_changed_on_its_way_resumes_nothing() {
    everywhere(|guest| {
        for_all(250, changes(), |(changes, lengths)| {
            let mut unchanged = false;
            let met = guest
                .server
                .meet_over(&guest.client, Some(&guest.session), |hello| {
                    let mut bytes = match lengths {
                        Lengths::None => hello.clone(),
                        Lengths::Record | Lengths::Both => hello[5..].to_vec(),
                    };
                    changes.iter().for_each(|change| change.apply(&mut bytes));
                    let bytes = match lengths {
                        Lengths::None => bytes,
                        Lengths::Both if bytes.len() >= 4 => record(&with_len(&bytes)),
                        Lengths::Record | Lengths::Both => record(&bytes),
                    };
                    // The record's version counts for nothing.
                    unchanged = bytes[3.min(bytes.len())..] == hello[3..];
                    vec![bytes]
                });
            match met {
                Ok(met) => assert!(unchanged, "{:?}", met.agreed()),
                Err(failure) => assert!(failure.starts_with("client"), "{failure}"),
            }
        });
    });
}

#[test]
fn noise_in_place_of_a_hello_is_refused() {
    everywhere(|guest| {
        let (start, message) = (&guest.hello[..11], &guest.hello[5..]);
        for_all(100, vec(any::<u8>(), 0..600), |noise| {
            guest.server.hear(&noise);
            guest.server.hear(&[start, &noise].concat());
            guest.server.hear(&record(&noise));
            guest
                .server
                .hear(&record(&with_len(&[&message[..39], &noise].concat())));
        });
    });
}
