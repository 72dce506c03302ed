//! The knobs, as they are set.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

#[cfg(feature = "tokio")]
use super::knobs::DEFAULT_LOOKUP_DEADLINE;
use super::resumption::Resumption;
use crate::base::DropShield;
use crate::outcome::Outcome;

impl Resumption {
    /// The name of the application that sessions belong to; empty by default, of any length.
    ///
    /// Sessions resume only within one scope: it is hashed into the session id context
    /// (`SSL_CTX_set_session_id_context`) and into the keys of the store. Give applications that
    /// share a store or ticket keys a scope each; give all servers of one application the same.
    ///
    /// A scope may be as small as one connection. (To tell which connections descend from one full handshake, as FTPS
    /// servers must, [`Lineage::id`](crate::Lineage::id) is enough.)
    #[must_use]
    pub fn scope(mut self, scope: impl AsRef<[u8]>) -> Self {
        self.knobs.scope = scope.as_ref().into();
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
        self.knobs.lifetime = lifetime;
        self
    }

    /// How many tickets a full TLS 1.3 handshake sends (`SSL_CTX_set_num_tickets`); a resumed one
    /// sends at most one.
    ///
    /// 2 by default in stateless and hybrid mode, 1 in stateful mode, where each is a session in the store. (In hybrid
    /// mode a client with a certificate has two sessions there.) With 0 no TLS 1.3 session ever resumes. Off sends none
    /// whatever this says.
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
        self.knobs.tickets = Some(tickets);
        self
    }

    /// Bytes that sessions are bound to, empty by default: change them whenever the authentication
    /// of clients changes in a way that this library cannot see, and sessions from before are not
    /// resumed.
    ///
    /// It sees the verify mode, the CA certificates and the client CA names of the contexts that ask for certificates,
    /// as they are at a context's first handshake, and the security level and the verify parameters: flags, depth,
    /// level, purpose and names, the store's as well. It does not see that a context has ceased to ask, what a verify
    /// callback does, `SSL_CTX_set_cert_verify_callback`, revocation lists, a directory of CA certificates (`CApath`),
    /// certificates added to the CA store of a running server (all of which
    /// [`ClientCertificates::Verify`](crate::ClientCertificates::Verify) is for), a purpose or an IP address that a
    /// single connection demands, or what a certificate callback (`SSL_set_cert_cb`) would demand, which OpenSSL does
    /// not call when it resumes.
    ///
    /// A context that verifies clients by a verify callback, or without any CA certificate in its store,
    /// resumes no sessions of other contexts, unless a generation says what they have in common; a connection
    /// with a verify callback of its own none at all. A certificate that did not verify, and that a callback let
    /// pass, resumes at that callback's context only, whatever the generation.
    #[must_use]
    pub fn generation(mut self, generation: impl AsRef<[u8]>) -> Self {
        self.knobs.generation = generation.as_ref().into();
        self
    }

    /// Sessions whose full handshake began in or before the second of `time` are not resumed; none
    /// by default.
    ///
    /// To carry a [`forget_before`](Self::forget_before) over a restart: keep its time, and give it
    /// here at the next start.
    #[must_use]
    pub fn not_before(mut self, time: SystemTime) -> Self {
        self.knobs.not_before = Some(time);
        self
    }

    /// Whether a TLS 1.3 session in the store resumes once only; off by default.
    ///
    /// It is taken out of the store as it is looked up, so that of many connections that offer it, on any host, at most
    /// one resumes; the resumed connection brings the next session. For the stateful and the hybrid mode and a store
    /// whose [`take`](crate::SessionStore::take) is atomic ([`Error::SingleUse`](crate::Error::SingleUse) otherwise).
    /// In hybrid mode it is about clients with a certificate, whose sessions are in the store; a sealed ticket resumes
    /// more than once. TLS 1.2 sessions stay usable: their ids are sent in clear, and who saw one could use it up.
    ///
    /// A client that offers one ticket at several connections resumes one of them; the others are full handshakes.
    /// Node.js's `Agent`, `curl -Z` and Python's `ssl` do so.
    #[must_use]
    pub fn single_use(mut self, single_use: bool) -> Self {
        self.knobs.single_use = single_use;
        self
    }

    /// Whether the sessions of a connection that ends without our close_notify are forgotten: those in the store
    /// that were made in it or resumed by it. Off by default: they are kept, because a server that drops
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
    /// this. Tickets cannot be forgotten one by one: in stateless mode it is an error
    /// ([`Error::Strict`](crate::Error::Strict)), and in hybrid mode it is about the sessions that are in the store.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.knobs.strict = strict;
        self
    }

    /// How large a session may be to be stored, in bytes of its record; 16 KiB by default, 0 stores
    /// nothing. A larger
    /// one, which has a large client certificate in it, is not stored and counted in
    /// [`StoreStats::too_large`](crate::StoreStats::too_large). In a mode without a store it changes nothing.
    #[must_use]
    pub fn max_session_size(mut self, bytes: usize) -> Self {
        self.knobs.max_session_size = bytes;
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
        self.knobs.on_outcome = Some(DropShield::new(Arc::new(hook)));
        self
    }

    /// How many bytes of memory the decoded sessions of clients with a certificate may take, beside
    /// the store, each counted as the worst that its certificate might take, once somebody asks for its
    /// extensions; 32 MiB by default, which is about 2,000 of them with small certificates, 0 keeps none.
    ///
    /// OpenSSL decodes the certificate of a session and its public key each time it decodes the session: on OpenSSL 3.0
    /// that is most of the server's work in a resumed TLS 1.2 handshake and two fifths in TLS 1.3, later versions do it
    /// faster. Those used last are therefore kept decoded, and a copy (`SSL_SESSION_dup`) is resumed. The store stays
    /// the master of what exists: it is asked first, and a decoded session serves only if the store returns the bytes
    /// that it was made of. It leaves the memory when the store no longer has the session and is asked for it, ten
    /// seconds after its end at the latest, when others need the room, or with the last clone of the policy. What goes
    /// first is as in a [`MemoryStore`](crate::MemoryStore): a client takes the room of one session.
    /// [`StoreStats::decoded`](crate::StoreStats::decoded) counts what was not kept. In a mode without a store it
    /// changes nothing.
    #[must_use]
    pub fn max_decoded(mut self, bytes: usize) -> Self {
        self.knobs.max_decoded = bytes;
        self
    }
}

/// For asynchronous servers: see [`accept_async`](crate::accept_async), which needs the feature `tokio`.
#[cfg(feature = "tokio")]
impl Resumption {
    /// How long a suspended handshake waits unless [`lookup_deadline`](Self::lookup_deadline) says
    /// otherwise: 2 seconds.
    pub const DEFAULT_LOOKUP_DEADLINE: Duration = DEFAULT_LOOKUP_DEADLINE;

    /// Whether handshakes in [`accept_async`](crate::accept_async) are suspended while the store is asked, the replay
    /// register, or the hook of [`admit_client`](Self::admit_client); off by default. In any other accept it changes
    /// nothing.
    ///
    /// Drives `SSL_CTX_set_client_hello_cb`, which replaces a ClientHello callback that was set
    /// before. If you have one, leave this off and call [`client_hello`](Self::client_hello) from it.
    #[must_use]
    pub fn suspend_lookups(mut self, suspend: bool) -> Self {
        self.knobs.suspension.install = suspend;
        self
    }

    /// How long a handshake in [`accept_async`](crate::accept_async) stays suspended at a time, for the store,
    /// [`admit_client`](Self::admit_client) and the replay register together; 2 seconds by default, of any length. Then it
    /// goes on with what it has been told: without the session a full one.
    ///
    /// Zero asks the store, and hardly ever waits for its answer. After a HelloRetryRequest there may be
    /// a second time.
    ///
    /// That is for a store or a hook that hangs. A store bounds its own time, and much closer: every client
    /// waits for it.
    #[must_use]
    pub fn lookup_deadline(mut self, deadline: Duration) -> Self {
        self.knobs.suspension.deadline = deadline;
        self
    }
}
