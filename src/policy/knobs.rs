//! The knobs of a policy.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::base::DropShield;
use crate::outcome::Outcome;
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

/// Whether sessions of clients with a certificate are resumed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientCertificates {
    /// They are, until the certificate's `notAfter` at most.
    #[default]
    Resume,
    /// They are not: each connection verifies the certificate anew.
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
