//! Decisions of the ticket-key and decrypt-ticket callbacks.

use std::sync::Arc;
use std::time::SystemTime;

use openssl::ssl::{SslRef, SslSessionRef, SslVersion};

use crate::binding;
use crate::connection::Connection;
use crate::ffi;
use crate::keys::{Standing, TicketKey};
use crate::outcome::{Reason, Source};
use crate::stats::TicketFate;

/// What OpenSSL could make of a ticket, before it asks us whether to use it.
pub(crate) enum Ticket<'a> {
    /// The client can handle tickets but has none.
    Empty,
    /// Too short, sealed under a key we did not give, its MAC is wrong, or no session is inside.
    Unreadable,
    Opened(&'a SslSessionRef),
}

/// What to do with a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Full handshake and a new ticket.
    Decline,
    /// Resume, and leave the client its ticket.
    Use,
    /// Resume, and give the client a new ticket.
    Renew,
}

/// A ticket is to be sealed: the key, or none for a connection without a ticket.
pub(crate) fn seal(ssl: &SslRef, now: SystemTime) -> Option<Arc<TicketKey>> {
    let connection = ffi::connection(ssl)?;
    if binding::is_refused(ssl, connection) {
        return None;
    }
    let policy = connection.policy();
    let key = policy.keys()?.sealing(now);
    if key.is_none() {
        policy.counters().unsealed.add_one();
    }
    key
}

/// A ticket names a key: the key, if we hold it. Never asked in a mode without keys.
pub(crate) fn open(
    connection: &mut Connection,
    name: &[u8; 16],
    now: SystemTime,
) -> Option<Arc<TicketKey>> {
    let found = connection.policy().keys()?.opening(name, now);
    let (fate, key) = match found {
        Some((key, standing)) => (TicketFate::Opened(standing), Some(key)),
        None => (TicketFate::UnknownKey, None),
    };
    connection.name_key(fate);
    key
}

/// The ticket has been opened or not: decides what to do with it.
pub(crate) fn decide(ssl: &mut SslRef, ticket: &Ticket<'_>, now: SystemTime) -> Option<Verdict> {
    let connection = ffi::connection_mut(ssl)?;
    // Nothing, if the ticket was too short to name a key.
    let named = connection.take_named();
    if connection.outcome().is_some() {
        // A renegotiation, which has no second look at the demand. It is full.
        return Some(Verdict::Decline);
    }
    let session = match ticket {
        Ticket::Empty => return Some(Verdict::Decline),
        Ticket::Unreadable if named == Some(TicketFate::UnknownKey) => {
            connection.set_ticket(TicketFate::UnknownKey);
            connection.decline(Reason::UnknownKey);
            return Some(Verdict::Decline);
        }
        Ticket::Unreadable => {
            connection.set_ticket(TicketFate::Malformed);
            connection.decline(Reason::Malformed);
            return Some(Verdict::Decline);
        }
        Ticket::Opened(session) => session,
    };
    let named = named?;
    connection.set_ticket(named);
    let here = binding::here(ssl, ffi::connection(ssl)?, now)?;
    let admitted = binding::admit(ssl, session, &here);
    let connection = ffi::connection_mut(ssl)?;
    match admitted {
        Ok(stamp) => {
            connection.supply(Source::Ticket, stamp, ffi::peer_certificate(session));
        }
        Err(reason) => {
            connection.decline(reason);
            return Some(Verdict::Decline);
        }
    }
    // TLS 1.3 clients use a ticket once (RFC 8446, appendix C.4), so each resumption brings the
    // next. In TLS 1.2 a ticket serves until its key has sealed its last, and longer if there is no
    // other key: an empty new ticket would take the old one from the client.
    let can_seal = || Some(connection.policy().keys()?.sealing(now).is_some());
    let renew = here.version == SslVersion::TLS1_3
        || named == TicketFate::Opened(Standing::Retired) && can_seal()?;
    Some(if renew { Verdict::Renew } else { Verdict::Use })
}
