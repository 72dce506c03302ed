//! The policy: a mode and its knobs.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use openssl::sha::Sha256;
use openssl::ssl::SslSessionCacheMode;

use crate::context::Settings;
use crate::guard::catch;
use crate::keys::TicketKeys;
use crate::stats::{Counters, Stats};
use crate::store::SessionStore;

/// How TLS sessions resume: one of four modes, its knobs, and what connections share.
///
/// | | [stateful](Self::stateful) | [stateless](Self::stateless) | [hybrid](Self::hybrid) | [off](Self::off) |
/// |---|---|---|---|---|
/// | TLS 1.2, client with ticket extension | session id → store | ticket | ticket | full |
/// | TLS 1.2, client without | session id → store | full | session id → store | full |
/// | TLS 1.3 | 32-byte stateful ticket → store | ticket | ticket | full, no tickets sent |
///
/// A policy is applied to contexts with
/// [`set_resumption`](crate::SslContextBuilderExt::set_resumption), which copies the mode and the knobs
/// into the context; the store, the keys and the statistics stay shared. One policy serves many
/// contexts and outlives them: when a certificate is reloaded, a new context with the same policy
/// resumes the sessions of the old one. Clones share the same; the knobs change only the value they
/// return.
#[derive(Clone)]
pub struct Resumption {
    mode: Mode,
    scope: Arc<[u8]>,
    lifetime: Duration,
    tickets: Option<u8>,
    counters: Arc<Counters>,
}

#[derive(Clone)]
enum Mode {
    Stateful(Arc<dyn SessionStore>),
    Stateless(TicketKeys),
    Hybrid(Arc<dyn SessionStore>, TicketKeys),
    Off,
}

impl Resumption {
    /// How long a session lives unless [`lifetime`](Self::lifetime) says otherwise: 24 hours.
    pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

    /// The longest lifetime: 7 days, the bound of RFC 8446, section 4.6.1.
    pub const MAX_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

    /// Sessions live in `store`; the client holds only a session id (TLS 1.2) or a 32-byte ticket
    /// that is one (TLS 1.3).
    ///
    /// Sets `SSL_OP_NO_TICKET` and the session cache mode `SERVER | NO_INTERNAL | NO_AUTO_CLEAR`.
    #[must_use]
    pub fn stateful(store: impl SessionStore) -> Self {
        Self::new(Mode::Stateful(Arc::new(store)))
    }

    /// Sessions live with the client, in tickets sealed under `keys` (RFC 5077; RFC 8446, section
    /// 4.6.1). The server stores nothing, and session callbacks are never reached.
    ///
    /// Clears `SSL_OP_NO_TICKET` and sets the session cache mode `NO_INTERNAL`.
    #[must_use]
    pub fn stateless(keys: TicketKeys) -> Self {
        Self::new(Mode::Stateless(keys))
    }

    /// Tickets for clients that take them, `store` for TLS 1.2 clients that do not.
    ///
    /// Clears `SSL_OP_NO_TICKET` and sets the session cache mode
    /// `SERVER | NO_INTERNAL | NO_AUTO_CLEAR`.
    #[must_use]
    pub fn hybrid(store: impl SessionStore, keys: TicketKeys) -> Self {
        Self::new(Mode::Hybrid(Arc::new(store), keys))
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
            scope: Arc::from([]),
            lifetime: Self::DEFAULT_LIFETIME,
            tickets: None,
            counters: Arc::default(),
        }
    }

    /// The name of the application that sessions belong to; empty by default, of any length.
    ///
    /// Sessions resume only within one scope: it is hashed into the session id context
    /// (`SSL_CTX_set_session_id_context`) and into the keys of the store. Give applications that
    /// share a store or ticket keys a scope each; give all servers of one application the same.
    #[must_use]
    pub fn scope(mut self, scope: impl AsRef<[u8]>) -> Self {
        self.scope = scope.as_ref().into();
        self
    }

    /// How long a session lives; 24 hours by default, at least 1 second, at most 7 days
    /// ([`Error::Lifetime`](crate::Error::Lifetime) outside). Counted in whole seconds, rounded down.
    ///
    /// Drives `SSL_CTX_set_timeout`, and with it the lifetime hint of tickets. In TLS 1.3 each
    /// resumption brings a new ticket with a new lifetime.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// How many tickets a full TLS 1.3 handshake sends (`SSL_CTX_set_num_tickets`); a resumed one
    /// sends at most one.
    ///
    /// 2 by default in stateless and hybrid mode, 1 in stateful mode, where each is a session in
    /// the store. With 0 no TLS 1.3 session ever resumes. Off sends none whatever this says.
    #[must_use]
    pub fn tickets(mut self, tickets: u8) -> Self {
        self.tickets = Some(tickets);
        self
    }

    /// A snapshot of what has been counted since the policy was made.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = self.counters.snapshot();
        stats.store.usage = self
            .store()
            .and_then(|store| catch(AssertUnwindSafe(|| store.usage())).flatten());
        if let Some(keys) = self.keys() {
            stats.tickets.key_age = keys.age(SystemTime::now());
            stats.tickets.key_failures = keys.failures();
        }
        stats
    }

    pub(crate) fn store(&self) -> Option<&dyn SessionStore> {
        match &self.mode {
            Mode::Stateful(store) | Mode::Hybrid(store, _) => Some(&**store),
            Mode::Stateless(_) | Mode::Off => None,
        }
    }

    pub(crate) fn keys(&self) -> Option<&TicketKeys> {
        match &self.mode {
            Mode::Stateless(keys) | Mode::Hybrid(_, keys) => Some(keys),
            Mode::Stateful(_) | Mode::Off => None,
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

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The session id context of the scope: as long as OpenSSL allows, never empty (P6).
    pub(crate) fn id_context(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"openssl-resumption session id context 1\0");
        hash.update(&self.scope);
        hash.finish()
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

/// Shows the mode and the knobs, the names of ticket keys, and no secret.
impl fmt::Debug for Resumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            Mode::Stateful(_) => "stateful",
            Mode::Stateless(_) => "stateless",
            Mode::Hybrid(..) => "hybrid",
            Mode::Off => "off",
        };
        f.debug_struct("Resumption")
            .field("mode", &mode)
            .field("scope", &String::from_utf8_lossy(&self.scope))
            .field("lifetime", &self.lifetime)
            .field("tickets", &self.tickets)
            .field("keys", &self.keys())
            .finish_non_exhaustive()
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
        assert_eq!(policy.lifetime, Resumption::DEFAULT_LIFETIME);
        assert_ne!(policy.id_context(), other.id_context());
        assert!(Arc::ptr_eq(&policy.counters, &other.counters));
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
