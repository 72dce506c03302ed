//! The modes, and what each sets on a context.

use std::sync::Arc;

use openssl::ssl::SslSessionCacheMode;

use crate::base::DropShield;
use crate::ffi::Settings;
use crate::keys::TicketKeys;
use crate::store::SessionStore;

pub(super) type Store = DropShield<Arc<dyn SessionStore>>;

#[derive(Clone)]
pub(super) enum Mode {
    Stateful(Store),
    Stateless(TicketKeys),
    Hybrid(Store, TicketKeys),
    Off,
}

impl Mode {
    pub(super) fn store(&self) -> Option<&dyn SessionStore> {
        match self {
            Self::Stateful(store) | Self::Hybrid(store, _) => Some(&***store),
            Self::Stateless(_) | Self::Off => None,
        }
    }

    pub(super) fn keys(&self) -> Option<&TicketKeys> {
        match self {
            Self::Stateless(keys) | Self::Hybrid(_, keys) => Some(keys),
            Self::Stateful(_) | Self::Off => None,
        }
    }

    /// The table of modes, as settings of a context. `tls12_tickets` is whether sealed ones are for TLS 1.2 too.
    pub(super) fn settings(&self, tickets: Option<u8>, tls12_tickets: bool) -> Settings {
        let tickets = |default| usize::from(tickets.unwrap_or(default));
        let with_store = SslSessionCacheMode::SERVER
            | SslSessionCacheMode::NO_INTERNAL
            | SslSessionCacheMode::NO_AUTO_CLEAR;
        let without_store = SslSessionCacheMode::NO_INTERNAL;
        let (no_ticket, cache_mode, num_tickets) = match self {
            Self::Stateful(_) => (true, with_store, tickets(1)),
            // Which are for TLS 1.3 only is decided for each connection.
            Self::Stateless(_) => (!tls12_tickets, without_store, tickets(2)),
            Self::Hybrid(..) => (!tls12_tickets, with_store, tickets(2)),
            Self::Off => (true, without_store, 0),
        };
        Settings {
            no_ticket,
            cache_mode,
            num_tickets,
            session_callbacks: self.store().is_some(),
        }
    }
}
