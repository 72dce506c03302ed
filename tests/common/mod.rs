//! One harness for all tests: a server's context on one end of a socket pair, a client on the
//! other.

#![allow(
    dead_code,
    unused_imports,
    reason = "each test binary uses its own part"
)]
#![allow(
    unreachable_pub,
    missing_debug_implementations,
    reason = "no public interface"
)]

use std::io::{Read, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use openssl::asn1::{Asn1Object, Asn1OctetString};
use openssl::hash::MessageDigest;
use openssl::ssl::{
    HandshakeError, Ssl, SslAcceptor, SslAcceptorBuilder, SslContext, SslMethod, SslStream,
    SslVerifyMode,
};
use openssl::x509::{X509, X509Extension};
use openssl_resumption::{
    Handshake, MemoryStore, Outcome, Reason, Resumption, Source, SslContextBuilderExt, SslRefExt,
    Stats, TicketKeys,
};

#[path = "../../examples/support/mod.rs"]
mod support;

pub use support::{Client, Identity, Kind, Seen, mint, mint_until};

pub mod child;

/// The server's certificate, minted once a process.
pub fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| mint("localhost", None).unwrap())
}

/// What most servers begin with.
pub fn acceptor() -> SslAcceptorBuilder {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    builder.set_certificate(&identity().cert).unwrap();
    builder.set_private_key(&identity().key).unwrap();
    builder
}

pub fn context(policy: &Resumption) -> SslContext {
    let mut builder = acceptor();
    builder.set_resumption(policy).unwrap();
    builder.build().into_context()
}

/// The four modes, each a policy of its own.
pub fn modes() -> [(&'static str, Resumption); 4] {
    [
        ("stateful", Resumption::stateful(MemoryStore::default())),
        ("stateless", Resumption::stateless(TicketKeys::random())),
        (
            "hybrid",
            Resumption::hybrid(MemoryStore::default(), TicketKeys::random()),
        ),
        ("off", Resumption::off()),
    ]
}

/// A finished connection, as both ends saw it.
#[derive(Debug)]
pub struct Met {
    pub client: Seen,
    /// The server's `ssl.resumption()`.
    pub outcome: Option<Outcome>,
    /// OpenSSL's own word on the server's side.
    pub server_reused: bool,
    /// Whether the server has a client certificate.
    pub authenticated: bool,
    /// What was in the server thread's OpenSSL error queue afterwards.
    pub errors: usize,
}

impl Met {
    /// The outcome, after making sure that client, server and OpenSSL tell the same story.
    #[track_caller]
    pub fn agreed(&self) -> Handshake {
        let outcome = self
            .outcome
            .expect("a context with a policy has an outcome");
        assert_eq!(outcome.is_resumed(), self.client.resumed, "{outcome}");
        assert_eq!(outcome.is_resumed(), self.server_reused, "{outcome}");
        assert!(
            outcome.to_string().starts_with(self.client.version),
            "{outcome}"
        );
        assert_eq!(self.errors, 0, "errors left in the queue");
        outcome.handshake
    }

    /// What the client offers next: the newest session it has.
    pub fn next(&self) -> Option<&[u8]> {
        self.client.sessions.last().map(Vec::as_slice)
    }
}

/// Connects `client`, which offers `session`, to a server of `context`; both must succeed.
#[track_caller]
pub fn meet(context: &SslContext, client: &Client, session: Option<&[u8]>) -> Met {
    meet_with(Ssl::new(context).unwrap(), client, session)
}

/// Like `meet`, with the server's `SSL` made by the test.
#[track_caller]
pub fn meet_with(ssl: Ssl, client: &Client, session: Option<&[u8]>) -> Met {
    match try_meet_with(ssl, client, session) {
        (Ok(met), _) => met,
        (Err(client), server) => panic!("client: {client}; server: {server:?}"),
    }
}

/// Like `meet`, for connections that may fail: the client's view, and the server's error.
pub fn try_meet(
    context: &SslContext,
    client: &Client,
    session: Option<&[u8]>,
) -> (Result<Met, String>, Option<String>) {
    try_meet_with(Ssl::new(context).unwrap(), client, session)
}

fn try_meet_with(
    ssl: Ssl,
    client: &Client,
    session: Option<&[u8]>,
) -> (Result<Met, String>, Option<String>) {
    try_meet_over(ssl, client, session, |stream| stream)
}

/// Like `try_meet`, with the client's end of the connection wrapped by the test.
pub fn try_meet_over<S: Read + Write + std::fmt::Debug>(
    ssl: Ssl,
    client: &Client,
    session: Option<&[u8]>,
    wrap: impl FnOnce(UnixStream) -> S,
) -> (Result<Met, String>, Option<String>) {
    let (near, far) = UnixStream::pair().unwrap();
    for stream in [&near, &far] {
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
    }
    let server = thread::spawn(move || {
        let accepted = ssl.accept(far);
        let served = accepted.map_err(|e| e.to_string()).map(serve);
        (served, openssl::error::ErrorStack::get().errors().len())
    });
    let client = client
        .connect(wrap(near), session)
        .map_err(|e| e.to_string())
        .and_then(|stream| client.finish(stream).map_err(|e| e.to_string()));
    let (served, errors) = server.join().unwrap();
    match (client, served) {
        (Ok(client), Ok((outcome, server_reused, authenticated))) => (
            Ok(Met {
                client,
                outcome,
                server_reused,
                authenticated,
                errors,
            }),
            None,
        ),
        (Ok(_), Err(server)) => (Err("fine".into()), Some(server)),
        (Err(client), served) => (Err(client), served.err()),
    }
}

fn serve(mut stream: SslStream<UnixStream>) -> (Option<Outcome>, bool, bool) {
    // The client may be one that leaves at once.
    let _ = stream.write_all(b"hello");
    let _ = stream.shutdown();
    let ssl = stream.ssl();
    (
        ssl.resumption(),
        ssl.session_reused(),
        ssl.peer_certificate().is_some(),
    )
}

/// The handshakes that a policy has counted, as (full, resumed).
pub fn handshakes(stats: &Stats) -> (u64, u64) {
    let all = stats.handshakes();
    (all.full, all.resumed)
}

/// Makes a server demand certificates signed by `ca`.
pub fn demand_certificates(builder: &mut SslAcceptorBuilder, ca: &Identity) {
    builder.cert_store_mut().add_cert(ca.cert.clone()).unwrap();
    builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
}

/// A certificate with a comment of this many bytes in it.
pub fn mint_with_padding(name: &str, issuer: &Identity, bytes: usize) -> Identity {
    let mut identity = mint(name, Some(issuer)).unwrap();
    let mut cert = X509::builder().unwrap();
    cert.set_version(2).unwrap();
    cert.set_serial_number(identity.cert.serial_number())
        .unwrap();
    cert.set_not_before(identity.cert.not_before()).unwrap();
    cert.set_not_after(identity.cert.not_after()).unwrap();
    cert.set_subject_name(identity.cert.subject_name()).unwrap();
    cert.set_issuer_name(identity.cert.issuer_name()).unwrap();
    cert.set_pubkey(&identity.key).unwrap();
    let comment = Asn1Object::from_str("2.16.840.1.113730.1.13").unwrap();
    let content = Asn1OctetString::new_from_bytes(&vec![b'x'; bytes]).unwrap();
    let comment = X509Extension::new_from_der(&comment, false, &content).unwrap();
    cert.append_extension(comment).unwrap();
    cert.sign(&issuer.key, MessageDigest::sha256()).unwrap();
    identity.cert = cert.build();
    identity
}

/// A client with a certificate.
pub fn client_as(kind: Kind, me: &Identity) -> Client {
    Client::with(kind, |context| {
        context.set_certificate(&me.cert)?;
        context.set_private_key(&me.key)
    })
    .unwrap()
}

/// Where in the DER of a client's session its field `[n]` has its bytes.
///
/// `SSL_SESSION_ASN1` is a SEQUENCE of plain fields and of `[n] EXPLICIT` ones, all with definite
/// lengths; 10 is the ticket.
pub fn field(der: &[u8], n: u8) -> Option<Range<usize>> {
    let mut at = header(der, 0).1.start;
    while at < der.len() {
        let (tag, content) = header(der, at);
        if tag == 0xa0 | n {
            return Some(header(der, content.start).1);
        }
        at = content.end;
    }
    None
}

pub const LIFETIME_HINT: u8 = 9;
pub const TICKET: u8 = 10;

/// The lifetime hint that came with the client's ticket, in seconds; 0 if none did.
pub fn hint(der: &[u8]) -> u64 {
    field(der, LIFETIME_HINT).map_or(0, |at| {
        der[at]
            .iter()
            .fold(0, |hint, byte| hint << 8 | u64::from(*byte))
    })
}

/// The tag at `at`, and where its content is.
fn header(der: &[u8], at: usize) -> (u8, Range<usize>) {
    let first = usize::from(der[at + 1]);
    let (start, len) = if first < 0x80 {
        (at + 2, first)
    } else {
        let bytes = &der[at + 2..at + 2 + (first & 0x7f)];
        let len = bytes
            .iter()
            .fold(0, |len, byte| len << 8 | usize::from(*byte));
        (at + 2 + bytes.len(), len)
    };
    (der[at], start..start + len)
}
