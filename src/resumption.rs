//! The policy: a mode and its knobs.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

#[cfg(feature = "tokio")]
use crate::accept::Suspension;
use crate::forgotten::Forgotten;
use crate::guard::{DropShield, catch};
use crate::keys::TicketKeys;
use crate::late::LateDemands;
use crate::masters::Masters;
use crate::outcome::Outcome;
use crate::stamp::unix_seconds;
use crate::stats::{Counters, Stats};
use crate::store::SessionStore;

mod policy;

/// How TLS sessions resume: one of four modes, its knobs, and what connections share.
///
/// | | [stateful](Self::stateful) | [stateless](Self::stateless) | [hybrid](Self::hybrid) | [off](Self::off) |
/// |---|---|---|---|---|
/// | TLS 1.2, client with ticket extension | session id → store | ticket | ticket | full |
/// | TLS 1.2, client without | session id → store | full | session id → store | full |
/// | TLS 1.3 | 32-byte stateful ticket → store | ticket | ticket | full, no tickets sent |
///
/// A policy is applied to contexts with
/// [`set_resumption`](crate::SslContextBuilderExt::set_resumption), which copies the mode and the
/// knobs into the context; the store, the keys and the statistics stay shared. One policy serves
/// many contexts and outlives them: when a certificate is reloaded, a new context with the same
/// policy resumes the sessions of the old one. Clones share the same; the knobs change only the
/// value they return.
#[derive(Clone)]
pub struct Resumption {
    mode: Mode,
    scope: Arc<[u8]>,
    lifetime: Duration,
    tickets: Option<u8>,
    generation: Arc<[u8]>,
    client_certificates: ClientCertificates,
    not_before: Option<SystemTime>,
    single_use: bool,
    strict: bool,
    max_session_size: usize,
    #[cfg(feature = "tokio")]
    pub(crate) suspension: Suspension,
    on_outcome: Option<Hook>,
    max_decoded: usize,
    shared: Arc<Shared>,
}

/// What clones of a policy have in common, beside the store and the keys.
#[derive(Default)]
struct Shared {
    counters: Counters,
    forgotten: Forgotten,
    late: LateDemands,
    masters: Arc<Masters>,
    /// When the newest handshake began, in seconds since the Unix epoch. Not always in the past:
    /// the clock may have been ahead.
    newest: AtomicU64,
    /// The longest lifetime, in seconds, that the policy was applied with.
    lifetime: AtomicU64,
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

type Store = DropShield<Arc<dyn SessionStore>>;

type Hook = DropShield<Arc<dyn Fn(&Outcome) + Send + Sync>>;

#[derive(Clone)]
enum Mode {
    Stateful(Store),
    Stateless(TicketKeys),
    Hybrid(Store, TicketKeys),
    Off,
}

impl Resumption {
    /// How long a session lives unless [`lifetime`](Self::lifetime) says otherwise: 24 hours.
    pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

    /// How large a stored session may be unless [`max_session_size`](Self::max_session_size) says
    /// otherwise: 16 KiB.
    pub const DEFAULT_MAX_SESSION_SIZE: usize = 16 * 1024;

    /// How many bytes of sessions are kept decoded unless [`max_decoded`](Self::max_decoded) says
    /// otherwise: 32 MiB.
    pub const DEFAULT_MAX_DECODED: usize = 32 * 1024 * 1024;

    /// The longest lifetime: 7 days, the bound of RFC 8446, section 4.6.1.
    pub const MAX_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

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

    /// Tickets for clients that take them, `store` for TLS 1.2 clients that do not.
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
            scope: Arc::from([]),
            lifetime: Self::DEFAULT_LIFETIME,
            tickets: None,
            generation: Arc::from([]),
            client_certificates: ClientCertificates::default(),
            not_before: None,
            single_use: false,
            strict: false,
            max_session_size: Self::DEFAULT_MAX_SESSION_SIZE,
            #[cfg(feature = "tokio")]
            suspension: Suspension::default(),
            on_outcome: None,
            max_decoded: Self::DEFAULT_MAX_DECODED,
            shared: Arc::default(),
        }
    }

    /// The name of the application that sessions belong to; empty by default, of any length.
    ///
    /// Sessions resume only within one scope: it is hashed into the session id context
    /// (`SSL_CTX_set_session_id_context`) and into the keys of the store. Give applications that
    /// share a store or ticket keys a scope each; give all servers of one application the same.
    ///
    /// A scope may be as small as one connection: an FTPS server that applies the policy to a context for
    /// each control connection, with a scope of its own, resumes on its data connections the sessions of that
    /// control connection and no others (`GUIDE.md` has the recipe).
    #[must_use]
    pub fn scope(mut self, scope: impl AsRef<[u8]>) -> Self {
        self.scope = scope.as_ref().into();
        self
    }

    /// How long a session lives from its full handshake; 24 hours by default, at least 1 second, at
    /// most 7 days ([`Error::Lifetime`](crate::Error::Lifetime) outside). Counted in whole seconds,
    /// rounded down.
    ///
    /// Resuming does not extend it: a new TLS 1.3 ticket lives for what is left, and its lifetime
    /// hint says so. A ticket that is asked for when nothing is left (`SSL_new_session_ticket` on a long
    /// connection) is not sent. OpenSSL before 3.0.7 sends it all the same, and any version does if a stateful
    /// session is larger than 65,280 bytes with its client certificate; it does not resume.
    /// Drives `SSL_CTX_set_timeout` and `SSL_SESSION_set_timeout`.
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
    ///
    /// Each ticket resumes one of a client's next connections, if the client uses a ticket once. So with 1, of eight
    /// connections that a client opens at a time after its first, one resumes.
    ///
    /// **Give 0 where clients only write and then leave** (syslog, one-way log shipping). TLS 1.3 tickets cross
    /// their data. A client that closes its socket with tickets unread resets the connection, and the server
    /// loses what it has not read yet: of 12 clients that wrote 600 KB none arrived whole, with
    /// OpenSSL alone neither, and all 12 with `tickets(0)`.
    #[must_use]
    pub fn tickets(mut self, tickets: u8) -> Self {
        self.tickets = Some(tickets);
        self
    }

    /// Bytes that sessions are bound to, empty by default: change them whenever the authentication
    /// of clients changes in a way that this library cannot see, and sessions from before are not
    /// resumed.
    ///
    /// It sees the verify mode, the CA certificates and the client CA names of the contexts that ask
    /// for certificates, as they are at a context's first handshake, and the security level and the verify
    /// parameters: flags, depth, level, purpose and names, the store's as well. It does not see that a
    /// context has ceased to ask, what a verify callback does, `SSL_CTX_set_cert_verify_callback`,
    /// revocation lists, a directory of CA certificates (`CApath`), certificates added to the CA store of a
    /// running server, a purpose or an IP address that a single connection demands, or what a certificate
    /// callback (`SSL_set_cert_cb`) would demand, which OpenSSL does not call when it resumes.
    ///
    /// A context that verifies clients by a verify callback, or without any CA certificate in its store,
    /// resumes no sessions of other contexts, unless a generation says what they have in common; a connection
    /// with a verify callback of its own none at all. A certificate that did not verify, and that a callback let
    /// pass, resumes at that callback's context only, whatever the generation.
    #[must_use]
    pub fn generation(mut self, generation: impl AsRef<[u8]>) -> Self {
        self.generation = generation.as_ref().into();
        self
    }

    /// Whether sessions of clients with a certificate are resumed;
    /// [`Resume`](ClientCertificates::Resume) by default. Raw public keys (RFC 7250) count as certificates.
    ///
    /// On a resumed connection `ssl.peer_certificate()` is the certificate that was verified in the
    /// full handshake; `ssl.peer_cert_chain()` is `None` or empty, because a session keeps no more.
    ///
    /// OpenSSL does not verify a certificate again when it resumes: one that was revoked keeps
    /// working until its session ends, unless [`forget_client`](Self::forget_client) is called.
    #[must_use]
    pub fn client_certificates(mut self, resume: ClientCertificates) -> Self {
        self.client_certificates = resume;
        self
    }

    /// Sessions whose full handshake began in or before the second of `time` are not resumed; none
    /// by default.
    ///
    /// To carry a [`forget_before`](Self::forget_before) over a restart: keep its time, and give it
    /// here at the next start.
    #[must_use]
    pub fn not_before(mut self, time: SystemTime) -> Self {
        self.not_before = Some(time);
        self
    }

    /// Whether a TLS 1.3 session in the store resumes once only; off by default.
    ///
    /// It is taken out of the store as it is looked up, so that of many connections that offer it,
    /// on any host, at most one resumes; the resumed connection brings the next session. For the
    /// stateful mode and a store whose [`take`](SessionStore::take) is atomic
    /// ([`Error::SingleUse`](crate::Error::SingleUse) otherwise). TLS 1.2 sessions stay usable:
    /// their ids are sent in clear, and who saw one could use it up.
    ///
    /// A client that offers one ticket at several connections resumes one of them; the others are full handshakes.
    /// Node.js's `Agent`, `curl -Z` and Python's `ssl` do so.
    #[must_use]
    pub fn single_use(mut self, single_use: bool) -> Self {
        self.single_use = single_use;
        self
    }

    /// Forgets the sessions of a connection that ends without our close_notify: those in the store
    /// that were made in it or resumed by it. By default they are kept, because a server that drops
    /// its stream does not send one, and no RFC since TLS 1.1 asks for more (RFC 5246, section
    /// 7.2.1).
    ///
    /// Look at how your framework ends connections first. Pingora, for one, sends no close_notify on a keep-alive
    /// connection that its client closes, so the sessions of that connection are forgotten.
    ///
    /// Under quiet shutdown (`SSL_CTX_set_quiet_shutdown`) `shutdown()` writes no close_notify, and counts as if
    /// it had: what is forgotten are the sessions of connections that are dropped without it. Of an `SSL`
    /// that is used again after `SSL_clear` this cannot be known, and its sessions are forgotten.
    ///
    /// A fatal alert after the handshake forgets the connection's TLS 1.2 session with or without
    /// this. Tickets cannot be forgotten one by one.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// How large a session may be to be stored, in bytes of its record; 16 KiB by default, 0 stores
    /// nothing. A larger
    /// one, which has a large client certificate in it, is not stored and counted in
    /// [`StoreStats::too_large`](crate::StoreStats::too_large).
    #[must_use]
    pub fn max_session_size(mut self, bytes: usize) -> Self {
        self.max_session_size = bytes;
        self
    }

    /// Calls `hook` with the outcome of each handshake that completes, once a connection, as
    /// [`stats`](Self::stats) counts them: not when a handshake fails, and not again when a
    /// connection renegotiates. None by default; another replaces the one before. Like all knobs it is
    /// the returned value's: contexts that other clones were applied to do not call it, though they
    /// count together.
    ///
    /// It is called within the handshake, on the thread that drives it, so it must not block: let it
    /// count, or send to a channel that does not wait. If it panics, the connection goes on as if it
    /// had not; the panic is reported by the panic hook, and not counted.
    ///
    /// ```
    /// use openssl_resumption::Resumption;
    ///
    /// let policy = Resumption::off().on_outcome(|outcome| println!("{outcome}"));
    /// ```
    #[must_use]
    pub fn on_outcome(mut self, hook: impl Fn(&Outcome) + Send + Sync + 'static) -> Self {
        self.on_outcome = Some(DropShield::new(Arc::new(hook)));
        self
    }

    /// How many bytes of memory the decoded sessions of clients with a certificate may take, beside
    /// the store, each counted as the worst that its certificate might take, once somebody asks for its
    /// extensions; 32 MiB by default, which is about 2,000 of them with small certificates, 0 keeps none.
    ///
    /// OpenSSL decodes the certificate of a session and its public key each time it decodes the
    /// session: on OpenSSL 3.0 that is most of the server's work in a resumed TLS 1.2 handshake and two fifths
    /// in TLS 1.3, later versions do it faster. Those used last are therefore kept decoded, and a copy
    /// (`SSL_SESSION_dup`) is resumed. The store stays the master of what exists: it is asked first, and a decoded session
    /// serves only if the store returns the bytes that it was made of. It leaves the memory when
    /// the store no longer has the session and is asked for it, ten seconds after its end at the latest, when
    /// others need the room, or with the last clone of the policy. What goes first is as in a
    /// [`MemoryStore`](crate::MemoryStore): a client takes the room of one session.
    /// [`StoreStats::decoded`](crate::StoreStats::decoded) counts
    /// what was not kept.
    #[must_use]
    pub fn max_decoded(mut self, bytes: usize) -> Self {
        self.max_decoded = bytes;
        self
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
        let mut shown = f.debug_struct("Resumption");
        shown
            .field("mode", &mode)
            .field("scope", &String::from_utf8_lossy(&self.scope))
            .field("lifetime", &self.lifetime)
            .field("tickets", &self.tickets)
            .field("client_certificates", &self.client_certificates)
            .field("not_before", &self.not_before)
            .field("single_use", &self.single_use)
            .field("strict", &self.strict)
            .field("max_session_size", &self.max_session_size)
            .field("max_decoded", &self.max_decoded)
            .field("keys", &self.keys());
        #[cfg(feature = "tokio")]
        shown.field("suspension", &self.suspension);
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
        assert_eq!(policy.lifetime, Resumption::DEFAULT_LIFETIME);
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
