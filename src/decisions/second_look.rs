//! The second look: whether a connection may go on that resumes, once all callbacks for its hello have run; and what
//! full handshakes tell about demands that come late.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::SystemTime;

use openssl::ssl::{NameType, SslRef, SslVerifyMode, SslVersion};

use super::applied::Applied;
use super::connection::Connection;
use super::demand::{demand_and_how, prepare};
use super::look::{passes_still, verifier};
use super::offer::Offer;
use super::overridden::Setting;
use super::stamping::resumed_stamp;
use crate::base::{catch, unix_seconds};
use crate::ffi::{self, Verification};
use crate::policy::Demanded;
use crate::session::{Binding, Demand};

/// Whether a connection may go on with its handshake: if it resumes, what is demanded now, after
/// the server name callback, is met by the session.
///
/// If not it is too late to decline, and the connection must be failed. Its client would come back
/// with the same session, so what was demanded is remembered: the next lookup declines, and the
/// handshake is full. What is demanded once the handshake is complete, in a renegotiation (which is
/// always full) or by asking for a certificate then, is verified by OpenSSL and not our affair.
pub(super) fn may_go_on(ssl: &SslRef, connection: &Connection) -> bool {
    if connection.outcome().is_some() || !ssl.session_reused() {
        // The context may be another one by now.
        prepare(ssl, connection);
        return true;
    }
    // All callbacks for the hello have run before the first step that resumes. Others could still raise the
    // mode.
    let verify = ffi::verify_mode(ssl);
    if connection.has_looked_at(verify) {
        return true;
    }
    let stamp = resumed_stamp(ssl);
    // Another session was resumed past us, and nobody knows where it was made; the server name callback is
    // told the name of that place, and demands what is demanded there. Nor has one of ours been checked.
    let Some(stamp) =
        stamp.filter(|stamp| connection.offer().and_then(Offer::resuming) == Some(stamp))
    else {
        let owner = connection.owner();
        if stamp.is_none() && is_external_psk(ssl, owner) {
            return true;
        }
        // Unless it is this connection alone that OpenSSL does not call us for.
        match stamp {
            _ if owner.makes_our_tickets() => {}
            Some(_) => owner.notice(Setting::TicketCallbacks),
            None => owner.doubt(),
        }
        return false;
    };
    let (demand, how) = demand_and_how(ssl, connection);
    let met = demand.is_met_by(&stamp).is_ok();
    let passed = connection.offer().map(Offer::passed);
    let passes =
        |how| passed.is_some_and(|passed| passes_still(ssl, connection, &stamp, how, passed));
    let met = met && how.as_ref().is_none_or(passes);
    if met {
        connection.set_looked_at(verify);
    } else {
        // It may depend on more than the name, and whoever offered the session need not have met it.
        note_demand(
            ssl,
            connection,
            stamp.binding,
            (demand, how),
            Some(REMEMBERED),
        );
    }
    met
}

/// How long a demand is remembered that no client is known to have met.
const REMEMBERED: u64 = 3_600;

/// Whether a connection that resumes has been looked at again: not if its info callback was replaced after the
/// lookup. That is done now, before any data passes; not to know is not to let pass.
pub(super) fn has_second_look(ssl: &mut SslRef) -> bool {
    if !ssl.session_reused() || ffi::has_info_callback(ssl) {
        return true;
    }
    let looked = catch(AssertUnwindSafe(|| {
        Connection::of(ssl).is_none_or(|connection| {
            connection.owner().notice(Setting::InfoCallback);
            may_go_on(ssl, connection)
        })
    }));
    let goes_on = looked.unwrap_or(false);
    if goes_on {
        return true;
    }
    if let Some(connection) = Connection::of_mut(ssl) {
        connection.fail_closed();
    }
    false
}

/// A full handshake is complete: takes down what was demanded of the client after its offer was looked up. A
/// demand of the certificate callback shows nowhere else: OpenSSL does not call it when it resumes.
pub(super) fn note_full_handshake(ssl: &SslRef, connection: &Connection) {
    if ffi::asks_after_handshake(ssl) {
        // What is demanded then depends on the version, and names do not.
        return;
    }
    let (demand, how) = demand_and_how(ssl, connection);
    let is_late = demand.verify.contains(SslVerifyMode::PEER)
        && connection.offer().and_then(Offer::first_demand) != Some(&demand);
    let lifetime = is_late.then(|| connection.policy().longest_lifetime());
    let name = ssl.servername_raw(NameType::HOST_NAME);
    let binding = connection.owner().binding(name);
    note_demand(ssl, connection, binding, (demand, how), lifetime);
}

/// Remembers a demand that was late for so many seconds, and of one that was not that it is the context's own.
fn note_demand(
    ssl: &SslRef,
    connection: &Connection,
    binding: Binding,
    (demand, how): (Demand, Option<Verification>),
    late: Option<u64>,
) {
    let now = unix_seconds(SystemTime::now());
    let until = late.map(|seconds| now.saturating_add(seconds));
    let verifier = how.and_then(|how| verifier(ssl, &how));
    let seen = Demanded {
        demand,
        until,
        verifier: verifier.as_ref().map(Arc::downgrade).unwrap_or_default(),
    };
    connection.owner().late().note(binding, seen.clone(), now);
    if until.is_some() {
        connection.policy().late().note(binding, seen, now);
    }
}

/// Whether what is resumed without a stamp is an external pre-shared key of TLS 1.3, which is the application's
/// affair: one made of bytes, or a session that was once made in a handshake. That is told from a ticket of others
/// by their not having the callbacks; should it be one all the same, it does not pass a demand.
fn is_external_psk(ssl: &SslRef, owner: &Applied) -> bool {
    let has_age = |session| ffi::shielded(true, || ffi::has_ticket_age(session));
    ssl.version2() == Some(SslVersion::TLS1_3)
        && (!ssl.session().is_none_or(has_age)
            || (owner.makes_our_tickets() && !ffi::verify_mode(ssl).contains(SslVerifyMode::PEER)))
}
