//! What the examples and the tests share: certificates minted on the spot, and a client that keeps
//! its sessions as bytes.

#![allow(dead_code, reason = "each example uses its own part")]
#![allow(
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    reason = "no public interface"
)]

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{
    HandshakeError, Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions, SslSession,
    SslSessionCacheMode, SslStream, SslVersion,
};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};

/// A certificate and its private key.
pub struct Identity {
    pub cert: X509,
    pub key: PKey<Private>,
}

/// Mints a certificate for `name` and localhost, for a month, signed by `issuer` or else by itself.
pub fn mint(name: &str, issuer: Option<&Identity>) -> Result<Identity, ErrorStack> {
    let in_a_month = Asn1Time::days_from_now(30)?;
    mint_until(name, issuer, &in_a_month)
}

/// Like `mint`, with the end of the certificate.
pub fn mint_until(
    name: &str,
    issuer: Option<&Identity>,
    not_after: &Asn1TimeRef,
) -> Result<Identity, ErrorStack> {
    let curve = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
    let key = PKey::from_ec_key(EcKey::generate(&curve)?)?;

    let mut subject = X509NameBuilder::new()?;
    subject.append_entry_by_nid(Nid::COMMONNAME, name)?;
    let subject = subject.build();
    let mut serial = BigNum::new()?;
    serial.rand(159, MsbOption::MAYBE_ZERO, false)?;

    let mut cert = X509::builder()?;
    cert.set_version(2)?;
    let serial = serial.to_asn1_integer()?;
    cert.set_serial_number(&serial)?;
    let today = Asn1Time::days_from_now(0)?;
    cert.set_not_before(&today)?;
    cert.set_not_after(not_after)?;
    cert.set_subject_name(&subject)?;
    cert.set_issuer_name(issuer.map_or(&subject, |issuer| issuer.cert.subject_name()))?;
    cert.set_pubkey(&key)?;
    if issuer.is_none() {
        cert.append_extension(BasicConstraints::new().critical().ca().build()?)?;
    }
    let names = SubjectAlternativeName::new()
        .dns(name)
        .dns("localhost")
        .ip("127.0.0.1")
        .ip("::1")
        .build(&cert.x509v3_context(issuer.map(|issuer| &*issuer.cert), None))?;
    cert.append_extension(names)?;
    cert.sign(
        issuer.map_or(&key, |issuer| &issuer.key),
        MessageDigest::sha256(),
    )?;
    Ok(Identity {
        cert: cert.build(),
        key,
    })
}

/// The three kinds of client that the mode table tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Tls12,
    Tls12WithoutTickets,
    Tls13,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Tls12, Self::Tls12WithoutTickets, Self::Tls13];

    pub fn version(self) -> SslVersion {
        match self {
            Self::Tls12 | Self::Tls12WithoutTickets => SslVersion::TLS1_2,
            Self::Tls13 => SslVersion::TLS1_3,
        }
    }
}

/// A TLS client that collects the sessions it is given, as DER.
pub struct Client {
    context: SslContext,
    sessions: Arc<Mutex<Vec<Vec<u8>>>>,
    server_name: Option<String>,
}

/// One finished connection, as the client saw it.
#[derive(Debug)]
pub struct Seen {
    pub version: &'static str,
    pub resumed: bool,
    /// The sessions that the client got, in order: those it may offer next time.
    pub sessions: Vec<Vec<u8>>,
    /// What the server sent.
    pub reply: Vec<u8>,
}

impl Client {
    /// A client that trusts any server: it is there to test resumption.
    pub fn new(kind: Kind) -> Result<Self, ErrorStack> {
        Self::with(kind, |_| Ok(()))
    }

    /// A client whose context `adjust` has the last word on.
    pub fn with(
        kind: Kind,
        adjust: impl FnOnce(&mut SslContextBuilder) -> Result<(), ErrorStack>,
    ) -> Result<Self, ErrorStack> {
        let sessions = Arc::new(Mutex::new(Vec::new()));
        let mut context = SslContextBuilder::new(SslMethod::tls_client())?;
        context.set_min_proto_version(Some(kind.version()))?;
        context.set_max_proto_version(Some(kind.version()))?;
        if kind == Kind::Tls12WithoutTickets {
            context.set_options(SslOptions::NO_TICKET);
        }
        context
            .set_session_cache_mode(SslSessionCacheMode::CLIENT | SslSessionCacheMode::NO_INTERNAL);
        let collected = Arc::clone(&sessions);
        context.set_new_session_callback(move |_, session| {
            // As bytes, because OpenSSL marks session objects as not resumable when a connection
            // ends without a shutdown.
            let der = session.to_der().expect("a session to encode");
            collected
                .lock()
                .expect("no panic under this lock")
                .push(der);
        });
        adjust(&mut context)?;
        Ok(Self {
            context: context.build(),
            sessions,
            server_name: None,
        })
    }

    /// Sends `name` as the server name (SNI).
    #[must_use]
    pub fn server_name(mut self, name: &str) -> Self {
        self.server_name = Some(name.to_owned());
        self
    }

    /// Shakes hands over `stream`, offering `session`.
    ///
    /// A TLS 1.2 session is there by then; TLS 1.3 tickets come with the server's data.
    pub fn connect<S: Read + Write>(
        &self,
        stream: S,
        session: Option<&[u8]>,
    ) -> Result<SslStream<S>, HandshakeError<S>> {
        self.ssl(session)
            .map_err(HandshakeError::SetupFailure)?
            .connect(stream)
    }

    /// A connection whose handshake is still to be made.
    pub fn start<S: Read + Write>(
        &self,
        stream: S,
        session: Option<&[u8]>,
    ) -> Result<SslStream<S>, ErrorStack> {
        SslStream::new(self.ssl(session)?, stream)
    }

    /// The first flight of a handshake that goes no further.
    pub fn hello(&self, session: Option<&[u8]>) -> Vec<u8> {
        let mut stream = self.start(Sink::default(), session).expect("a client");
        let refused = stream.connect().expect_err("nobody answers");
        assert!(refused.io_error().is_some(), "{refused}");
        std::mem::take(&mut stream.get_mut().0)
    }

    /// What an asynchronous stream is made of, which offers `session`.
    pub fn ssl(&self, session: Option<&[u8]>) -> Result<Ssl, ErrorStack> {
        self.sessions
            .lock()
            .expect("no panic under this lock")
            .clear();
        let mut ssl = Ssl::new(&self.context)?;
        if let Some(name) = &self.server_name {
            ssl.set_hostname(name)?;
        }
        if let Some(der) = session {
            offer(&mut ssl, der)?;
        }
        Ok(ssl)
    }

    /// The sessions that the client has got from this connection so far.
    pub fn sessions<S>(&self, stream: &SslStream<S>) -> Vec<Vec<u8>> {
        if stream.ssl().version2() == Some(SslVersion::TLS1_3) {
            return self.given();
        }
        // The callback does not report a ticket renewed in a resumption. Without an id the session
        // cannot be offered.
        let session = stream
            .ssl()
            .session()
            .filter(|session| !session.id().is_empty());
        session
            .into_iter()
            .flat_map(|session| session.to_der())
            .collect()
    }

    /// The sessions that OpenSSL has reported from this connection: not a TLS 1.2 ticket that was
    /// renewed in a resumption.
    pub fn given(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.sessions.lock().expect("no panic under this lock"))
    }

    /// Reads until the server closes, closes too, and returns what there was to see.
    pub fn finish<S: Read + Write>(&self, mut stream: SslStream<S>) -> io::Result<Seen> {
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply)?;
        // The server may be gone already; the session is none the worse for it.
        let _ = stream.shutdown();
        let sessions = self.sessions(&stream);
        Ok(Seen {
            version: stream.ssl().version_str(),
            resumed: stream.ssl().session_reused(),
            sessions,
            reply,
        })
    }
}

/// Takes what is written, and has nothing to read.
#[derive(Default)]
struct Sink(Vec<u8>);

impl Read for Sink {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

impl Write for Sink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[expect(
    unsafe_code,
    reason = "`set_session` leaves it to the caller that the session is a client's"
)]
fn offer(ssl: &mut Ssl, der: &[u8]) -> Result<(), ErrorStack> {
    let session = SslSession::from_der(der)?;
    // SAFETY: the session has just been decoded, for this SSL alone.
    unsafe { ssl.set_session(&session) }
}
