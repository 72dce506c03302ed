//! Decisions of the new-session and get-session callbacks.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant, SystemTime};

use openssl::sha::Sha256;
use openssl::ssl::{SslRef, SslSession, SslSessionRef, SslVersion};

use crate::binding;
use crate::connection::Connection;
use crate::ffi;
use crate::guard::catch;
use crate::outcome::{Reason, Source};
use crate::resumption::Resumption;
use crate::stamp::{Claims, Here};
use crate::store::{Session, SessionKey, StoreError};

/// The length of every session id that OpenSSL makes. What a client sends may be shorter.
const ID_LEN: usize = 32;

const CHECKSUM_LEN: usize = 8;

/// A store call that takes this long is counted as slow.
const SLOW: Duration = Duration::from_millis(10);

/// OpenSSL made a session that can be resumed by its id: stores it.
pub(crate) fn new_session(ssl: &SslRef, session: &SslSessionRef) {
    let Some(policy) = ffi::connection(ssl).map(Connection::policy) else {
        return;
    };
    let Some(store) = policy.store() else { return };
    let tls13 = session.protocol_version() == SslVersion::TLS1_3;
    // In hybrid mode TLS 1.3 sessions travel in tickets; OpenSSL reports them all the same, under
    // an id that nobody will ask for.
    if session.id().len() != ID_LEN || (tls13 && policy.keys().is_some()) {
        return;
    }
    if binding::is_refused(ssl) {
        return;
    }
    if !tls13 {
        // The other sessions have been stamped when their tickets were made.
        binding::stamp_session(ssl, session);
    }
    let Some(der) = ffi::session_to_der(session) else {
        return;
    };
    let key = SessionKey::derive(policy.scope_bytes(), tls13, session.id());
    let check = checksum(&key, der.as_bytes());
    let record = Session::new(Claims::of(session).expires_at, [&check, der.as_bytes()]);
    if call(policy, || store.put(&key, record)).is_ok() {
        policy.counters().puts.add_one();
    }
}

/// The client offered a session id, or in TLS 1.3 a stateful ticket: returns its session, if it is
/// to be resumed here.
pub(crate) fn get_session(
    connection: &mut Connection,
    id: &[u8],
    here: &Here,
) -> Option<SslSession> {
    let found = find(connection, id, here).and_then(|session| {
        let stamp = binding::admit(connection.policy(), &session, here)?;
        Ok((session, stamp))
    });
    match found {
        Ok((session, stamp)) => {
            connection.supply(Source::Store, stamp);
            Some(session)
        }
        Err(reason) => {
            connection.decline(reason);
            None
        }
    }
}

/// Finds the session of this id, in the store or where it was remembered.
fn find(connection: &mut Connection, id: &[u8], here: &Here) -> Result<SslSession, Reason> {
    if id.len() != ID_LEN {
        return Err(Reason::NotFound);
    }
    let policy = connection.policy();
    let key = SessionKey::derive(policy.scope_bytes(), here.version == SslVersion::TLS1_3, id);
    if let Some(answer) = connection.answer(&key) {
        return decode(&key, &answer?).ok_or(Reason::StoreFailed);
    }
    let (answer, session) = match ask(policy, &key, here.now) {
        Ok((record, session)) => (Ok(record), Ok(session)),
        Err(reason) => (Err(reason), Err(reason)),
    };
    connection.remember_answer(key, answer);
    session
}

/// Asks the store, and counts what it says: one of hit, miss, expired or error.
fn ask(
    policy: &Resumption,
    key: &SessionKey,
    now: SystemTime,
) -> Result<(Session, SslSession), Reason> {
    let counters = policy.counters();
    let store = policy.store().ok_or(Reason::NotFound)?;
    let Some(record) = call(policy, || store.get(key))? else {
        counters.misses.add_one();
        return Err(Reason::NotFound);
    };
    if record.expires_at() <= now {
        counters.expired.add_one();
        return Err(Reason::Expired);
    }
    let Some(session) = decode(key, &record) else {
        counters.errors.add_one();
        return Err(Reason::StoreFailed);
    };
    counters.hits.add_one();
    Ok((record, session))
}

/// A record is a checksum and the DER of a session.
fn decode(key: &SessionKey, record: &Session) -> Option<SslSession> {
    let (check, der) = record.payload().split_first_chunk()?;
    if *check != checksum(key, der) {
        return None;
    }
    ffi::session_from_der(der)
}

/// Tells a record that was damaged, or stored under another key, before OpenSSL sees it: a session
/// with another id breaks the handshake on OpenSSL 3.0, one with a damaged secret on all.
///
/// A store that wants to deceive can compute it; against that sessions are sealed.
fn checksum(key: &SessionKey, der: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut hash = Sha256::new();
    hash.update(key.as_bytes());
    hash.update(der);
    *hash.finish().first_chunk().expect("8 is less than 32")
}

/// Calls the store: measures it, counts, and turns an error or a panic into `StoreFailed`.
fn call<T>(policy: &Resumption, f: impl FnOnce() -> Result<T, StoreError>) -> Result<T, Reason> {
    let start = Instant::now();
    let answer = catch(AssertUnwindSafe(f));
    if start.elapsed() >= SLOW {
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
