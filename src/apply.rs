//! How a policy is applied to a context, and what a connection tells of it.

use std::time::{Duration, SystemTime};

use openssl::ssl::{SslContextBuilder, SslOptions, SslRef};

use crate::base::MAX_LIFETIME;
use crate::decisions::{Applied, Connection, Decider, lineage};
use crate::error::Error;
use crate::ffi::{self, EarlySettings};
use crate::outcome::Outcome;
use crate::policy::Resumption;
use crate::session::Lineage;

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
    /// `SSL_CTX_set_session_ticket_cb`, `SSL_CTX_set_allow_early_data_cb` (and what
    /// [`early_data`](Resumption::early_data) says) and
    /// `SSL_CTX_set_info_callback` (an info callback set before is still called), and replaces any
    /// session callback (new, get, remove) set before. On a client's context that means it keeps no
    /// sessions. A policy with `suspend_lookups` (feature `tokio`) also replaces the ClientHello callback
    /// (`SSL_CTX_set_client_hello_cb`): what one that was set before switched or demanded is not done
    /// any more.
    ///
    /// The ticket application data of sessions (`SSL_SESSION_set1_ticket_appdata`) is taken: the library's stamp is
    /// in it, and replaces what an application puts there. Give such data to
    /// [`session_data`](Resumption::session_data). In hybrid mode and with
    /// [`tls12_tickets(false)`](Resumption::tls12_tickets) the message callback is taken too (`SSL_CTX_set_msg_callback`).
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
        let lifetime = policy.knobs().lifetime;
        if !(Duration::from_secs(1)..=MAX_LIFETIME).contains(&lifetime) {
            return Err(Error::Lifetime(lifetime));
        }
        if let Some(lacking) = policy.lacks_for_early_data() {
            return Err(Error::EarlyData(lacking));
        }
        let early_before = early_before(self);
        let early = early_settings(policy, early_before)?;
        if let Some(lacking) = policy.lacks_for_single_use() {
            return Err(Error::SingleUse(lacking));
        }
        if policy.is_strict_in_vain() {
            return Err(Error::Strict);
        }
        if let Some(keys) = policy.keys() {
            keys.prepare(lifetime, SystemTime::now())
                .map_err(Error::Keys)?;
        }

        policy.note_lifetime();

        let settings = policy.settings();
        // All that may fail comes first.
        Applied::prepare()?;
        Connection::prepare()?;
        ffi::prepare(policy.asked())?;
        self.set_session_id_context(&policy.id_context())?;
        self.set_num_tickets(settings.num_tickets)?;
        if settings.no_ticket {
            self.set_options(SslOptions::NO_TICKET);
        } else {
            self.clear_options(SslOptions::NO_TICKET);
        }
        self.set_session_cache_mode(settings.cache_mode);
        ffi::set_timeout(self, lifetime.as_secs());
        let verify = ffi::verify_mode_of(ffi::as_context(self));
        early.set(self);
        Applied::new(policy, verify, early, early_before).put_into(self);
        ffi::install(self, &settings, policy.asked(), &Decider);
        #[cfg(feature = "tokio")]
        crate::accept::install(self, policy);
        Ok(())
    }
}

/// What is set for early data on a context, but for policies.
fn early_before(builder: &SslContextBuilder) -> EarlySettings {
    let found = EarlySettings::of(builder);
    Applied::of(ffi::as_context(builder)).map_or(found, |applied| applied.early_before(found))
}

/// What a policy sets for early data on a context that has these settings without it.
fn early_settings(policy: &Resumption, before: EarlySettings) -> Result<EarlySettings, Error> {
    match (before.max, policy.max_early_data()) {
        (0, 0) => Ok(before),
        (context, max) if [0, max].contains(&context) => Ok(EarlySettings {
            max,
            recv_max: enough_to_skip(before.recv_max.max(max)),
            no_anti_replay: true,
        }),
        (context, policy) => Err(Error::MaxEarlyData { context, policy }),
    }
}

/// Early data that is declined is skipped up to this limit, which OpenSSL counts with what each record takes beside. What is
/// accepted is bounded by what its session was promised.
fn enough_to_skip(bytes: u32) -> u32 {
    bytes
        .saturating_add(bytes / 8)
        .saturating_add(4_096)
        .min(u32::MAX / 2)
}

/// Adds [`resumption`](Self::resumption) to `SslRef`, which every kind of TLS stream over `openssl`
/// hands out.
pub trait SslRefExt: sealed::Sealed {
    /// What became of this connection's handshake; `None` while it is unfinished, or if the
    /// context that accepted the connection has no policy.
    fn resumption(&self) -> Option<Outcome>;

    /// The full handshake that this connection's session descends from: when it was, the certificates that the client
    /// gave in it, what the application tied to it, and a name that all its resumptions have in common. Of a full
    /// handshake it is the connection's own.
    ///
    /// `None` while the handshake is unfinished, if the context that accepted the connection has no policy, or if what was
    /// resumed is not a session of this library ([`Source::Other`](crate::Source::Other)).
    fn lineage(&self) -> Option<Lineage>;
}

impl SslRefExt for SslRef {
    fn resumption(&self) -> Option<Outcome> {
        Connection::of(self)?.outcome()
    }

    fn lineage(&self) -> Option<Lineage> {
        lineage(self)
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
        assert!(Applied::of(&builder.build()).is_none(), "half-applied");
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
    fn tickets_cannot_be_forgotten_one_by_one() {
        let policy = Resumption::stateless(TicketKeys::random()).strict(true);
        assert!(refusal(&policy).starts_with("strict needs a store"));
        let hybrid = Resumption::hybrid(MemoryStore::default(), TicketKeys::random());
        for policy in [
            policy.strict(false),
            hybrid.strict(true),
            Resumption::off().strict(true),
        ] {
            let mut builder = SslContextBuilder::new(SslMethod::tls_server()).unwrap();
            builder.set_resumption(&policy).unwrap();
        }
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
