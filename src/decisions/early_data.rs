//! Early data: whether it is accepted, and what is said of it when a handshake is done.

use openssl::ssl::{SslRef, SslVersion};

use super::connection::Connection;
use super::offer::Offer;
use super::second_look::may_go_on;
use super::stamping::resumed_stamp;
use crate::ffi::{self, EarlyStatus};
use crate::outcome::EarlyData;

/// Everything else is right for early data: decides, and counts it now, because who sends a hello again need not
/// complete the handshake.
pub(super) fn decide(ssl: &mut SslRef) -> Option<EarlyData> {
    let connection = Connection::of(ssl)?;
    let early = unfit(ssl, connection).unwrap_or_else(|| ask(ssl, connection));
    connection.policy().counters().early_data(early);
    let offer = Connection::of_mut(ssl)?.offer_mut()?;
    offer.early_data_mut().decided = Some(early);
    Some(early)
}

/// Why it is not accepted, whatever a register says.
fn unfit(ssl: &SslRef, connection: &Connection) -> Option<EarlyData> {
    let policy = connection.policy();
    let session = ssl.session()?;
    let (max, promised) = (policy.max_early_data(), session.max_early_data());
    let resuming = connection.offer().and_then(Offer::resuming);
    // A demand that the session does not meet fails the connection at its next step.
    let checked = resuming.is_some()
        && resumed_stamp(ssl).as_ref() == resuming
        && !connection.is_failed()
        && connection.owner().overridden().is_none()
        && may_go_on(ssl, connection);
    match () {
        () if max == 0 => Some(EarlyData::Off),
        () if !checked => Some(EarlyData::Unchecked),
        () if promised == 0 || promised > max => Some(EarlyData::Promised),
        () => None,
    }
}

/// Whether it was seen before.
fn ask(ssl: &SslRef, connection: &Connection) -> EarlyData {
    let policy = connection.policy();
    let offer = connection.offer();
    // Under single use its session was taken out of the store, and nobody else gets it.
    let is_taken = policy.takes(SslVersion::TLS1_3) && policy.has_no_register();
    if is_taken && offer.and_then(Offer::given).is_none() {
        return EarlyData::Unchecked;
    }
    if let Some(known) = offer.and_then(|offer| offer.early_data().registered()) {
        return known;
    }
    if connection.asks_ahead() {
        // This is not the thread to wait for a register.
        return EarlyData::RegisterFailed;
    }
    let mut random = [0; 32];
    match ssl.client_random(&mut random) {
        32 => policy.is_new(&random),
        _ => EarlyData::Unchecked,
    }
}

/// OpenSSL has answered the client's first flight, and says that it is done, to let early data be read; or it has
/// asked for another hello. Whether the connection may go on: not if OpenSSL accepted what it did not ask us about.
pub(super) fn note_read(ssl: &mut SslRef) -> bool {
    let status = ffi::early_status(ssl);
    let Some(offer) = Connection::of_mut(ssl).and_then(Connection::offer_mut) else {
        // Somebody else's.
        return true;
    };
    let early = offer.early_data_mut();
    early.is_read = true;
    status != EarlyStatus::Accepted || early.decided == Some(EarlyData::Accepted)
}

/// The handshake takes a step: whether early data was offered in a hello that another was asked for after.
pub(super) fn note_step(ssl: &mut SslRef) {
    if ffi::early_status(ssl) != EarlyStatus::Declined || ssl.finished(&mut []) != 0 {
        return;
    }
    // `TLS_ST_EARLY_DATA` before the rest of the server's flight.
    if ssl.state_string() == "TED" {
        if let Some(offer) = Connection::of_mut(ssl).and_then(Connection::offer_mut) {
            offer.early_data_mut().is_retried = true;
        }
    }
}

/// The handshake is done: what became of early data, if it was offered. What OpenSSL did not ask us about is counted
/// now.
pub(super) fn settle(ssl: &SslRef, connection: &Connection, reused: bool) -> Option<EarlyData> {
    if ffi::early_status(ssl) == EarlyStatus::NotOffered {
        return None;
    }
    let early = connection.offer()?.early_data();
    if early.decided.is_some() {
        return early.decided;
    }
    let why = match () {
        () if connection.policy().max_early_data() == 0 => EarlyData::Off,
        () if !reused => EarlyData::NotResumed,
        () if early.is_retried => EarlyData::HelloRetried,
        () if !early.is_read => EarlyData::NotRead,
        () => EarlyData::Unfit,
    };
    connection.policy().counters().early_data(why);
    Some(why)
}
