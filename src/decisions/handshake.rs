//! The answers to what OpenSSL's callbacks ask, from the start of a handshake to its end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::SystemTime;

use openssl::ssl::{SslRef, SslSession, SslVersion};
use openssl_sys as sys;

use super::applied::Applied;
use super::candidates::Candidates;
use super::connection::Connection;
use super::demand::first_demand;
use super::not_kept::{is_refused, is_too_large};
use super::overridden::Setting;
use super::second_look::{has_second_look, may_go_on, note_full_handshake};
use super::stamping::{begin_lineage, resumed_stamp, stamp_session};
use super::ticket_kind::{choose_for_hello, choose_for_ticket, reset};
use super::withheld_tickets::withhold_ended;
use super::{early_data, stateful, stateless};
use crate::base::catch;
use crate::ffi::{self, Alert, Decisions, SessionMut, Ticket, TicketContext, Verdict};
use crate::outcome::EarlyData;

/// All handshakes of the process.
pub(crate) struct Decider;

impl Decisions for Decider {
    fn started(&self, ssl: &mut SslRef) {
        start(ssl).unwrap_or_default();
    }

    fn greeted(&self, ssl: &mut SslRef, message: &[u8]) {
        choose_for_hello(ssl, message);
    }

    fn done(&self, ssl: &mut SslRef, session: Option<SessionMut<'_>>) {
        done(ssl, session).unwrap_or_default();
    }

    fn stepped(&self, ssl: &mut SslRef) {
        step(ssl);
    }

    fn alerted(&self, ssl: &mut SslRef, alert: Alert) {
        match (Connection::of_mut(ssl), alert) {
            (Some(connection), Alert::Fatal) => ffi::shielded((), || connection.fatal_alert()),
            (Some(connection), Alert::CloseSent) => connection.close(),
            (None, _) => {}
        }
    }

    fn made(&self, ssl: &mut SslRef, session: SessionMut<'_>) {
        notice_info_callback(ssl);
        let version = session.protocol_version();
        let Some(key) = stateful::new_session(ssl, session) else {
            return;
        };
        if let Some(connection) = Connection::of_mut(ssl) {
            connection.made(key, version);
        }
    }

    fn offered(&self, ssl: &mut SslRef, id: &[u8]) -> Option<SslSession> {
        notice_info_callback(ssl);
        stateful::get_session(ssl, id, SystemTime::now())
    }

    fn seal(&self, ssl: &mut SslRef, ticket: &mut TicketContext<'_>) -> Option<()> {
        let key = stateless::seal(ssl, SystemTime::now())?;
        ticket.seal(key.name(), key.aes(), key.hmac())?;
        Connection::of(ssl)?.policy().counters().sealed.add_one();
        Some(())
    }

    fn open(&self, ssl: &mut SslRef, ticket: &mut TicketContext<'_>) -> Option<()> {
        let (name, iv) = ticket.name_and_iv();
        let key = stateless::open(Connection::of_mut(ssl)?, name, iv, SystemTime::now())?;
        ticket.open(key.aes(), key.hmac())
    }

    fn ticket_due(&self, ssl: &mut SslRef, session: Option<SessionMut<'_>>) -> bool {
        // A session that was not stamped is not resumed.
        catch(AssertUnwindSafe(|| {
            notice_info_callback(ssl);
            if let Some(connection) = Connection::of_mut(ssl) {
                connection.tickets_mut().note_generated();
            }
            if let Some(mut session) = session {
                stamp_session(ssl, &mut session);
            }
            choose_for_ticket(ssl);
            withhold_ended(ssl);
        }));
        has_second_look(ssl)
    }

    fn decide(&self, ssl: &mut SslRef, ticket: Ticket<'_>) -> Option<Verdict> {
        notice_info_callback(ssl);
        stateless::decide(ssl, ticket, SystemTime::now())
    }

    fn early_data(&self, ssl: &mut SslRef) -> bool {
        early_data::decide(ssl) == Some(EarlyData::Accepted)
    }
}

/// The handshake starts: the connection gets its owner, the policy of the context that it has now,
/// before a ClientHello or server name callback can switch it to another.
fn start(ssl: &mut SslRef) -> Option<()> {
    // An SSL that is used again after `SSL_clear` still calls the callbacks of the context that it
    // was made with, whatever context it was switched to.
    let owner = match Connection::of(ssl) {
        Some(connection) => Arc::clone(connection.owner()),
        None => Arc::clone(Applied::of(ssl.ssl_context())?),
    };
    // A START in the middle of things is a renegotiation, or the way on after SSL_read_early_data
    // returned: the connection is the one it was. An SSL reused after `SSL_clear` is a new one.
    if !ssl.is_server() || !ffi::is_before_handshake(ssl) {
        return None;
    }
    if let Some(before) = Connection::of(ssl) {
        // `SSL_clear` leaves what we have denied the connection before, and its session, which would be taken
        // for that of this one.
        if let Some(tickets) = before.tickets().denied() {
            ssl.set_num_tickets(tickets).ok()?;
        }
        ffi::drop_session(ssl);
        reset(ssl);
    }
    let overridden = owner.overridden_at(ssl);
    if overridden.is_some() || owner.is_in_doubt() {
        ffi::shielded(Err(()), || ffi::isolate(ssl)).ok()?;
    }
    let mut new = Connection::new(owner, SystemTime::now());
    if let Some(reason) = overridden {
        new.decline(reason);
    }
    new.put_into(ssl)?;
    let demand = first_demand(ssl);
    if let Some(offer) = Connection::of_mut(ssl)?.offer_mut() {
        offer.set_first_demand(demand);
    }
    // From now on whatever context the connection is switched to.
    ffi::keep_info_callback(ssl);
    Some(())
}

fn done(ssl: &mut SslRef, session: Option<SessionMut<'_>>) -> Option<()> {
    // SSL_read_early_data returns, and OpenSSL says DONE, after a HelloRetryRequest and after the
    // server's Finished; the handshake is complete with the client's.
    if ssl.finished(&mut []) == 0 || ssl.peer_finished(&mut []) == 0 {
        if !early_data::note_read(ssl) {
            fail(ssl);
        }
        return None;
    }
    let version = ssl.version2()?;
    let reused = ssl.session_reused();
    let resumed = resumed_stamp(ssl).filter(|_| reused);
    let connection = Connection::of(ssl)?;
    let first = connection.outcome().is_none();
    if first && !reused {
        note_full_handshake(ssl, connection);
    }
    let early = match first {
        true => early_data::settle(ssl, connection, reused),
        false => None,
    };
    let connection = Connection::of_mut(ssl)?;
    connection.complete(version, reused, resumed, early);
    if first && connection.policy().reads_hellos() {
        notice_message_callback(connection);
    }
    let is_new = first && version == SslVersion::TLS1_3 && resumed.is_none();
    if let Some(mut session) = session.filter(|_| is_new) {
        // Now, for all tickets that are still to come.
        stamp_session(ssl, &mut session);
    }
    if first && !reused {
        begin_lineage(ssl, Connection::of(ssl)?);
    }
    notice_id_context(ssl);
    Some(())
}

/// Notices if the ClientHello was not shown to us that tells one kind of tickets from the other.
fn notice_message_callback(connection: &Connection) {
    if !connection.tickets().has_seen_hello() {
        connection.owner().notice(Setting::MessageCallback);
    }
}

/// Only a session tells what session id context it was made in; a switched context has its own.
fn notice_id_context(ssl: &SslRef) -> Option<()> {
    let owner = Connection::of(ssl)?.owner();
    let current = Applied::of(ssl.ssl_context())?;
    if Arc::ptr_eq(owner, current) && owner.overridden().is_none() {
        owner.notice_id_context(ffi::id_context(ssl.session()?));
    }
    Some(())
}

/// The handshake takes a step: among others one after the server name callback has run, and one
/// after the client's certificate has been read.
fn step(ssl: &mut SslRef) {
    early_data::note_step(ssl);
    let Some(connection) = Connection::of(ssl) else {
        return;
    };
    notice_ticket_callbacks(ssl, connection);
    if let Some(mut candidates) = connection.candidates().filter(|all| all.have_sessions()) {
        match ssl.state_string() {
            // `TLS_ST_EARLY_DATA` before the rest of the server's flight: a HelloRetryRequest has been sent, and the
            // client takes as long as it likes for its second hello.
            "TED" => candidates.hold(),
            // The server's hello has been written, and in TLS 1.3 something after it: OpenSSL will not ask for a
            // session any more.
            "TWEE" => *candidates = Candidates::default(),
            "TWSH" if ssl.version2() != Some(SslVersion::TLS1_3) => {
                *candidates = Candidates::default();
            }
            _ => {}
        }
    }
    let is_failed = connection.is_failed();
    let goes_on = is_failed || {
        // Not to know is not to let pass.
        let check = || may_go_on(ssl, connection);
        catch(AssertUnwindSafe(check)).unwrap_or(false)
    };
    if goes_on {
        if is_refused(ssl, connection) || is_too_large(ssl, connection) {
            deny_tickets(ssl);
        }
        return;
    }
    fail(ssl);
}

/// The connection must not go on.
fn fail(ssl: &mut SslRef) {
    if let Some(connection) = Connection::of_mut(ssl) {
        connection.fail_closed();
    }
    ffi::shut_down(ssl);
}

/// Before TLS 1.3 tickets are due; an error leaves the client some that will be declined.
fn deny_tickets(ssl: &mut SslRef) {
    let tickets = ssl.num_tickets();
    if tickets == 0 || ssl.set_num_tickets(0).is_err() {
        return;
    }
    if let Some(connection) = Connection::of_mut(ssl) {
        connection.tickets_mut().deny(tickets);
    }
}

/// After a ticket has been made it is known whether OpenSSL called us for it. There is no other way to know
/// whose callbacks a context has.
fn notice_ticket_callbacks(ssl: &SslRef, connection: &Connection) {
    if connection.owner().makes_our_tickets() {
        return;
    }
    // Before TLS 1.3 there is no other ticket than a sealed one; to ask for the state is dear.
    let has_none =
        ffi::has_option(ssl, sys::SSL_OP_NO_TICKET) && ssl.version2() != Some(SslVersion::TLS1_3);
    // `TLS_ST_SW_SESSION_TICKET`, whose number differs between versions.
    if has_none || ssl.state_string() != "TWST" {
        return;
    }
    let stateful = ffi::has_option(ssl, sys::SSL_OP_NO_TICKET) || ffi::has_replay_protection(ssl);
    let tickets = connection.tickets();
    tickets.notice_callbacks(connection.owner(), !stateful);
}

/// Notices if the handshake that OpenSSL calls us in was never reported to us: its context, or the
/// connection, has another info callback. Without a `Connection` nothing is stored and nothing resumes.
fn notice_info_callback(ssl: &SslRef) {
    let is_unknown = || Connection::of(ssl).is_none() && ssl.is_server();
    if let Some(applied) = Applied::of(ssl.ssl_context()).filter(|_| is_unknown()) {
        applied.notice(Setting::InfoCallback);
    }
}
