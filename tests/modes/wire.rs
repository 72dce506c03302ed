//! What the modes look like on the wire, read from the bytes of the handshake.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use crate::common::*;
use openssl::ssl::{Ssl, SslContext};
use openssl_resumption::{MemoryStore, Resumption, TicketKeys};

/// A client's stream that keeps what passes.
#[derive(Debug)]
struct Tap<'a> {
    stream: UnixStream,
    seen: &'a mut Wire,
}

#[derive(Debug, Default)]
struct Wire {
    sent: Vec<u8>,
    received: Vec<u8>,
}

impl Read for Tap<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.stream.read(buf)?;
        self.seen.received.extend_from_slice(&buf[..n]);
        Ok(n)
    }
}

impl Write for Tap<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.stream.write(buf)?;
        self.seen.sent.extend_from_slice(&buf[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// A handshake message: type and body.
type Message = (u8, Vec<u8>);

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const NEW_SESSION_TICKET: u8 = 4;
const CERTIFICATE: u8 = 11;

const SESSION_TICKET: u16 = 35;
const PRE_SHARED_KEY: u16 = 41;

/// The handshake messages before encryption starts.
fn messages(bytes: &[u8]) -> Vec<Message> {
    let mut clear = Vec::new();
    let mut rest = bytes;
    // A record is a type (22: handshake), a version and a length.
    while let [22, _, _, high, low, after @ ..] = rest {
        let len = usize::from(*high) << 8 | usize::from(*low);
        clear.extend_from_slice(&after[..len]);
        rest = &after[len..];
    }
    let mut found = Vec::new();
    let mut rest = clear.as_slice();
    while let [kind, a, b, c, after @ ..] = rest {
        let len = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        found.push((*kind, after[..len].to_vec()));
        rest = &after[len..];
    }
    found
}

/// The body of the first message of this type.
fn message(bytes: &[u8], kind: u8) -> Option<Vec<u8>> {
    messages(bytes)
        .into_iter()
        .find(|m| m.0 == kind)
        .map(|m| m.1)
}

/// A field with its length before it in `prefix` bytes: the field and what comes after.
fn vector(bytes: &[u8], prefix: usize) -> (&[u8], &[u8]) {
    let len = bytes[..prefix]
        .iter()
        .fold(0, |len, byte| len << 8 | usize::from(*byte));
    bytes[prefix..].split_at(len)
}

/// The session id of either hello: it follows the version and the random bytes.
fn session_id(hello: &[u8]) -> Vec<u8> {
    vector(&hello[34..], 1).0.to_vec()
}

fn extension(hello: &[u8], is_client: bool, wanted: u16) -> Option<Vec<u8>> {
    let (_, rest) = vector(&hello[34..], 1);
    let rest = if is_client {
        let (_ciphers, rest) = vector(rest, 2);
        vector(rest, 1).1
    } else {
        &rest[3..]
    };
    let mut extensions = if rest.is_empty() {
        rest
    } else {
        vector(rest, 2).0
    };
    while let [high, low, after @ ..] = extensions {
        let (body, rest) = vector(after, 2);
        if u16::from_be_bytes([*high, *low]) == wanted {
            return Some(body.to_vec());
        }
        extensions = rest;
    }
    None
}

/// A connection's handshake, taken apart.
struct Seen {
    met: Met,
    client_hello: Vec<u8>,
    server_hello: Vec<u8>,
    received: Vec<u8>,
}

impl Seen {
    fn has(&self, kind: u8) -> bool {
        message(&self.received, kind).is_some()
    }
}

fn tap(context: &SslContext, client: &Client, session: Option<&[u8]>) -> Seen {
    let mut wire = Wire::default();
    let ssl = Ssl::new(context).unwrap();
    let (met, server) = try_meet_over(ssl, client, session, |stream| Tap {
        stream,
        seen: &mut wire,
    });
    let met = met.unwrap_or_else(|client| panic!("client: {client}; server: {server:?}"));
    met.agreed();
    Seen {
        met,
        client_hello: message(&wire.sent, CLIENT_HELLO).unwrap(),
        server_hello: message(&wire.received, SERVER_HELLO).unwrap(),
        received: wire.received,
    }
}

#[test]
fn stateful_tls_1_2_gives_an_id_and_echoes_it_without_a_certificate() {
    for policy in [
        Resumption::stateful(MemoryStore::default()),
        Resumption::hybrid(MemoryStore::default(), TicketKeys::random()),
    ] {
        let context = context(&policy);
        let client = Client::new(Kind::Tls12WithoutTickets).unwrap();
        let full = tap(&context, &client, None);
        assert_eq!(session_id(&full.client_hello), b"");
        let id = session_id(&full.server_hello);
        assert_eq!(id.len(), 32);
        assert!(full.has(CERTIFICATE) && !full.has(NEW_SESSION_TICKET));

        let resumed = tap(&context, &client, full.met.next());
        assert_eq!(session_id(&resumed.client_hello), id);
        assert_eq!(session_id(&resumed.server_hello), id);
        assert!(!resumed.has(CERTIFICATE) && !resumed.has(NEW_SESSION_TICKET));

        let another = tap(&context, &client, None);
        assert_ne!(
            session_id(&another.server_hello),
            id,
            "each full handshake has its own id"
        );
    }
}

#[test]
fn stateful_tls_1_2_gives_no_ticket_to_a_client_that_takes_them() {
    let context = context(&Resumption::stateful(MemoryStore::default()));
    let full = tap(&context, &Client::new(Kind::Tls12).unwrap(), None);
    assert_eq!(
        extension(&full.client_hello, true, SESSION_TICKET),
        Some(vec![])
    );
    assert_eq!(extension(&full.server_hello, false, SESSION_TICKET), None);
    assert!(!full.has(NEW_SESSION_TICKET));
    assert_eq!(session_id(&full.server_hello).len(), 32);
}

#[test]
fn ticket_tls_1_2_echoes_the_clients_id_if_it_accepts_and_only_then() {
    let keys = TicketKeys::random();
    for policy in [
        Resumption::stateless(keys.clone()),
        Resumption::hybrid(MemoryStore::default(), keys),
    ] {
        let server = context(&policy);
        let client = Client::new(Kind::Tls12).unwrap();
        let full = tap(&server, &client, None);
        assert_eq!(
            extension(&full.client_hello, true, SESSION_TICKET),
            Some(vec![])
        );
        assert_eq!(
            extension(&full.server_hello, false, SESSION_TICKET),
            Some(vec![])
        );
        assert_eq!(session_id(&full.server_hello), b"", "no id beside a ticket");
        assert!(full.has(CERTIFICATE) && full.has(NEW_SESSION_TICKET));

        let accepted = tap(&server, &client, full.met.next());
        let mine = session_id(&accepted.client_hello);
        assert_eq!(mine.len(), 32);
        assert_eq!(session_id(&accepted.server_hello), mine);
        assert!(!accepted.has(CERTIFICATE) && !accepted.has(NEW_SESSION_TICKET));

        let stranger = context(&Resumption::stateless(TicketKeys::random()));
        let refused = tap(&stranger, &client, full.met.next());
        assert_ne!(
            session_id(&refused.server_hello),
            session_id(&refused.client_hello)
        );
        assert!(refused.has(CERTIFICATE) && refused.has(NEW_SESSION_TICKET));
    }
}

#[test]
fn in_tls_1_3_the_length_of_the_identity_tells_the_mode() {
    for (mode, policy) in modes().into_iter().take(3) {
        let context = context(&policy);
        let client = Client::new(Kind::Tls13).unwrap();
        let full = tap(&context, &client, None);
        assert_eq!(extension(&full.client_hello, true, PRE_SHARED_KEY), None);
        let resumed = tap(&context, &client, full.met.next());
        let offered = extension(&resumed.client_hello, true, PRE_SHARED_KEY).unwrap();
        let (identities, _binders) = vector(&offered, 2);
        let (identity, _age) = vector(identities, 2);
        if mode == "stateful" {
            assert_eq!(identity.len(), 32, "{mode}");
        } else {
            assert!(identity.len() > 100, "{mode}: {}", identity.len());
        }
        let chosen = extension(&resumed.server_hello, false, PRE_SHARED_KEY);
        assert_eq!(
            chosen,
            Some(vec![0, 0]),
            "the server took the first identity"
        );
    }
}

#[test]
fn off_gives_no_id_and_no_ticket() {
    let context = context(&Resumption::off());
    for kind in [Kind::Tls12, Kind::Tls12WithoutTickets] {
        let full = tap(&context, &Client::new(kind).unwrap(), None);
        assert_eq!(session_id(&full.server_hello), b"");
        assert!(!full.has(NEW_SESSION_TICKET));
        assert_eq!(extension(&full.server_hello, false, SESSION_TICKET), None);
    }
}
