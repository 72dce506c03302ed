//! A policy as one context carries it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{SslContext, SslContextBuilder, SslContextRef, SslRef, SslVerifyMode};
use parking_lot::Mutex;

use super::overridden::{Overridden, Setting};
use crate::base::get_or_make;
use crate::ffi::{self, EarlySettings, Settings, Verification, Verifier};
use crate::outcome::Reason;
use crate::policy::{LateDemands, Resumption};
use crate::session::Binding;

static INDEX: OnceLock<Index<SslContext, Arc<Applied>>> = OnceLock::new();

/// A policy as one context carries it, in its ex-data.
pub(crate) struct Applied {
    policy: Resumption,
    settings: Settings,
    early: EarlySettings,
    /// What was set for early data before a policy was.
    early_before: EarlySettings,
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
    authorities: [OnceLock<(Arc<Verifier>, Binding)>; 3],
    /// The server name that was hashed last, which is often the next one too.
    named: Mutex<Option<(Option<Vec<u8>>, Binding)>>,
}

impl Applied {
    /// `verify` is the verify mode of the context, `early` what is set on it for early data.
    pub(crate) fn new(
        policy: &Resumption,
        verify: SslVerifyMode,
        early: EarlySettings,
        early_before: EarlySettings,
    ) -> Self {
        Self {
            policy: policy.clone(),
            settings: policy.settings(),
            early,
            early_before,
            id_context: policy.id_context(),
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
        }
    }

    /// Makes the index, before there is a context.
    pub(crate) fn prepare() -> Result<(), ErrorStack> {
        get_or_make(&INDEX, SslContext::new_ex_index).map(drop)
    }

    /// Has a context carry this. [`prepare`](Self::prepare) comes first.
    pub(crate) fn put_into(self, builder: &mut SslContextBuilder) {
        if let Some(index) = INDEX.get() {
            builder.set_ex_data(*index, Arc::new(self));
        }
    }

    /// The policy that was applied to a context.
    pub(crate) fn of(context: &SslContextRef) -> Option<&Arc<Self>> {
        context.ex_data(*INDEX.get()?)
    }

    pub(crate) fn policy(&self) -> &Resumption {
        &self.policy
    }

    /// What was set for early data before a policy was: `found` is what is set now.
    pub(crate) fn early_before(&self, found: EarlySettings) -> EarlySettings {
        let (ours, before) = (&self.early, &self.early_before);
        let keep = |found: u32, ours, before| if found == ours { before } else { found };
        EarlySettings {
            max: keep(found.max, ours.max, before.max),
            recv_max: keep(found.recv_max, ours.recv_max, before.recv_max),
            no_anti_replay: before.no_anti_replay && found.no_anti_replay,
        }
    }

    pub(crate) fn late(&self) -> &LateDemands {
        &self.late
    }

    /// Why nothing resumes at this context, if others decide what does. At its first handshake the settings
    /// are compared with what we made them.
    pub(crate) fn overridden_at(&self, ssl: &SslRef) -> Option<Reason> {
        self.compared.get_or_init(|| self.compare_settings(ssl));
        self.overridden()
    }

    fn compare_settings(&self, ssl: &SslRef) {
        let (ours, found) = (&self.settings, ffi::settings_of(ssl));
        let verify = ffi::verify_mode_of(ssl.ssl_context());
        let session_callbacks = ffi::has_session_callbacks(ssl, ours.session_callbacks);
        let early = EarlySettings::of_connection(ssl);
        for (setting, is_ours) in [
            (Setting::NoTicket, found.no_ticket == ours.no_ticket),
            (Setting::NumTickets, found.num_tickets == ours.num_tickets),
            (
                Setting::EarlyData,
                early.max == self.early.max && (early.max == 0 || early == self.early),
            ),
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

    /// Whether this setting was found changed.
    pub(crate) fn is_overridden_in(&self, setting: Setting) -> bool {
        self.overridden.has(setting)
    }

    /// Why nothing resumes at this context, if others decide what does.
    pub(crate) fn overridden(&self) -> Option<Reason> {
        self.overridden.deciding()
    }

    /// Notices, at the first session that is made, if the context's session id context was changed.
    pub(crate) fn notice_id_context(&self, id_context: &[u8]) {
        if !self.id_context_compared.swap(true, Relaxed) && *id_context != self.id_context {
            self.notice(Setting::IdContext);
        }
    }

    /// This way to verify clients and its hash, if connections of the context have done so before.
    pub(crate) fn known(&self, how: &Verification) -> Option<&(Arc<Verifier>, Binding)> {
        let mut known = self.authorities.iter().map_while(OnceLock::get);
        known.find(|(of, _)| of.how() == how)
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
            let made = || (Arc::new(Verifier::of(ssl, how)), make());
            let (of, authority) = place.get_or_init(made);
            (of.how() == how).then_some(*authority)
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
}
