//! What the rest of the library asks of a policy.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use openssl::sha::Sha256;
use openssl::ssl::{SslSessionCacheMode, SslSessionRef};

use super::{ClientCertificates, Mode, Resumption};
use crate::context::Settings;
use crate::ffi;
use crate::forgotten::Forgotten;
use crate::keys::TicketKeys;
use crate::late::LateDemands;
use crate::masters::{Master, Masters};
use crate::outcome::Outcome;
use crate::stamp::{self, Binding, unix_seconds};
use crate::stats::Counters;
use crate::store::{Session, SessionStore};

impl Resumption {
    pub(crate) fn store(&self) -> Option<&dyn SessionStore> {
        match &self.mode {
            Mode::Stateful(store) | Mode::Hybrid(store, _) => Some(&***store),
            Mode::Stateless(_) | Mode::Off => None,
        }
    }

    pub(crate) fn keys(&self) -> Option<&TicketKeys> {
        match &self.mode {
            Mode::Stateless(keys) | Mode::Hybrid(_, keys) => Some(keys),
            Mode::Stateful(_) | Mode::Off => None,
        }
    }

    pub(crate) fn is_single_use(&self) -> bool {
        self.single_use
    }

    pub(crate) fn is_strict(&self) -> bool {
        self.strict
    }

    pub(crate) fn max_session_size_value(&self) -> usize {
        self.max_session_size
    }

    /// What single use lacks, if it is asked for.
    pub(crate) fn lacks_for_single_use(&self) -> Option<&'static str> {
        match &self.mode {
            _ if !self.single_use => None,
            Mode::Stateful(store) if store.takes_once() => None,
            Mode::Stateful(_) => Some("a store whose `take` is atomic (`takes_once`)"),
            _ => Some("the stateful mode"),
        }
    }

    pub(crate) fn is_off(&self) -> bool {
        matches!(self.mode, Mode::Off)
    }

    pub(crate) fn lifetime_value(&self) -> Duration {
        self.lifetime
    }

    pub(crate) fn scope_bytes(&self) -> &[u8] {
        &self.scope
    }

    /// Tells the hook, with a guard of its own: the caller has more to do, for us and for others.
    pub(crate) fn tell(&self, outcome: &Outcome) {
        if let Some(hook) = &self.on_outcome {
            ffi::shielded((), || hook(outcome));
        }
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    pub(crate) fn masters(&self) -> &Arc<Masters> {
        &self.shared.masters
    }

    /// A master of a session with these bytes, if it is dear to decode and small enough to keep.
    pub(crate) fn master_of(&self, session: &SslSessionRef, record: &Session) -> Option<Master> {
        ffi::peer_certificate(session)?;
        Master::new(session, record, self.max_decoded)
    }

    pub(crate) fn forgotten(&self) -> &Forgotten {
        &self.shared.forgotten
    }

    /// What contexts of the policy have seen demanded late.
    pub(crate) fn late(&self) -> &LateDemands {
        &self.shared.late
    }

    /// In seconds. Contexts may have been given a clone with a longer lifetime.
    pub(crate) fn longest_lifetime(&self) -> u64 {
        let applied = self.shared.lifetime.load(Relaxed);
        applied.max(self.lifetime.as_secs())
    }

    /// The second that no session made so far is younger than.
    pub(super) fn newest(&self) -> u64 {
        let now = unix_seconds(SystemTime::now());
        // What is further ahead than a lifetime does not resume now.
        let ahead = now.saturating_add(self.longest_lifetime());
        self.shared.newest.load(Relaxed).min(ahead).max(now)
    }

    /// A handshake begins.
    pub(crate) fn note_started(&self, second: u64) {
        // Most begin in the second of the one before, and need not write.
        if self.shared.newest.load(Relaxed) < second {
            self.shared.newest.fetch_max(second, Relaxed);
        }
    }

    pub(crate) fn has_generation(&self) -> bool {
        !self.generation.is_empty()
    }

    /// A context begins to make sessions of this lifetime.
    pub(crate) fn note_lifetime(&self) {
        self.shared
            .lifetime
            .fetch_max(self.lifetime.as_secs(), Relaxed);
    }

    pub(crate) fn resumes_certificates(&self) -> bool {
        self.client_certificates == ClientCertificates::Resume
    }

    pub(crate) fn cutoff(&self) -> Option<u64> {
        self.not_before
            .map(unix_seconds)
            .max(self.shared.forgotten.cutoff())
    }

    pub(crate) fn binding(&self, server_name: Option<&[u8]>) -> Binding {
        stamp::binding(&self.scope, server_name, &self.generation)
    }

    /// The session id context of the scope, never empty. Short, because it is in every session; what
    /// a session is bound to is in its stamp.
    pub(crate) fn id_context(&self) -> [u8; 6] {
        let mut hash = Sha256::new();
        hash.update(b"openssl-resumption session id context 1\0");
        hash.update(&self.scope);
        *hash.finish().first_chunk().expect("6 is less than 32")
    }

    /// The table of modes, as settings of a context.
    pub(crate) fn settings(&self) -> Settings {
        let tickets = |default| usize::from(self.tickets.unwrap_or(default));
        let with_store = SslSessionCacheMode::SERVER
            | SslSessionCacheMode::NO_INTERNAL
            | SslSessionCacheMode::NO_AUTO_CLEAR;
        let without_store = SslSessionCacheMode::NO_INTERNAL;
        let (no_ticket, cache_mode, num_tickets) = match self.mode {
            Mode::Stateful(_) => (true, with_store, tickets(1)),
            Mode::Stateless(_) => (false, without_store, tickets(2)),
            Mode::Hybrid(..) => (false, with_store, tickets(2)),
            Mode::Off => (true, without_store, 0),
        };
        Settings {
            no_ticket,
            cache_mode,
            num_tickets,
            session_callbacks: self.store().is_some(),
        }
    }
}
