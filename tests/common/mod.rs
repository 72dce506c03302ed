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
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use openssl::ssl::{Ssl, SslAcceptor, SslAcceptorBuilder, SslContext, SslMethod, SslStream};
use openssl_resumption::{
    Handshake, MemoryStore, Outcome, Resumption, SslContextBuilderExt, SslRefExt, Stats, TicketKeys,
};

#[path = "../../examples/support/mod.rs"]
mod support;

pub use support::{Client, Identity, Kind, Seen, mint, mint_until};

mod certificates;
pub mod child;
pub mod early;
mod hello;
mod holding;
pub mod process;
pub mod programs;
mod session;

pub use certificates::*;
pub use early::{flight, replay};
pub use hello::*;
pub use holding::*;
pub use session::*;

/// What most servers begin with.
pub fn acceptor() -> SslAcceptorBuilder {
    programs::end_in_time();
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    builder.set_certificate(&identity().cert).unwrap();
    builder.set_private_key(&identity().key).unwrap();
    builder
}

pub fn context(policy: &Resumption) -> SslContext {
    context_with(policy, |_| ())
}

/// A server that `prepare` sets up before it gets the policy.
pub fn context_with(
    policy: &Resumption,
    prepare: impl FnOnce(&mut SslAcceptorBuilder),
) -> SslContext {
    let mut builder = acceptor();
    prepare(&mut builder);
    builder.set_resumption(policy).unwrap();
    builder.build().into_context()
}

/// A server whose settings `change` changes once it has the policy.
pub fn context_changed(
    policy: &Resumption,
    change: impl FnOnce(&mut SslAcceptorBuilder),
) -> SslContext {
    let mut builder = acceptor();
    builder.set_resumption(policy).unwrap();
    change(&mut builder);
    builder.build().into_context()
}

/// A server and a client between which each handshake has a HelloRetryRequest.
pub fn retrying(policy: &Resumption) -> (SslContext, Client) {
    let context = context_with(policy, |builder| builder.set_groups_list("P-384").unwrap());
    (context, with_groups("P-256:P-384"))
}

/// A TLS 1.3 client that offers these groups, and a key share of the first.
pub fn with_groups(groups: &str) -> Client {
    Client::with(Kind::Tls13, |context| context.set_groups_list(groups)).unwrap()
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

/// The modes in which sessions are resumed.
pub fn resuming() -> impl Iterator<Item = (&'static str, Resumption)> {
    modes().into_iter().take(3)
}

/// The clients that have sessions to resume in each of these modes: what to call it, the mode's
/// policy, which they share, and the client.
pub fn resuming_clients() -> impl Iterator<Item = (String, Resumption, Kind)> {
    resuming().flat_map(|(mode, policy)| {
        [Kind::Tls12, Kind::Tls13].map(|kind| (format!("{mode} {kind:?}"), policy.clone(), kind))
    })
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

/// Two connections of `client`, of which the second offers the session of the first.
#[track_caller]
pub fn meet_twice(context: &SslContext, client: &Client) -> [Met; 2] {
    let first = meet(context, client, None);
    let second = meet(context, client, first.next());
    [first, second]
}

/// Like `meet`, for connections that may fail: the client's view, and the server's error.
pub fn try_meet(
    context: &SslContext,
    client: &Client,
    session: Option<&[u8]>,
) -> (Result<Met, String>, Option<String>) {
    try_meet_with(Ssl::new(context).unwrap(), client, session)
}

pub fn try_meet_with(
    ssl: Ssl,
    client: &Client,
    session: Option<&[u8]>,
) -> (Result<Met, String>, Option<String>) {
    try_meet_over(ssl, client, session, |stream| stream)
}

/// How long this thread has worked so far: who else is there does not count.
#[allow(
    unsafe_code,
    reason = "a clock that the standard library does not read"
)]
pub fn worked() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes the time to where it may.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A stream on which the alert user_canceled, marked fatal, goes before what is written second.
#[derive(Debug)]
pub struct Canceling {
    stream: UnixStream,
    has_read: bool,
    has_sent: bool,
}

impl Canceling {
    pub fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            has_read: false,
            has_sent: false,
        }
    }
}

impl Read for Canceling {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.has_read = true;
        self.stream.read(buffer)
    }
}

impl Write for Canceling {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.has_read && !self.has_sent {
            self.has_sent = true;
            self.stream.write_all(&[21, 3, 3, 0, 2, 2, 90])?;
        }
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
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
