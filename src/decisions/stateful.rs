//! Sessions in the store: those that are made, and those that are asked for.

use std::time::SystemTime;

use openssl::ssl::{SslRef, SslSession, SslVersion};

use super::admission::{admit, here};
use super::candidates::Identity;
use super::connection::Connection;
use super::not_kept::is_refused;
use super::overridden::Setting;
use super::stamping::{has_ended, stamp_session};
use super::ticket_kind::is_stateful;
use crate::ffi::{self, OwnedSession, SessionMut};
use crate::outcome::{Reason, Source};
use crate::session::{Here, Session, SessionKey, Stamp, encode};

/// The length of every session id that OpenSSL makes. What a client sends may be shorter.
const ID_LEN: usize = size_of::<Identity>();

/// OpenSSL made a session that can be resumed by its id: stores it.
///
/// Returns the key it is stored under.
pub(super) fn new_session(ssl: &SslRef, session: SessionMut<'_>) -> Option<SessionKey> {
    let connection = Connection::of(ssl)?;
    let policy = connection.policy();
    policy.store()?;
    let tls13 = session.protocol_version() == SslVersion::TLS1_3;
    // OpenSSL reports TLS 1.3 sessions that travel in sealed tickets all the same, under an id that nobody will
    // ask for.
    if session.id().len() != ID_LEN || (tls13 && !is_stateful(ssl)) {
        return None;
    }
    // A session without a session id context is not resumed: it was made after a switch to a
    // context that has none.
    if is_refused(ssl, connection) || ffi::id_context(&session).is_empty() {
        return None;
    }
    // Made where nobody resumes it; and OpenSSL's cache, if it is on, has it already.
    if connection.owner().overridden().is_some() {
        return None;
    }
    // The callback that logs secrets has seen a TLS 1.2 session by now, and may have handed it to another
    // thread: what is written from here on goes into a copy. (To a TLS 1.3 session OpenSSL itself writes
    // until its ticket is sent.)
    let mut copy = match tls13 {
        false if ffi::copy_stands_alone(&session) => Some(ffi::copy_session(&session)?),
        _ => None,
    };
    let mut session = match &mut copy {
        Some(copy) => copy.as_mut(),
        None => session,
    };
    if !tls13 {
        // The other sessions have been stamped when their tickets were made.
        stamp_session(ssl, &mut session);
    } else if Stamp::from_bytes(ffi::appdata(&session)).is_none() {
        connection.owner().notice(Setting::TicketCallbacks);
        return None;
    }
    if has_ended(&session) {
        return None;
    }
    let key = policy.key_of(session.protocol_version(), session.id());
    let chain = connection.client().chain();
    let largest = policy.knobs().max_session_size;
    let fits = |record: &Session| record.as_bytes().len() <= largest;
    let mut record = encode(&key, &mut session, chain.as_deref())?;
    if !fits(&record) && chain.is_some() {
        // Other hosts will not know the chain.
        record = encode(&key, &mut session, None)?;
    }
    if !fits(&record) {
        policy.counters().too_large.add_one();
        return None;
    }
    // What a store keeps has no chain, and so has no session that it returns.
    let decoded = match ffi::has_chain(ssl) {
        true => None,
        false => policy.to_keep(&session, &record),
    };
    policy.put(&key, record, connection.used(), decoded)?;
    Some(key)
}

/// The client offered a session id, or in TLS 1.3 a stateful ticket: returns its session, if it is
/// to be resumed here.
pub(super) fn get_session(ssl: &mut SslRef, id: &[u8], now: SystemTime) -> Option<SslSession> {
    let connection = Connection::of_mut(ssl)?;
    if connection.outcome().is_some() {
        // A renegotiation, which has no second look at the demand. It is full.
        return None;
    }
    if let Some(reason) = connection.owner().overridden() {
        connection.decline(reason);
        return None;
    }
    let Ok(id) = <&Identity>::try_from(id) else {
        connection.decline(Reason::NotFound);
        return None;
    };
    if let Err(reason) = connection.mention(id, |counters| &counters.capped) {
        connection.decline(reason);
        return None;
    }
    let here = here(ssl, Connection::of(ssl)?, now)?;
    let connection = Connection::of(ssl)?;
    let key = connection.policy().key_of(here.version, id);
    let found = find(connection, &key, id, &here).and_then(|mut session| {
        let admitted = admit(ssl, id, &mut session.as_mut(), &here)?;
        Ok((session, admitted))
    });
    let connection = Connection::of_mut(ssl)?;
    if connection.policy().takes(here.version) {
        connection.policy().decoded().forget(&key);
    }
    match found {
        Ok((session, admitted)) => {
            connection.supply(Source::Store, admitted.stamp, ffi::credential(&session));
            if let Some(offer) = connection.offer_mut() {
                offer.set_passed(admitted.passed);
                offer.give(key);
            }
            Some(session.into_shared())
        }
        Err(reason) => {
            connection.decline_candidate(id, reason);
            None
        }
    }
}

/// Finds the session of this id, in the store or where its answer was kept.
fn find(
    connection: &Connection,
    key: &SessionKey,
    id: &Identity,
    here: &Here,
) -> Result<OwnedSession, Reason> {
    let policy = connection.policy();
    let known = connection
        .candidates()
        .and_then(|mut known| known.answer(id));
    if let Some(answer) = known {
        return policy.decode(key, id, &answer?).ok_or(Reason::StoreFailed);
    }
    if connection.asks_ahead() {
        // This is not the thread to wait for the store.
        return Err(Reason::NotFound);
    }
    let (answer, session) = match policy.ask(here.version, key, id, here.now) {
        Ok((record, session)) => (Ok(record), Ok(session)),
        Err(reason) => (Err(reason), Err(reason)),
    };
    // For after a HelloRetryRequest, which there is in TLS 1.3 only.
    if here.version == SslVersion::TLS1_3 {
        if let Some(mut known) = connection.candidates() {
            known.set_answer(id, answer);
        }
    }
    session
}
