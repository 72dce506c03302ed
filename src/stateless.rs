//! Decisions of the ticket-key and decrypt-ticket callbacks.

use std::sync::Arc;
use std::time::SystemTime;

use openssl::ssl::{SslRef, SslSessionRef, SslVersion};

use crate::binding;
use crate::candidates::Identity;
use crate::connection::{AtHand, Connection};
use crate::ffi;
use crate::keys::{Standing, TicketKey};
use crate::outcome::{Reason, Source};
use crate::overridden::Setting;
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
pub(crate) fn seal(ssl: &mut SslRef, now: SystemTime) -> Option<Arc<TicketKey>> {
    let is_tls13 = ssl.version2() == Some(SslVersion::TLS1_3);
    // What would be sealed can resume nowhere. In TLS 1.2 the ticket is empty then.
    let withheld =
        ssl.session().is_some_and(binding::has_ended) && (!is_tls13 || ffi::can_withhold_tickets());
    let connection = ffi::connection_mut(ssl)?;
    if withheld && connection.policy().keys().is_none() {
        // A stateful one, which comes here for this alone.
        ffi::set_no_ticket(ssl, true);
        return None;
    }
    if !connection.note_sealed() {
        // Without a stamp the ticket would be good for nothing.
        connection.owner().notice(Setting::TicketCallbacks);
    }
    let connection = ffi::connection(ssl)?;
    if withheld || connection.owner().usurped().is_some() || binding::is_refused(ssl, connection) {
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
    iv: &[u8; 16],
    now: SystemTime,
) -> Option<Arc<TicketKey>> {
    if connection.outcome().is_some() {
        // A renegotiation, which has no second look at the demand. It is full.
        return None;
    }
    if let Some(reason) = connection.owner().usurped() {
        connection.set_at_hand(AtHand::Refused(reason));
        return None;
    }
    let mut identity = Identity::default();
    identity[..16].copy_from_slice(name);
    identity[16..].copy_from_slice(iv);
    if let Err(reason) = connection.mention(&identity, |counters| &counters.capped_tickets) {
        connection.set_at_hand(AtHand::Refused(reason));
        return None;
    }
    let found = connection.policy().keys()?.opening(name, now);
    let (fate, key) = match found {
        Some((key, standing)) => (TicketFate::Opened(standing), Some(key)),
        None => (TicketFate::UnknownKey, None),
    };
    connection.set_at_hand(AtHand::Named(identity, fate));
    key
}

/// The ticket has been opened or not: decides what to do with it.
pub(crate) fn decide(ssl: &mut SslRef, ticket: &Ticket<'_>, now: SystemTime) -> Option<Verdict> {
    let connection = ffi::connection_mut(ssl)?;
    let at_hand = connection.take_at_hand();
    if connection.outcome().is_some() || matches!(ticket, Ticket::Empty) {
        return Some(Verdict::Decline);
    }
    if let (Ticket::Opened(_), None) = (ticket, at_hand) {
        // Under a key that is not ours.
        connection.owner().notice(Setting::TicketKeyCallback);
    }
    if let Some(reason) = connection.owner().usurped() {
        connection.decline(reason);
        return Some(Verdict::Decline);
    }
    let (identity, fate) = match at_hand {
        Some(AtHand::Named(identity, fate)) => (identity, fate),
        Some(AtHand::Refused(reason)) => {
            connection.decline(reason);
            return Some(Verdict::Decline);
        }
        None => {
            // Too short to name a key.
            connection.set_ticket(TicketFate::Malformed);
            connection.decline(Reason::Malformed);
            return Some(Verdict::Decline);
        }
    };
    let Ticket::Opened(session) = ticket else {
        let (fate, reason) = match fate {
            TicketFate::UnknownKey => (TicketFate::UnknownKey, Reason::UnknownKey),
            _ => (TicketFate::Malformed, Reason::Malformed),
        };
        connection.set_ticket(fate);
        connection.decline_candidate(&identity, reason);
        return Some(Verdict::Decline);
    };
    connection.set_ticket(fate);
    let here = binding::here(ssl, ffi::connection(ssl)?, now)?;
    let admitted = binding::admit(ssl, session, &here);
    let connection = ffi::connection_mut(ssl)?;
    match admitted {
        Ok(stamp) => {
            connection.supply(Source::Ticket, stamp, ffi::credential(session));
        }
        Err(reason) => {
            connection.decline_candidate(&identity, reason);
            return Some(Verdict::Decline);
        }
    }
    // TLS 1.3 clients use a ticket once (RFC 8446, appendix C.4), so each resumption brings the
    // next. In TLS 1.2 a ticket serves until its key has sealed its last, and longer if there is no
    // other key: an empty new ticket would take the old one from the client.
    let can_seal = || Some(connection.policy().keys()?.sealing(now).is_some());
    let renew = here.version == SslVersion::TLS1_3
        || fate == TicketFate::Opened(Standing::Retired) && can_seal()?;
    Some(if renew { Verdict::Renew } else { Verdict::Use })
}
