//! Sessions in tickets: the key that one is sealed or opened under, and whether it resumes.

use std::sync::Arc;
use std::time::SystemTime;

use openssl::ssl::{SslRef, SslVersion};

use super::admission::{admit, here};
use super::candidates::Identity;
use super::connection::Connection;
use super::not_kept::is_refused;
use super::offer::{AtHand, Offer};
use super::overridden::Setting;
use super::withheld_tickets::is_withheld;
use crate::ffi::{self, Ticket, Verdict};
use crate::keys::{Standing, TicketKey};
use crate::outcome::{Reason, Source};
use crate::policy::TicketFate;

/// A ticket is to be sealed: the key, or none for a connection without a ticket.
pub(super) fn seal(ssl: &mut SslRef, now: SystemTime) -> Option<Arc<TicketKey>> {
    let withheld = is_withheld(ssl);
    let connection = Connection::of_mut(ssl)?;
    if connection.tickets_mut().take_withheld() {
        // A stateful one, which comes here for this alone.
        ffi::set_no_ticket(ssl, true);
        return None;
    }
    if !connection.tickets_mut().note_sealed() {
        // Without a stamp the ticket would be good for nothing.
        connection.owner().notice(Setting::TicketCallbacks);
    }
    let connection = Connection::of(ssl)?;
    let is_unwanted =
        ssl.version2() != Some(SslVersion::TLS1_3) && !connection.policy().gives_tls12_tickets();
    if withheld
        || is_unwanted
        || connection.owner().overridden().is_some()
        || is_refused(ssl, connection)
    {
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
pub(super) fn open(
    connection: &mut Connection,
    name: &[u8; 16],
    iv: &[u8; 16],
    now: SystemTime,
) -> Option<Arc<TicketKey>> {
    if connection.outcome().is_some() {
        // A renegotiation, which has no second look at the demand. It is full.
        return None;
    }
    if let Some(reason) = connection.owner().overridden() {
        connection.offer_mut()?.set_at_hand(AtHand::Refused(reason));
        return None;
    }
    let mut identity = Identity::default();
    identity[..16].copy_from_slice(name);
    identity[16..].copy_from_slice(iv);
    if let Err(reason) = connection.mention(&identity, |counters| &counters.capped_tickets) {
        connection.offer_mut()?.set_at_hand(AtHand::Refused(reason));
        return None;
    }
    let found = connection.policy().keys()?.opening(name, now);
    let (fate, key) = match found {
        Some((key, standing)) => (TicketFate::Opened(standing), Some(key)),
        None => (TicketFate::UnknownKey, None),
    };
    connection
        .offer_mut()?
        .set_at_hand(AtHand::Named(identity, fate));
    key
}

/// The ticket has been opened or not: decides what to do with it.
pub(super) fn decide(ssl: &mut SslRef, ticket: Ticket<'_>, now: SystemTime) -> Option<Verdict> {
    let connection = Connection::of_mut(ssl)?;
    let at_hand = connection.offer_mut().and_then(Offer::take_at_hand);
    if connection.outcome().is_some() || matches!(ticket, Ticket::Empty) {
        return Some(Verdict::Decline);
    }
    if let (Ticket::Opened(_), None) = (&ticket, at_hand) {
        // Under a key that is not ours.
        connection.owner().notice(Setting::TicketKeyCallback);
    }
    if let Some(reason) = connection.owner().overridden() {
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
            connection.offer_mut()?.set_ticket(TicketFate::Malformed);
            connection.decline(Reason::Malformed);
            return Some(Verdict::Decline);
        }
    };
    let Ticket::Opened(mut session) = ticket else {
        let (fate, reason) = match fate {
            TicketFate::UnknownKey => (TicketFate::UnknownKey, Reason::UnknownKey),
            _ => (TicketFate::Malformed, Reason::Malformed),
        };
        connection.offer_mut()?.set_ticket(fate);
        connection.decline_candidate(&identity, reason);
        return Some(Verdict::Decline);
    };
    connection.offer_mut()?.set_ticket(fate);
    let here = here(ssl, Connection::of(ssl)?, now)?;
    let is_unwanted =
        here.version != SslVersion::TLS1_3 && !Connection::of(ssl)?.policy().gives_tls12_tickets();
    let admitted = match is_unwanted {
        true => Err(Reason::WrongContext),
        false => admit(ssl, &identity, &mut session, &here),
    };
    let connection = Connection::of_mut(ssl)?;
    match admitted {
        Ok(admitted) => {
            connection.supply(Source::Ticket, admitted.stamp, ffi::credential(&session));
            connection.offer_mut()?.set_passed(admitted.passed);
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
