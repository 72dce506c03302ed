//! What the benchmarks of handshakes share: the servers that are compared, and a handshake between
//! a server and a client over two queues in memory, in which the server's side can be told apart.

#![allow(
    dead_code,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    reason = "each benchmark uses its own part, and none is a public interface"
)]

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use openssl::error::ErrorStack;
use openssl::ssl::{
    ErrorCode, Ssl, SslAcceptor, SslAcceptorBuilder, SslContext, SslMethod, SslOptions, SslSession,
    SslSessionCacheMode, SslStream, SslVerifyMode,
};
use openssl_resumption::{MemoryStore, Resumption, SslContextBuilderExt, TicketKeys};

mod certificates;
mod early;
#[path = "../../examples/support/mod.rs"]
mod shared;

use shared::{Client, Identity, mint};

#[allow(unused_imports, reason = "each benchmark uses its own part")]
pub use certificates::Visitor;
pub use shared::Kind;

/// A version, and whether the server demands a certificate of the client.
#[derive(Debug, Clone, Copy)]
pub struct Case(pub Kind, pub bool);

pub const CASES: [Case; 4] = [
    Case(Kind::Tls12, false),
    Case(Kind::Tls13, false),
    Case(Kind::Tls12, true),
    Case(Kind::Tls13, true),
];

/// For arguments, and for `report.py`.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = if self.0 == Kind::Tls13 {
            "tls13"
        } else {
            "tls12"
        };
        let certificate = if self.1 { "_certificate" } else { "" };
        write!(f, "{version}{certificate}")
    }
}

/// What a server resumes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// OpenSSL's cache in the process, with tickets switched off.
    Internal,
    /// What a server writes by hand: the DER of sessions in a map, without any check.
    Der,
    /// OpenSSL's own tickets, with its cache switched off.
    Tickets,
    Stateful,
    Stateless,
    Hybrid,
}

impl Variant {
    pub const ALL: [Self; 6] = [
        Self::Internal,
        Self::Der,
        Self::Tickets,
        Self::Stateful,
        Self::Stateless,
        Self::Hybrid,
    ];

    /// The policy of a server that has one.
    pub fn policy(self) -> Option<Resumption> {
        let store = MemoryStore::default;
        match self {
            Self::Internal | Self::Der | Self::Tickets => None,
            Self::Stateful => Some(Resumption::stateful(store())),
            Self::Stateless => Some(Resumption::stateless(TicketKeys::random())),
            Self::Hybrid => Some(Resumption::hybrid(store(), TicketKeys::random())),
        }
    }

    pub fn apply(self, builder: &mut SslAcceptorBuilder) -> Result<(), ErrorStack> {
        if let Some(policy) = self.policy() {
            builder
                .set_resumption(&policy)
                .expect("a policy that works");
            return Ok(());
        }
        match self {
            Self::Internal => {
                let entries = MemoryStore::DEFAULT_ENTRIES;
                builder.set_options(SslOptions::NO_TICKET);
                builder.set_session_cache_size(entries as i32);
            }
            Self::Der => {
                builder.set_options(SslOptions::NO_TICKET);
                keep_der(builder);
            }
            _ => {
                builder.set_session_cache_mode(SslSessionCacheMode::OFF);
            }
        }
        builder.set_session_id_context(b"benchmark")
    }
}

/// For arguments, and for `report.py`.
impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Internal => "internal",
            Self::Der => "der",
            Self::Tickets => "tickets",
            Self::Stateful => "stateful",
            Self::Stateless => "stateless",
            Self::Hybrid => "hybrid",
        })
    }
}

#[expect(
    unsafe_code,
    reason = "`set_get_session_callback` wants a session that nobody else has"
)]
fn keep_der(builder: &mut SslAcceptorBuilder) {
    let store = Arc::new(Mutex::new(HashMap::<Vec<u8>, Vec<u8>>::new()));
    let stored = Arc::clone(&store);
    builder.set_session_cache_mode(SslSessionCacheMode::SERVER | SslSessionCacheMode::NO_INTERNAL);
    builder.set_new_session_callback(move |_, session| {
        let der = session.to_der().expect("a session to encode");
        let mut store = stored.lock().expect("no panic under this lock");
        store.insert(session.id().to_vec(), der);
    });
    let find = move |id: &[u8]| {
        let der = store
            .lock()
            .expect("no panic under this lock")
            .get(id)
            .cloned();
        SslSession::from_der(&der?).ok()
    };
    // SAFETY: the session has just been decoded, for this connection alone.
    unsafe { builder.set_get_session_callback(move |_, id| find(id)) };
}

/// A server, and a client for it.
pub struct Pair {
    context: SslContext,
    client: Client,
    case: Case,
}

/// Runs a part of the server's side of a handshake.
pub type Side = fn(&mut dyn FnMut());

/// The side that is counted, by its name.
#[inline(never)]
pub fn counted(part: &mut dyn FnMut()) {
    part();
    // Not a jump to `part`, after which nobody would come back here.
    black_box(());
}

/// The side that is not.
pub fn uncounted(part: &mut dyn FnMut()) {
    part();
}

impl Pair {
    pub fn new(variant: Variant, case: Case) -> Self {
        Self::with(case, |builder| variant.apply(builder))
    }

    /// A server on which `apply` has the last word.
    pub fn with(
        case: Case,
        apply: impl FnOnce(&mut SslAcceptorBuilder) -> Result<(), ErrorStack>,
    ) -> Self {
        Self::make(case, apply).expect("a server and a client")
    }

    fn make(
        case: Case,
        apply: impl FnOnce(&mut SslAcceptorBuilder) -> Result<(), ErrorStack>,
    ) -> Result<Self, ErrorStack> {
        let Case(kind, certificate) = case;
        let Identity { cert, key } = mint("localhost", None)?;
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
        builder.set_certificate(&cert)?;
        builder.set_private_key(&key)?;
        let ca = mint("clients", None)?;
        let me = mint("me", Some(&ca))?;
        if certificate {
            builder.cert_store_mut().add_cert(ca.cert)?;
            builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        }
        apply(&mut builder)?;
        let client = Client::with(kind, |context| {
            if certificate {
                context.set_certificate(&me.cert)?;
                context.set_private_key(&me.key)?;
            }
            Ok(())
        })?;
        Ok(Self {
            context: builder.build().into_context(),
            client: client.server_name("localhost"),
            case,
        })
    }

    /// A full handshake, then one that resumes its session; `side` runs the server's part of the
    /// second. Returns what the client may offer next.
    pub fn full_then_resumed(&self, side: Side) -> Vec<u8> {
        let session = self.full(uncounted);
        self.resumed(&session, side)
    }

    pub fn full(&self, side: Side) -> Vec<u8> {
        self.connect(None, side)
    }

    pub fn resumed(&self, session: &[u8], side: Side) -> Vec<u8> {
        self.connect(Some(session), side)
    }

    /// From `SSL_new` to `SSL_free`, with a byte of data and a close_notify in between.
    fn connect(&self, session: Option<&[u8]>, side: Side) -> Vec<u8> {
        let (near, far) = pipe();
        let mut client = self.client.start(near, session).expect("a client");
        let mut server = None;
        let mut far = Some(far);
        side(&mut || {
            let ssl = Ssl::new(&self.context).expect("an SSL");
            server = far
                .take()
                .map(|far| SslStream::new(ssl, far).expect("a stream"));
        });
        let mut server = server.expect("just made");
        let (mut asked, mut answered) = (false, false);
        while !(asked && answered) {
            asked = done(client.connect());
            side(&mut || answered = done(server.accept()));
        }
        let reused = server.ssl().session_reused();
        assert_eq!(
            (reused, client.ssl().session_reused()),
            (session.is_some(), reused)
        );
        assert_eq!(server.ssl().version2(), Some(self.case.0.version()));
        assert_eq!(server.ssl().peer_certificate().is_some(), self.case.1);
        side(&mut || {
            server.write_all(b"!").expect("room in memory");
            server.shutdown().expect("room in memory");
        });
        let seen = self.client.finish(client).expect("a byte and the end");
        assert_eq!(seen.reply, b"!");
        let mut server = Some(server);
        side(&mut || drop(server.take()));
        seen.sessions.into_iter().next_back().unwrap_or_else(|| {
            // A TLS 1.2 resumption by id makes no session: the old one stays.
            session.expect("a full handshake makes a session").to_vec()
        })
    }
}

/// Whether a handshake is done; it may have to wait for the other end.
fn done(step: Result<(), openssl::ssl::Error>) -> bool {
    match step {
        Ok(()) => true,
        Err(error) if error.code() == ErrorCode::WANT_READ => false,
        Err(error) => panic!("handshake: {error}"),
    }
}

type Queue = Rc<RefCell<VecDeque<u8>>>;

/// One end of a connection in memory.
#[derive(Debug)]
struct End {
    incoming: Queue,
    outgoing: Queue,
}

fn pipe() -> (End, End) {
    let (one, other) = (Queue::default(), Queue::default());
    let near = End {
        incoming: Rc::clone(&one),
        outgoing: Rc::clone(&other),
    };
    let far = End {
        incoming: other,
        outgoing: one,
    };
    (near, far)
}

impl Read for End {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.incoming.borrow_mut().read(buf)? {
            0 if !buf.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for End {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.outgoing.borrow_mut().write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
