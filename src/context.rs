//! How a policy is applied to a context, and what a connection tells of it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use openssl::ssl::{SslContextBuilder, SslOptions, SslRef, SslSessionCacheMode, SslVerifyMode};
use openssl::x509::store::X509Store;
use parking_lot::Mutex;

use crate::error::Error;
use crate::ffi::{self, Verification};
use crate::late::LateDemands;
use crate::outcome::{Outcome, Reason};
use crate::overridden::{Overridden, Setting};
use crate::resumption::Resumption;
use crate::stamp::Binding;

/// What a mode sets on a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) no_ticket: bool,
    pub(crate) cache_mode: SslSessionCacheMode,
    pub(crate) num_tickets: usize,
    pub(crate) session_callbacks: bool,
}

/// A policy as one context carries it, in its ex-data.
pub(crate) struct Applied {
    policy: Resumption,
    settings: Settings,
    /// The info callback that the context had before ours, which calls it.
    info_before: Option<ffi::InfoCallback>,
    id_context: [u8; 6],
    verify: SslVerifyMode,
    /// Whether the settings have been compared with what the context really has.
    compared: OnceLock<()>,
    /// Whether the session id context has been compared.
    id_context_compared: AtomicBool,
    overridden: Overridden,
    /// What it has in common with no other context.
    own: OnceLock<Binding>,
    /// What of its verify parameters is too dear to be asked each time.
    dear: OnceLock<Binding>,
    /// Whether the callbacks for tickets have been ours. OpenSSL does not let them be replaced once
    /// connections use the context.
    makes_our_tickets: AtomicBool,
    /// Whether they may not be.
    in_doubt: AtomicBool,
    /// What its own connections have seen: elsewhere the same name may demand something else.
    late: LateDemands,
    /// The hashes of what clients are verified against, made once: certificates may be many. One is that of
    /// the context itself; with what a switch to it brings along, or a connection's own settings, it differs.
    authorities: [OnceLock<(Verification, Option<X509Store>, Binding)>; 3],
    /// The server name that was hashed last, which is often the next one too.
    named: Mutex<Option<(Option<Vec<u8>>, Binding)>>,
}

impl Applied {
    pub(crate) fn policy(&self) -> &Resumption {
        &self.policy
    }

    pub(crate) fn late(&self) -> &LateDemands {
        &self.late
    }

    pub(crate) fn info_before(&self) -> Option<ffi::InfoCallback> {
        self.info_before
    }

    /// Why nothing resumes at this context, if others decide what does. At its first handshake the settings
    /// are compared with what we made them.
    pub(crate) fn usurped_at(&self, ssl: &SslRef) -> Option<Reason> {
        self.compared.get_or_init(|| self.compare_settings(ssl));
        self.usurped()
    }

    fn compare_settings(&self, ssl: &SslRef) {
        let (ours, found) = (&self.settings, ffi::settings_of(ssl));
        let verify = ffi::verify_mode_of(ssl.ssl_context());
        let session_callbacks = ffi::has_session_callbacks(ssl, ours.session_callbacks);
        for (setting, is_ours) in [
            (Setting::NoTicket, found.no_ticket == ours.no_ticket),
            (Setting::NumTickets, found.num_tickets == ours.num_tickets),
            (Setting::EarlyData, ssl.max_early_data() == 0),
            (Setting::VerifyMode, verify == self.verify),
            (Setting::CacheMode, found.cache_mode == ours.cache_mode),
            (Setting::SessionCallbacks, session_callbacks),
        ] {
            if !is_ours {
                self.notice(setting);
            }
        }
    }

    /// A setting was found changed. It is counted once.
    pub(crate) fn notice(&self, setting: Setting) {
        if self.overridden.note(setting) {
            self.policy.counters().overridden.add_one();
        }
    }

    /// Something that no other context has.
    pub(crate) fn own(&self, make: impl FnOnce() -> Binding) -> Binding {
        *self.own.get_or_init(make)
    }

    /// What of the context's verify parameters is too dear to be asked each time.
    pub(crate) fn dear(&self, make: impl FnOnce() -> Binding) -> Binding {
        *self.dear.get_or_init(make)
    }

    /// OpenSSL has called our callbacks for a ticket.
    pub(crate) fn note_our_tickets(&self) {
        self.makes_our_tickets.store(true, Relaxed);
    }

    pub(crate) fn makes_our_tickets(&self) -> bool {
        self.makes_our_tickets.load(Relaxed)
    }

    /// OpenSSL has resumed what it may have found by callbacks of others.
    pub(crate) fn doubt(&self) {
        self.in_doubt.store(true, Relaxed);
    }

    /// Whether nothing is to resume until a ticket has told whose callbacks the context has.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.in_doubt.load(Relaxed) && !self.makes_our_tickets()
    }

    /// Why nothing resumes at this context, if others decide what does.
    pub(crate) fn usurped(&self) -> Option<Reason> {
        self.overridden.usurped()
    }

    /// Notices, at the first session that is made, if the context's session id context was changed.
    pub(crate) fn notice_id_context(&self, id_context: &[u8]) {
        if !self.id_context_compared.swap(true, Relaxed) && *id_context != self.id_context {
            self.notice(Setting::IdContext);
        }
    }

    /// The hash of this way to verify clients, if connections of the context have done so before.
    pub(crate) fn known_authority(&self, how: &Verification) -> Option<Binding> {
        let known = self.authorities.iter().map_while(OnceLock::get);
        let mut known = known.filter(|(of, ..)| of == how);
        known.next().map(|(.., authority)| *authority)
    }

    /// Keeps the hash of a way to verify clients, of which all but the numbers are the context's own. `None` if
    /// it has too many.
    pub(crate) fn authority(
        &self,
        ssl: &SslRef,
        how: &Verification,
        make: impl Fn() -> Binding,
    ) -> Option<Binding> {
        let mut places = self.authorities.iter();
        places.find_map(|place| {
            let (of, _, authority) = place.get_or_init(|| (*how, ffi::ca_store_of(ssl), make()));
            (of == how).then_some(*authority)
        })
    }

    /// The binding of a session to the policy and a server name.
    pub(crate) fn binding(&self, name: Option<&[u8]>) -> Binding {
        // To hash takes less time than to wait.
        let Some(mut named) = self.named.try_lock() else {
            return self.policy.binding(name);
        };
        match &*named {
            Some((last, binding)) if last.as_deref() == name => *binding,
            _ => {
                let binding = self.policy.binding(name);
                *named = Some((name.map(<[u8]>::to_vec), binding));
                binding
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn for_tests(policy: &Resumption) -> std::sync::Arc<Self> {
        std::sync::Arc::new(Self {
            policy: policy.clone(),
            settings: policy.settings(),
            info_before: None,
            id_context: policy.id_context(),
            verify: SslVerifyMode::NONE,
            compared: OnceLock::new(),
            overridden: Overridden::default(),
            own: OnceLock::new(),
            dear: OnceLock::new(),
            makes_our_tickets: AtomicBool::new(false),
            in_doubt: AtomicBool::new(false),
            id_context_compared: AtomicBool::new(true),
            late: LateDemands::default(),
            authorities: Default::default(),
            named: Mutex::default(),
        })
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for openssl::ssl::SslContextBuilder {}
    impl Sealed for openssl::ssl::SslRef {}
}

/// Adds [`set_resumption`](Self::set_resumption) to `SslContextBuilder`, and so to
/// `SslAcceptorBuilder`, which dereferences to it.
pub trait SslContextBuilderExt: sealed::Sealed {
    /// Chooses how the sessions of this context, a server's, resume. Call it last: settings of it
    /// that are changed later may change what resumes, and
    /// [`Stats::overridden`](crate::Stats::overridden) says which of them are noticed.
    ///
    /// Called again it replaces the policy, whatever the two modes were.
    ///
    /// Drives `SSL_CTX_set_options` and `SSL_CTX_clear_options` (`NO_TICKET`),
    /// `SSL_CTX_set_session_cache_mode`, `SSL_CTX_set_session_id_context`, `SSL_CTX_set_timeout`,
    /// `SSL_CTX_set_num_tickets`, `SSL_CTX_set_tlsext_ticket_key_evp_cb`,
    /// `SSL_CTX_set_session_ticket_cb`, `SSL_CTX_set_allow_early_data_cb` and
    /// `SSL_CTX_set_info_callback` (an info callback set before is still called), and replaces any
    /// session callback (new, get, remove) set before. On a client's context that means it keeps no
    /// sessions. A policy with `suspend_lookups` (feature `tokio`) also replaces the ClientHello callback
    /// (`SSL_CTX_set_client_hello_cb`): what one that was set before switched or demanded is not done
    /// any more.
    ///
    /// The ticket application data of sessions (`SSL_SESSION_set1_ticket_appdata`) is taken: the library's stamp is
    /// in it, and replaces what an application puts there. Keep such data elsewhere.
    ///
    /// A connection has the policy of the context that accepted it, also when a server name or
    /// ClientHello callback switches it to another context: store, keys, scope and statistics are
    /// those of the first, and the other's policy is not asked. OpenSSL itself takes two things
    /// from the other: whether a TLS 1.2 session gets an id at all (none under a policy without a
    /// store), and, in a ClientHello callback, the session id context. So give the contexts that a
    /// hello may switch to the same policy.
    ///
    /// A client certificate that is demanded by the context, in the ClientHello callback or in the server name
    /// callback is held against sessions that resume. What a certificate callback demands
    /// (`SSL_set_cert_cb`) is not, until a full handshake of the same server name has shown it: OpenSSL does
    /// not call it when it resumes. Change [`generation`](Resumption::generation) when such a callback begins
    /// to demand certificates.
    ///
    /// # Errors
    ///
    /// The policy cannot work, as [`Error`] says, or OpenSSL is out of memory. The context is then
    /// as it was, except in the last case.
    fn set_resumption(&mut self, policy: &Resumption) -> Result<(), Error>;
}

impl SslContextBuilderExt for SslContextBuilder {
    fn set_resumption(&mut self, policy: &Resumption) -> Result<(), Error> {
        let lifetime = policy.lifetime_value();
        if !(Duration::from_secs(1)..=Resumption::MAX_LIFETIME).contains(&lifetime) {
            return Err(Error::Lifetime(lifetime));
        }
        match ffi::max_early_data(self) {
            0 => {}
            bytes => return Err(Error::EarlyData(bytes)),
        }
        if let Some(lacking) = policy.lacks_for_single_use() {
            return Err(Error::SingleUse(lacking));
        }
        if let Some(keys) = policy.keys() {
            keys.prepare(lifetime, SystemTime::now())
                .map_err(Error::Keys)?;
        }

        policy.note_lifetime();

        let settings = policy.settings();
        let id_context = policy.id_context();
        self.set_session_id_context(&id_context)?;
        self.set_num_tickets(settings.num_tickets)?;
        if settings.no_ticket {
            self.set_options(SslOptions::NO_TICKET);
        } else {
            self.clear_options(SslOptions::NO_TICKET);
        }
        self.set_session_cache_mode(settings.cache_mode);
        ffi::set_timeout(self, lifetime.as_secs());
        let verify = ffi::verify_mode_of(ffi::as_context(self));
        ffi::install(self, &settings, |info_before| Applied {
            policy: policy.clone(),
            settings,
            info_before,
            id_context,
            verify,
            compared: OnceLock::new(),
            overridden: Overridden::default(),
            own: OnceLock::new(),
            dear: OnceLock::new(),
            makes_our_tickets: AtomicBool::new(false),
            in_doubt: AtomicBool::new(false),
            id_context_compared: AtomicBool::new(false),
            late: LateDemands::default(),
            authorities: Default::default(),
            named: Mutex::default(),
        })?;
        #[cfg(feature = "tokio")]
        crate::accept::install(self, policy);
        Ok(())
    }
}

/// Adds [`resumption`](Self::resumption) to `SslRef`, which every kind of TLS stream over `openssl`
/// hands out.
pub trait SslRefExt: sealed::Sealed {
    /// What became of this connection's handshake; `None` while it is unfinished, or if the
    /// context that accepted the connection has no policy.
    fn resumption(&self) -> Option<Outcome>;
}

impl SslRefExt for SslRef {
    fn resumption(&self) -> Option<Outcome> {
        ffi::connection(self)?.outcome()
    }
}

#[cfg(test)]
mod tests {
    use openssl::ssl::SslMethod;

    use super::*;
    use crate::MemoryStore;
    use crate::TicketKeys;
    use crate::keys::{KeyError, KeySet};

    fn refusal(policy: &Resumption) -> String {
        let mut builder = SslContextBuilder::new(SslMethod::tls_server()).unwrap();
        let error = builder.set_resumption(policy).unwrap_err();
        assert!(ffi::applied(&builder.build()).is_none(), "half-applied");
        error.to_string()
    }

    #[test]
    fn lifetimes_out_of_bounds_are_refused() {
        let policy = Resumption::stateful(MemoryStore::default());
        for lifetime in [
            Duration::ZERO,
            Duration::from_millis(999),
            Duration::from_secs(604_801),
        ] {
            let message = refusal(&policy.clone().lifetime(lifetime));
            assert!(message.contains(&format!("{lifetime:?}")), "{message}");
        }
        for lifetime in [Duration::from_secs(1), Resumption::MAX_LIFETIME] {
            let mut builder = SslContextBuilder::new(SslMethod::tls_server()).unwrap();
            builder
                .set_resumption(&policy.clone().lifetime(lifetime))
                .unwrap();
        }
    }

    #[test]
    fn early_data_is_refused() {
        let mut builder = SslContextBuilder::new(SslMethod::tls_server()).unwrap();
        builder.set_max_early_data(16_384).unwrap();
        let error = builder.set_resumption(&Resumption::off()).unwrap_err();
        assert!(error.to_string().contains("16384"), "{error}");
    }

    #[test]
    fn keys_that_cannot_be_had_are_refused() {
        let none =
            |_: SystemTime| -> Result<KeySet, KeyError> { Err(KeyError::new("locked away")) };
        struct Source<F>(F);
        impl<F> crate::KeySource for Source<F>
        where
            F: Fn(SystemTime) -> Result<KeySet, KeyError> + Send + Sync + 'static,
        {
            fn load(&self, now: SystemTime) -> Result<KeySet, KeyError> {
                (self.0)(now)
            }
        }
        let policy = Resumption::stateless(TicketKeys::from_source(Source(none)));
        assert_eq!(refusal(&policy), "no ticket key to begin with: locked away");
        let policy = Resumption::stateless(TicketKeys::random_every(Duration::ZERO));
        assert!(refusal(&policy).contains("at least 1 second"));
    }
}
