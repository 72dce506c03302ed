//! What the rest of the library asks of a policy, and tells it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use openssl::sha::Sha256;

use super::counters::Counters;
use super::decoded::Decoded;
use super::forgotten::Forgotten;
use super::knobs::Knobs;
use super::late_demands::LateDemands;
use super::mode::Mode;
use super::resumption::Resumption;
use crate::base::unix_seconds;
use crate::ffi::{self, Asked, Settings};
use crate::keys::TicketKeys;
use crate::outcome::Outcome;
use crate::session::{self, Binding};
use crate::store::SessionStore;

impl Resumption {
    pub(crate) fn store(&self) -> Option<&dyn SessionStore> {
        self.mode.store()
    }

    pub(crate) fn keys(&self) -> Option<&TicketKeys> {
        self.mode.keys()
    }

    /// What single use lacks, if it is asked for.
    pub(crate) fn lacks_for_single_use(&self) -> Option<&'static str> {
        match &self.mode {
            _ if !self.knobs.single_use => None,
            Mode::Stateful(store) | Mode::Hybrid(store, _) if store.takes_once() => None,
            Mode::Stateful(_) | Mode::Hybrid(..) => {
                Some("a store whose `take` is atomic (`takes_once`)")
            }
            _ => Some(
                "a mode with a store (for early data in another one a replay register will do)",
            ),
        }
    }

    /// Whether sessions are to be forgotten that the server does not have.
    pub(crate) fn is_strict_in_vain(&self) -> bool {
        self.knobs.strict && matches!(self.mode, Mode::Stateless(_))
    }

    pub(crate) fn knobs(&self) -> &Knobs {
        &self.knobs
    }

    pub(crate) fn is_off(&self) -> bool {
        matches!(self.mode, Mode::Off)
    }

    /// Tells the hook, with a guard of its own: the caller has more to do, for us and for others.
    pub(crate) fn tell(&self, outcome: &Outcome) {
        if let Some(hook) = &self.knobs.on_outcome {
            ffi::shielded((), || hook(outcome));
        }
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    pub(crate) fn decoded(&self) -> &Arc<Decoded> {
        &self.shared.decoded
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
        applied.max(self.knobs.lifetime.as_secs())
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
        !self.knobs.generation.is_empty()
    }

    /// A context begins to make sessions of this lifetime.
    pub(crate) fn note_lifetime(&self) {
        self.shared
            .lifetime
            .fetch_max(self.knobs.lifetime.as_secs(), Relaxed);
    }

    pub(crate) fn cutoff(&self) -> Option<u64> {
        self.knobs
            .not_before
            .map(unix_seconds)
            .max(self.shared.forgotten.cutoff())
    }

    pub(crate) fn binding(&self, server_name: Option<&[u8]>) -> Binding {
        session::binding(&self.knobs.scope, server_name, &self.knobs.generation)
    }

    /// The session id context of the scope, never empty. Short, because it is in every session; what
    /// a session is bound to is in its stamp.
    pub(crate) fn id_context(&self) -> [u8; 6] {
        let mut hash = Sha256::new();
        hash.update(b"openssl-resumption session id context 1\0");
        hash.update(&self.knobs.scope);
        *hash.finish().first_chunk().expect("6 is less than 32")
    }

    /// What the policy sets on a context.
    pub(crate) fn settings(&self) -> Settings {
        self.mode
            .settings(self.knobs.tickets, self.knobs.tls12_tickets)
    }

    /// Whether tickets of two kinds are given out, or of one kind in TLS 1.3 alone.
    pub(crate) fn reads_hellos(&self) -> bool {
        match self.mode {
            Mode::Hybrid(..) => true,
            Mode::Stateless(_) => !self.knobs.tls12_tickets,
            Mode::Stateful(_) | Mode::Off => false,
        }
    }

    /// What OpenSSL is to ask.
    pub(crate) fn asked(&self) -> Asked {
        Asked {
            keys: self.keys().is_some(),
            hellos: self.reads_hellos(),
        }
    }

    pub(crate) fn gives_tls12_tickets(&self) -> bool {
        self.knobs.tls12_tickets
    }
}
