//! The policy itself: a mode, knobs, and what clones share.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::knobs::{DEFAULT_LIFETIME, DEFAULT_MAX_DECODED, DEFAULT_MAX_SESSION_SIZE, Knobs};
use super::mode::Mode;
use super::shared::Shared;
use super::stats::Stats;
use crate::base::{DropShield, MAX_LIFETIME, catch, unix_seconds};
use crate::keys::TicketKeys;
use crate::store::SessionStore;

/// How TLS sessions resume: one of four modes, its knobs, and what connections share.
///
/// | | [stateful](Self::stateful) | [stateless](Self::stateless) | [hybrid](Self::hybrid) | [off](Self::off) |
/// |---|---|---|---|---|
/// | TLS 1.2, client with ticket extension | session id → store | ticket | ticket | full |
/// | TLS 1.2, client without | session id → store | full | session id → store | full |
/// | TLS 1.3, client without certificate | 32-byte ticket → store | ticket | ticket | full, no tickets sent |
/// | TLS 1.3, client with certificate | 32-byte ticket → store | ticket | 32-byte ticket → store | full, no tickets sent |
///
/// A policy is applied to contexts with
/// [`set_resumption`](crate::SslContextBuilderExt::set_resumption), which copies the mode and the
/// knobs into the context; the store, the keys and the statistics stay shared. One policy serves
/// many contexts and outlives them: when a certificate is reloaded, a new context with the same
/// policy resumes the sessions of the old one. Clones share the same; the knobs change only the
/// value they return.
#[derive(Clone)]
pub struct Resumption {
    pub(super) mode: Mode,
    pub(super) knobs: Knobs,
    pub(super) shared: Arc<Shared>,
}

impl Resumption {
    /// How long a session lives unless [`lifetime`](Self::lifetime) says otherwise: 24 hours.
    pub const DEFAULT_LIFETIME: Duration = DEFAULT_LIFETIME;

    /// How large a stored session may be unless [`max_session_size`](Self::max_session_size) says
    /// otherwise: 16 KiB.
    pub const DEFAULT_MAX_SESSION_SIZE: usize = DEFAULT_MAX_SESSION_SIZE;

    /// How many bytes of sessions are kept decoded unless [`max_decoded`](Self::max_decoded) says
    /// otherwise: 32 MiB.
    pub const DEFAULT_MAX_DECODED: usize = DEFAULT_MAX_DECODED;

    /// The longest lifetime: 7 days, the bound of RFC 8446, section 4.6.1.
    pub const MAX_LIFETIME: Duration = MAX_LIFETIME;

    /// Sessions live in `store`; the client holds only a session id (TLS 1.2) or a 32-byte ticket
    /// that is one (TLS 1.3).
    ///
    /// Go's clients never resume TLS 1.2 here: Go has tickets only, no TLS 1.2 session ids. In
    /// [`hybrid`](Self::hybrid) and [`stateless`](Self::stateless) mode they do.
    ///
    /// Sets `SSL_OP_NO_TICKET` and the session cache mode `SERVER | NO_INTERNAL | NO_AUTO_CLEAR`.
    #[must_use]
    pub fn stateful(store: impl SessionStore) -> Self {
        Self::new(Mode::Stateful(DropShield::new(Arc::new(store))))
    }

    /// Sessions live with the client, in tickets sealed under `keys` (RFC 5077; RFC 8446, section
    /// 4.6.1). The server stores nothing, and session callbacks are never reached.
    ///
    /// Clears `SSL_OP_NO_TICKET` and sets the session cache mode `NO_INTERNAL`.
    #[must_use]
    pub fn stateless(keys: TicketKeys) -> Self {
        Self::new(Mode::Stateless(keys))
    }

    /// Tickets for clients that take them; `store` for TLS 1.3 clients with a certificate (or raw public key), whose
    /// tickets would carry it back and forth, and for TLS 1.2 clients without tickets, or all of them with
    /// [`tls12_tickets(false)`](Self::tls12_tickets).
    ///
    /// In TLS 1.2 the choice falls before the client's certificate is known, so a client with one gets a ticket with
    /// the certificate in it. A client may come back with either kind at any host that has the keys and the store.
    ///
    /// To tell the two kinds of TLS 1.3 tickets apart the message callback of the context is taken
    /// (`SSL_CTX_set_msg_callback`, which the `openssl` crate does not set), and `SSL_OP_NO_TICKET` of each connection
    /// is switched as its client needs. Should another message callback be set afterwards, all tickets are
    /// sealed, and those of 32 bytes are declined.
    ///
    /// Clears `SSL_OP_NO_TICKET` and sets the session cache mode
    /// `SERVER | NO_INTERNAL | NO_AUTO_CLEAR`.
    #[must_use]
    pub fn hybrid(store: impl SessionStore, keys: TicketKeys) -> Self {
        Self::new(Mode::Hybrid(DropShield::new(Arc::new(store)), keys))
    }

    /// No session resumes, and no tickets are sent.
    ///
    /// Sets `SSL_OP_NO_TICKET`, `SSL_CTX_set_num_tickets` to 0 (without that, OpenSSL sends TLS 1.3
    /// tickets that it will never accept) and the session cache mode `NO_INTERNAL`.
    #[must_use]
    pub fn off() -> Self {
        Self::new(Mode::Off)
    }

    fn new(mode: Mode) -> Self {
        Self {
            mode,
            knobs: Knobs::default(),
            shared: Arc::default(),
        }
    }

    /// Ends all sessions made so far, in the store and in tickets alike: from the next handshake on
    /// they are not resumed.
    ///
    /// This and the other two hold for all clones and contexts of the policy, in this process,
    /// until it ends. A session made later in the same second ends too; its client does one more
    /// full handshake.
    pub fn forget_all(&self) {
        self.shared.forgotten.forget_before(self.newest());
    }

    /// Ends all sessions whose full handshake began in or before the second of `time`. An earlier
    /// time than one given before changes nothing; a future one lets nothing resume until then.
    pub fn forget_before(&self, time: SystemTime) {
        self.shared.forgotten.forget_before(unix_seconds(time));
    }

    /// Ends all sessions made so far by clients with this certificate, named by the SHA-256 of its
    /// DER (the fingerprint that `openssl x509 -fingerprint -sha256` prints), or with this raw public key
    /// (RFC 7250), named by the SHA-256 of its SubjectPublicKeyInfo.
    ///
    /// It does not keep the client from a full handshake: have its certificate fail verification
    /// first. The list holds 10,000 certificates, each for a lifetime; one more when it is full is
    /// [`forget_all`](Self::forget_all).
    pub fn forget_client(&self, sha256: [u8; 32]) {
        let lifetime = self.longest_lifetime();
        self.shared
            .forgotten
            .forget(sha256, self.newest(), lifetime);
    }

    /// A snapshot of what has been counted since the policy was made.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.shared.counters.snapshot();
        stats.store.usage = self
            .store()
            .and_then(|store| catch(AssertUnwindSafe(|| store.usage())).flatten());
        stats.certificates.verdicts = self.shared.verdicts.len();
        let (chains, bytes) = self.shared.chains.usage();
        (stats.certificates.chains, stats.certificates.chain_bytes) = (chains, bytes);
        if let Some(keys) = self.keys() {
            stats.tickets.key_age = keys.age(SystemTime::now());
            stats.tickets.key_failures = keys.failures();
            stats.tickets.key_failing = keys.last_error().is_some();
        }
        stats
    }

    /// Why the store failed last, in its own words and however long ago: see
    /// [`SessionStore::last_error`]. Whether it goes on failing is in [`stats`](Self::stats), as
    /// `store.errors` and `store.usage`. `None` if it never failed or does not remember, or if the
    /// mode has no store.
    #[must_use]
    pub fn last_store_error(&self) -> Option<String> {
        self.store()
            .and_then(|store| catch(AssertUnwindSafe(|| store.last_error())).flatten())
    }
}

/// Shows the mode and the knobs but the generation, the names of ticket keys, and no secret.
impl fmt::Debug for Resumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            Mode::Stateful(_) => "stateful",
            Mode::Stateless(_) => "stateless",
            Mode::Hybrid(..) => "hybrid",
            Mode::Off => "off",
        };
        let knobs = &self.knobs;
        let mut shown = f.debug_struct("Resumption");
        shown
            .field("mode", &mode)
            .field("scope", &String::from_utf8_lossy(&knobs.scope))
            .field("lifetime", &knobs.lifetime)
            .field("tickets", &knobs.tickets)
            .field("client_certificates", &knobs.client_certificates)
            .field("admit_client", &knobs.admit.is_some())
            .field("session_data", &knobs.session_data.is_some())
            .field("tls12_tickets", &knobs.tls12_tickets)
            .field("not_before", &knobs.not_before)
            .field("single_use", &knobs.single_use)
            .field("strict", &knobs.strict)
            .field("max_session_size", &knobs.max_session_size)
            .field("max_decoded", &knobs.max_decoded)
            .field("early_data", &knobs.early.max_bytes)
            .field("replay_register", &knobs.early.register.is_some())
            .field("clock_skew", &knobs.early.skew)
            .field("keys", &self.keys());
        #[cfg(feature = "tokio")]
        shown.field("suspension", &knobs.suspension);
        shown.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

    #[test]
    fn knobs_change_only_the_value_they_return() {
        let policy = Resumption::off();
        let other = policy
            .clone()
            .scope("shop")
            .lifetime(Duration::from_secs(5))
            .tickets(7);
        assert_eq!(policy.knobs.lifetime, Resumption::DEFAULT_LIFETIME);
        assert_ne!(policy.id_context(), other.id_context());
        assert!(Arc::ptr_eq(&policy.shared, &other.shared));
    }

    #[test]
    fn the_default_number_of_tickets_depends_on_the_mode() {
        let stateful = Resumption::stateful(MemoryStore::default());
        let stateless = Resumption::stateless(TicketKeys::random());
        assert_eq!(stateful.settings().num_tickets, 1);
        assert_eq!(stateless.settings().num_tickets, 2);
        assert_eq!(stateless.tickets(5).settings().num_tickets, 5);
        assert_eq!(Resumption::off().tickets(5).settings().num_tickets, 0);
    }
}
