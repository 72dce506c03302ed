//! What is known of the full handshake that a session descends from, for the application.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openssl::x509::{X509, X509Ref};

use super::chain::Chain;
use super::stamp::{ClientIs, Stamp};
use crate::base::hex;

/// The full handshake that a connection's session descends from: all sessions of one lineage do. A connection whose
/// handshake was full begins one. So does a client that gives a certificate after the handshake (RFC 8446, section
/// 4.6.2), with the next ticket that it gets, though its sessions end when those from before do.
///
/// It comes out of the session, where the client cannot change it: in a ticket it is sealed, in a store only who writes
/// to the store could change it (which [`Sealed`](crate::Sealed) prevents). What is damaged or forged resumes nothing.
#[derive(Clone)]
pub struct Lineage {
    id: [u8; 16],
    began: u64,
    data: Box<[u8]>,
    chain: Option<Vec<X509>>,
}

impl Lineage {
    /// `chain` has the client's certificate first.
    pub(crate) fn new(id: [u8; 16], began: u64, data: &[u8], chain: Option<Vec<X509>>) -> Self {
        Self {
            id,
            began,
            data: data.into(),
            chain,
        }
    }

    /// That of a session; `chain` is that of the stamp, if it is known.
    pub(crate) fn of_session(
        stamp: &Stamp,
        data: &[u8],
        certificate: Option<&X509Ref>,
        chain: Option<&Chain>,
    ) -> Self {
        let is_known =
            stamp.client == ClientIs::Verified && chain.map(Chain::hash) == stamp.chain.as_ref();
        let certificate = certificate.filter(|_| is_known);
        let chain = certificate.map(|certificate| Chain::with(certificate, chain));
        Self::new(stamp.lineage, stamp.time, data, chain)
    }

    /// 16 random bytes, the same in all connections of the lineage. An FTPS server, for one, can demand that a data
    /// connection has that of its control connection.
    #[must_use]
    pub fn id(&self) -> &[u8; 16] {
        &self.id
    }

    /// When the full handshake began, to the second, by the clock of the host that made it.
    #[must_use]
    pub fn full_handshake_at(&self) -> SystemTime {
        UNIX_EPOCH
            .checked_add(Duration::from_secs(self.began))
            .unwrap_or(UNIX_EPOCH)
    }

    /// What the application attached to the sessions of the lineage with
    /// [`session_data`](crate::Resumption::session_data); `None` if nothing.
    #[must_use]
    pub fn session_data(&self) -> Option<&[u8]> {
        (!self.data.is_empty()).then_some(&*self.data)
    }

    /// The client's certificate, and after it those of intermediate CAs that the client sent and that its verification
    /// used, each the issuer of the one before. Not the root, and not those that came from the server's own trust store
    /// alone. They were verified in the full handshake.
    ///
    /// `None` if the client gave no certificate, or one that did not verify and that a callback let pass. On a resumed
    /// connection also if this host does not have the certificates that the client sent: they travel in no ticket, and
    /// are kept in memory (some 1,000 of usual size, counted in
    /// [`CertificateStats`](crate::CertificateStats)) and in the store, if together they have at most 16 KiB.
    #[must_use]
    pub fn client_chain(&self) -> Option<&[X509]> {
        self.chain.as_deref()
    }
}

/// Shows the id and the time.
impl fmt::Debug for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lineage")
            .field("id", &hex(&self.id))
            .field("full_handshake_at", &self.full_handshake_at())
            .finish_non_exhaustive()
    }
}

/// A client that comes back with a session which is about to be resumed: what
/// [`admit_client`](crate::Resumption::admit_client) is asked about.
pub struct ReturningClient<'a> {
    certificate: Option<&'a X509Ref>,
    lineage: Lineage,
    age: Duration,
}

impl<'a> ReturningClient<'a> {
    pub(crate) fn new(certificate: Option<&'a X509Ref>, lineage: Lineage, now: SystemTime) -> Self {
        let age = now.duration_since(lineage.full_handshake_at());
        Self {
            certificate,
            lineage,
            age: age.unwrap_or_default(),
        }
    }

    /// The certificate that the client gave in the full handshake; `None` if it gave none, or a raw public key.
    #[must_use]
    pub fn certificate(&self) -> Option<&X509Ref> {
        self.certificate
    }

    /// The full handshake that the session descends from.
    #[must_use]
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// How long ago the full handshake began; zero if it began in the future, by another host's clock.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.age
    }
}

/// Shows the lineage and the age.
impl fmt::Debug for ReturningClient<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReturningClient")
            .field("has_certificate", &self.certificate.is_some())
            .field("lineage", &self.lineage)
            .field("age", &self.age)
            .finish()
    }
}
