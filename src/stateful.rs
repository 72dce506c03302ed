//! Decisions of the new-session and get-session callbacks.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant, SystemTime};

use openssl::ssl::{SslRef, SslSession, SslSessionRef, SslVersion};

use crate::binding;
use crate::candidates::Identity;
use crate::connection::Connection;
use crate::ffi;
use crate::guard::catch;
use crate::outcome::{Reason, Source};
use crate::overridden::Setting;
use crate::resumption::Resumption;
use crate::stamp::{self, Here, Stamp, unix_seconds};
use crate::store::{HEADER, Session, SessionKey, StoreError};

/// The length of every session id that OpenSSL makes. What a client sends may be shorter.
const ID_LEN: usize = size_of::<Identity>();

const CHECKSUM_LEN: usize = 8;

/// A store call that takes this long is counted as slow.
const SLOW: Duration = Duration::from_millis(10);

/// OpenSSL made a session that can be resumed by its id: stores it.
///
/// Returns the key it is stored under.
pub(crate) fn new_session(ssl: &SslRef, session: &SslSessionRef) -> Option<SessionKey> {
    let connection = ffi::connection(ssl)?;
    let policy = connection.policy();
    let store = policy.store()?;
    let tls13 = session.protocol_version() == SslVersion::TLS1_3;
    // In hybrid mode TLS 1.3 sessions travel in tickets; OpenSSL reports them all the same, under
    // an id that nobody will ask for.
    if session.id().len() != ID_LEN || (tls13 && policy.keys().is_some()) {
        return None;
    }
    // A session without a session id context is not resumed: it was made after a switch to a
    // context that has none.
    if binding::is_refused(ssl, connection) || ffi::id_context(session).is_empty() {
        return None;
    }
    // Made where nobody resumes it; and OpenSSL's cache, if it is on, has it already.
    if connection.owner().usurped().is_some() {
        return None;
    }
    // The callback that logs secrets has seen a TLS 1.2 session by now, and may have handed it to another
    // thread: what is written from here on goes into a copy. (To a TLS 1.3 session OpenSSL itself writes
    // until its ticket is sent.)
    let copy = match tls13 {
        false if ffi::copy_stands_alone(session) => Some(ffi::copy_session(session)?),
        _ => None,
    };
    let session = copy.as_deref().unwrap_or(session);
    if !tls13 {
        // The other sessions have been stamped when their tickets were made.
        binding::stamp_session(ssl, session);
    } else if Stamp::from_bytes(ffi::appdata(session)).is_none() {
        connection.owner().notice(Setting::TicketCallbacks);
        return None;
    }
    if binding::has_ended(session) {
        return None;
    }
    let key = SessionKey::derive(policy.scope_bytes(), tls13, session.id());
    let record = encode(&key, session)?;
    if record.as_bytes().len() > policy.max_session_size_value() {
        policy.counters().too_large.add_one();
        return None;
    }
    // What a store keeps has no chain, and so has no session that it returns.
    let master = match ffi::has_chain(ssl) {
        true => None,
        false => policy.master_of(session, &record),
    };
    let used = connection.used();
    call(policy, || match used {
        Some(used) => store.put_successor(&key, record, used),
        None => store.put(&key, record),
    })
    .ok()?;
    policy.counters().puts.add_one();
    if let Some(master) = master {
        policy.masters().keep(&key, master, used);
    }
    Some(key)
}

/// Removes a session from the store.
pub(crate) fn remove(policy: &Resumption, key: &SessionKey) {
    let Some(store) = policy.store() else { return };
    if call(policy, || store.remove(key)).is_ok() {
        policy.counters().removed.add_one();
    }
    // After it: a lookup may have come in between, and kept one.
    policy.masters().forget(key);
}

/// The client offered a session id, or in TLS 1.3 a stateful ticket: returns its session, if it is
/// to be resumed here.
pub(crate) fn get_session(ssl: &mut SslRef, id: &[u8], now: SystemTime) -> Option<SslSession> {
    let connection = ffi::connection_mut(ssl)?;
    if connection.outcome().is_some() {
        // A renegotiation, which has no second look at the demand. It is full.
        return None;
    }
    if let Some(reason) = connection.owner().usurped() {
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
    let here = binding::here(ssl, ffi::connection(ssl)?, now)?;
    let connection = ffi::connection(ssl)?;
    let key = key_of(connection.policy(), here.version, id);
    let found = find(connection, &key, id, &here).and_then(|session| {
        let stamp = binding::admit(ssl, &session, &here)?;
        Ok((session, stamp))
    });
    let connection = ffi::connection_mut(ssl)?;
    let once = is_taken(connection.policy(), here.version);
    if once {
        connection.policy().masters().forget(&key);
    }
    match found {
        Ok((session, stamp)) => {
            connection.supply(Source::Store, stamp, ffi::credential(&session));
            connection.give(key);
            Some(session)
        }
        Err(reason) => {
            connection.decline_candidate(id, reason);
            None
        }
    }
}

pub(crate) fn key_of(policy: &Resumption, version: SslVersion, id: &[u8]) -> SessionKey {
    SessionKey::derive(policy.scope_bytes(), version == SslVersion::TLS1_3, id)
}

/// Whether a lookup takes the session out of the store. Not in TLS 1.2, whose ids are sent in clear:
/// who saw one could use up a session that is not theirs.
pub(crate) fn is_taken(policy: &Resumption, version: SslVersion) -> bool {
    version == SslVersion::TLS1_3 && policy.is_single_use()
}

/// Finds the session of this id, in the store or where its answer was kept.
fn find(
    connection: &Connection,
    key: &SessionKey,
    id: &Identity,
    here: &Here,
) -> Result<SslSession, Reason> {
    let policy = connection.policy();
    if let Some(answer) = connection.answer(id) {
        return decode(policy, key, id, &answer?).ok_or(Reason::StoreFailed);
    }
    if connection.asks_ahead() {
        // This is not the thread to wait for the store.
        return Err(Reason::NotFound);
    }
    let (answer, session) = match ask(policy, here.version, key, id, here.now) {
        Ok((record, session)) => (Ok(record), Ok(session)),
        Err(reason) => (Err(reason), Err(reason)),
    };
    // For after a HelloRetryRequest, which there is in TLS 1.3 only.
    if here.version == SslVersion::TLS1_3 {
        connection.set_answer(id, answer);
    }
    session
}

/// Asks the store, and counts what it says: one of hit, miss, expired or error.
pub(crate) fn ask(
    policy: &Resumption,
    version: SslVersion,
    key: &SessionKey,
    id: &[u8],
    now: SystemTime,
) -> Result<(Session, SslSession), Reason> {
    let counters = policy.counters();
    let store = policy.store().ok_or(Reason::NotFound)?;
    let look = || {
        if is_taken(policy, version) {
            store.take(key)
        } else {
            store.get(key)
        }
    };
    let Some(record) = call(policy, look)? else {
        policy.masters().forget(key);
        counters.misses.add_one();
        return Err(Reason::NotFound);
    };
    if record.expires_at() <= now {
        policy.masters().forget(key);
        counters.expired.add_one();
        return Err(Reason::Expired);
    }
    let session = decode(policy, key, id, &record);
    if is_taken(policy, version) {
        policy.masters().forget(key);
    }
    let Some(session) = session else {
        counters.errors.add_one();
        return Err(Reason::StoreFailed);
    };
    counters.hits.add_one();
    Ok((record, session))
}

/// The record of a session: when it ends, a checksum, and its DER without what is known otherwise: the
/// id, which who asks for it has, and the timeout, which is the end less the time it was made. It is written
/// in one place, so that there are no copies to wipe.
fn encode(key: &SessionKey, session: &SslSessionRef) -> Option<Session> {
    let id: [u8; ID_LEN] = session.id().try_into().ok()?;
    let timeout = u64::try_from(session.timeout()).ok()?;
    let ends = stamp::expires_at(session);
    ffi::set_session_id(session, &[]);
    ffi::set_session_timeout(session, 0);
    let record = ffi::session_to_der(session, HEADER + CHECKSUM_LEN);
    ffi::set_session_id(session, &id);
    ffi::set_session_timeout(session, timeout);
    let mut record = record?;
    let (check, der) = record.as_mut_bytes()[HEADER..].split_first_chunk_mut()?;
    *check = checksum(key, ends, der);
    Some(Session::with_header(ends, record))
}

/// The session in a record. Where there is a master that was made of these bytes, a copy of it spares
/// the decoding.
fn decode(
    policy: &Resumption,
    key: &SessionKey,
    id: &[u8],
    record: &Session,
) -> Option<SslSession> {
    if let Some(copy) = policy.masters().copy(key, record) {
        return Some(copy);
    }
    let (check, der) = record.payload().split_first_chunk()?;
    let ends = record.expires_at();
    if *check != checksum(key, ends, der) {
        return None;
    }
    let session = ffi::session_from_der(der)?;
    ffi::set_session_id(&session, id);
    let made = u64::try_from(session.time()).ok()?;
    ffi::set_session_timeout(&session, unix_seconds(ends).checked_sub(made)?);
    if ffi::peer_certificate(&session).is_some() {
        policy.counters().decoded.add_one();
        if let Some(master) = policy.master_of(&session, record) {
            policy.masters().keep(key, master, None);
        }
    }
    Some(session)
}

/// Tells a record that was damaged, or stored under another key, before OpenSSL sees it: a session
/// with a damaged or another's secret breaks the handshake. It is no protection against a store that
/// wants to deceive: that one can compute it.
///
/// The first 8 bytes of the key, a hash of the id, masked with a hash of the end and the DER by words: any
/// change within one word shows, because each step can be undone.
fn checksum(key: &SessionKey, ends: SystemTime, der: &[u8]) -> [u8; CHECKSUM_LEN] {
    let key = key.as_bytes().first_chunk().expect("8 is less than 32");
    let words = der.chunks_exact(8);
    let (rest, mut last) = (words.remainder(), [0; 8]);
    last[..rest.len()].copy_from_slice(rest);
    let words = words.map(|word| word.try_into().expect("8 bytes each"));
    let step = |hash: u64, word: [u8; 8]| {
        let hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // Its highest bits come from all of the word, its lowest from the lowest alone.
        hash ^ (hash >> 32)
    };
    let ends = unix_seconds(ends).to_le_bytes();
    let hash = words.fold(step(der.len() as u64, ends), step);
    let hash = step(hash, last);
    (u64::from_be_bytes(*key) ^ hash).to_be_bytes()
}

/// Calls the store: measures it, counts, and turns an error or a panic into `StoreFailed`.
fn call<T>(policy: &Resumption, f: impl FnOnce() -> Result<T, StoreError>) -> Result<T, Reason> {
    let slow = Instant::now() + SLOW;
    // An error is the store's own, so it is dropped where it may panic.
    let answer = catch(AssertUnwindSafe(|| f().map_err(drop)));
    if Instant::now() >= slow {
        policy.counters().slow.add_one();
    }
    match answer {
        Some(Ok(answer)) => Ok(answer),
        _ => {
            policy.counters().errors.add_one();
            Err(Reason::StoreFailed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

    /// A session of TLS 1.3, made at 1,700,000,000, for 86,399 seconds.
    fn session() -> SslSession {
        let time = [0xa1, 6, 2, 4, 0x65, 0x53, 0xf1, 0x00];
        let timeout = [0xa2, 5, 2, 3, 1, 0x51, 0x7f];
        let head = [2, 1, 1, 2, 2, 3, 4, 4, 2, 0x13, 2];
        let (id, secret) = ([&[4, 32], &[1; 32][..]], [&[4, 48], &[2; 48][..]]);
        let fields = [&head[..], &id.concat(), &secret.concat(), &time, &timeout].concat();
        let der = [&[0x30, fields.len() as u8], &fields[..]].concat();
        ffi::session_from_der(&der).unwrap()
    }

    #[test]
    fn a_session_survives_its_record() {
        let session = session();
        let der = session.to_der().unwrap();
        let key = SessionKey::derive(b"", true, session.id());
        let record = encode(&key, &session).unwrap();
        assert_eq!(session.to_der().unwrap(), der, "it is as it was");
        assert_eq!(unix_seconds(record.expires_at()), 1_700_086_399);

        let policy = Resumption::stateful(MemoryStore::default());
        let read = decode(&policy, &key, session.id(), &record).unwrap();
        assert_eq!(read.to_der().unwrap(), der);
    }

    #[test]
    fn a_session_that_ends_before_it_was_made_is_none() {
        let session = session();
        let key = SessionKey::derive(b"", true, session.id());
        let mut record = encode(&key, &session).unwrap().as_bytes().to_vec();
        let ends = SystemTime::UNIX_EPOCH + Duration::from_secs(1_699_999_999);
        record[1..HEADER].copy_from_slice(&1_699_999_999_u64.to_be_bytes());
        let check = checksum(&key, ends, &record[HEADER + CHECKSUM_LEN..]);
        record[HEADER..HEADER + CHECKSUM_LEN].copy_from_slice(&check);
        let record = Session::from_bytes(&record).unwrap();
        let policy = Resumption::stateful(MemoryStore::default());
        assert!(decode(&policy, &key, session.id(), &record).is_none());
    }
}
