//! The knobs of a policy.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use openssl::ssl::SslRef;

use crate::base::DropShield;
use crate::outcome::Outcome;
use crate::session::ReturningClient;
use crate::store::ReplayRegister;

pub(super) const DEFAULT_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
pub(super) const DEFAULT_MAX_SESSION_SIZE: usize = 16 * 1024;
pub(super) const DEFAULT_MAX_DECODED: usize = 32 * 1024 * 1024;
pub(super) const DEFAULT_CLOCK_SKEW: Duration = Duration::from_secs(30);
#[cfg(feature = "tokio")]
pub(super) const DEFAULT_LOOKUP_DEADLINE: Duration = Duration::from_secs(2);

/// What each of them does is said where it is set.
#[derive(Clone)]
pub(crate) struct Knobs {
    pub(crate) scope: Arc<[u8]>,
    pub(crate) lifetime: Duration,
    pub(super) tickets: Option<u8>,
    pub(super) generation: Arc<[u8]>,
    pub(super) client_certificates: ClientCertificates,
    pub(super) admit: Option<AdmitHook>,
    pub(super) session_data: Option<DataHook>,
    pub(super) tls12_tickets: bool,
    pub(super) not_before: Option<SystemTime>,
    pub(super) single_use: bool,
    pub(crate) strict: bool,
    pub(crate) max_session_size: usize,
    #[cfg(feature = "tokio")]
    pub(crate) suspension: Suspension,
    pub(super) on_outcome: Option<Hook>,
    pub(super) max_decoded: usize,
    pub(super) early: Early,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            scope: Arc::from([]),
            lifetime: DEFAULT_LIFETIME,
            tickets: None,
            generation: Arc::from([]),
            client_certificates: ClientCertificates::default(),
            admit: None,
            session_data: None,
            tls12_tickets: true,
            not_before: None,
            single_use: false,
            strict: false,
            max_session_size: DEFAULT_MAX_SESSION_SIZE,
            #[cfg(feature = "tokio")]
            suspension: Suspension::default(),
            on_outcome: None,
            max_decoded: DEFAULT_MAX_DECODED,
            early: Early::default(),
        }
    }
}

/// What becomes of sessions of clients with a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientCertificates {
    /// They are resumed, until the certificate's `notAfter` at most. Nobody looks at the certificate again: one that
    /// was revoked resumes until its session ends.
    #[default]
    Resume,
    /// They are resumed if the certificate passes what a full handshake would ask of it now: the trust store with its
    /// revocation lists, flags, purpose and depth, the connection's verify parameters and security level. What does not
    /// pass is declined ([`Reason::NotTrusted`](crate::Reason::NotTrusted)), and the full handshake that follows
    /// decides by its own rules.
    ///
    /// The certificates that a client sent beside its own are needed for that. They are kept in memory and in
    /// the store, up to 16 KiB of them; a host that does not have them does a full handshake
    /// ([`Reason::UnknownChain`](crate::Reason::UnknownChain)).
    ///
    /// A look takes 100 to 300 µs (P-256; more certificates take longer). Its verdict is remembered, for 65,536 full
    /// handshakes at a time, until the trust store gets another certificate or revocation list, one of them begins or
    /// ends, or [`trust_changed`](crate::Resumption::trust_changed) is called. For connections with a trust store of
    /// their own nothing is remembered.
    ///
    /// Not resumed are sessions
    ///
    /// - where a verify callback decides (`SSL_CTX_set_verify`, `SSL_set_verify`, `X509_STORE_set_verify_cb`): it cannot
    ///   be asked at the lookup, when the server name callback has not run and the client has not proven anything. If it
    ///   is stricter than OpenSSL, give its rule to [`admit_client`](crate::Resumption::admit_client) and do without it.
    ///   (A callback of `SSL_CTX_set_cert_verify_callback` cannot be seen, and is not asked when a session resumes.)
    /// - of a certificate that did not verify in the full handshake, and that a callback let pass;
    /// - of a raw public key (RFC 7250);
    /// - where the connection asks for no certificate when the session is looked up, unless a full handshake of the same
    ///   server name has shown, since the process began, what the server name callback demands.
    ///
    /// Should the server name callback demand more than in the last full handshake of the name, a connection that has
    /// resumed by then is failed ([`Stats::failed_closed`](crate::Stats::failed_closed)), and sessions of that lineage
    /// are declined from then on. An IP address or a purpose that it demands is asked of full handshakes alone.
    Verify,
    /// They are not resumed: each connection verifies the certificate anew.
    Never,
}

/// Early data.
#[derive(Clone)]
pub(super) struct Early {
    pub(super) max_bytes: u32,
    pub(super) skew: Duration,
    pub(super) register: Option<DropShield<Arc<dyn ReplayRegister>>>,
}

impl Default for Early {
    fn default() -> Self {
        Self {
            max_bytes: 0,
            skew: DEFAULT_CLOCK_SKEW,
            register: None,
        }
    }
}

pub(super) type AdmitHook = DropShield<Arc<dyn Fn(&ReturningClient<'_>) -> bool + Send + Sync>>;

pub(super) type DataHook = DropShield<Arc<dyn Fn(&SslRef) -> Option<Vec<u8>> + Send + Sync>>;

pub(super) type Hook = DropShield<Arc<dyn Fn(&Outcome) + Send + Sync>>;

/// The knobs of `accept_async`.
#[cfg(feature = "tokio")]
#[derive(Debug, Clone)]
pub(crate) struct Suspension {
    /// Whether the ClientHello callback is ours to set.
    pub(crate) install: bool,
    pub(crate) deadline: Duration,
}

#[cfg(feature = "tokio")]
impl Default for Suspension {
    fn default() -> Self {
        Self {
            install: false,
            deadline: DEFAULT_LOOKUP_DEADLINE,
        }
    }
}
