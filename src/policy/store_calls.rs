//! What passes between a policy and its store, counted, with what is kept decoded beside it.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant, SystemTime};

use openssl::ssl::{SslSessionRef, SslVersion};

use super::decoded::DecodedSession;
use super::resumption::Resumption;
use crate::base::catch;
use crate::ffi::{self, OwnedSession};
use crate::outcome::Reason;
use crate::session::{self, Chain, Session, SessionKey, Stamp, StoreError};

/// A store call that takes this long is counted as slow.
const SLOW: Duration = Duration::from_millis(10);

impl Resumption {
    /// What the store is asked for, when a client offers this id.
    pub(crate) fn key_of(&self, version: SslVersion, id: &[u8]) -> SessionKey {
        SessionKey::derive(&self.knobs.scope, version == SslVersion::TLS1_3, id)
    }

    /// Whether a lookup takes the session out of the store. Not in TLS 1.2, whose ids are sent in clear:
    /// who saw one could use up a session that is not theirs.
    pub(crate) fn takes(&self, version: SslVersion) -> bool {
        version == SslVersion::TLS1_3 && self.knobs.single_use
    }

    /// Stores a session, which succeeds the one that its client has used, if it has. `decoded` is what is kept of it
    /// beside the store.
    pub(crate) fn put(
        &self,
        key: &SessionKey,
        record: Session,
        used: Option<&SessionKey>,
        decoded: Option<DecodedSession>,
    ) -> Option<()> {
        let store = self.store()?;
        self.call(|| match used {
            Some(used) => store.put_successor(key, record, used),
            None => store.put(key, record),
        })
        .ok()?;
        self.counters().puts.add_one();
        if let Some(decoded) = decoded {
            self.decoded().keep(key, decoded, used);
        }
        Some(())
    }

    /// Asks the store, and counts what it says: one of hit, miss, expired or error.
    pub(crate) fn ask(
        &self,
        version: SslVersion,
        key: &SessionKey,
        id: &[u8],
        now: SystemTime,
    ) -> Result<(Session, OwnedSession), Reason> {
        let counters = self.counters();
        let store = self.store().ok_or(Reason::NotFound)?;
        let look = || {
            if self.takes(version) {
                store.take(key)
            } else {
                store.get(key)
            }
        };
        let Some(record) = self.call(look)? else {
            self.decoded().forget(key);
            counters.misses.add_one();
            return Err(Reason::NotFound);
        };
        if record.expires_at() <= now {
            self.decoded().forget(key);
            counters.expired.add_one();
            return Err(Reason::Expired);
        }
        let session = self.decode(key, id, &record);
        if self.takes(version) {
            self.decoded().forget(key);
        }
        let Some(session) = session else {
            counters.errors.add_one();
            return Err(Reason::StoreFailed);
        };
        counters.hits.add_one();
        Ok((record, session))
    }

    /// The session in a record. One that was made of these bytes and is kept decoded spares the decoding: a copy of it.
    pub(crate) fn decode(
        &self,
        key: &SessionKey,
        id: &[u8],
        record: &Session,
    ) -> Option<OwnedSession> {
        if let Some(copy) = self.decoded().copy(key, record) {
            self.note_chain(&copy, session::chain_in(record));
            return Some(copy);
        }
        let (session, chain) = session::decode(key, id, record)?;
        self.note_chain(&session, chain);
        if ffi::peer_certificate(&session).is_some() {
            self.counters().decoded.add_one();
            if let Some(decoded) = self.to_keep(&session, record) {
                self.decoded().keep(key, decoded, None);
            }
        }
        Some(session)
    }

    /// Keeps the chain that came with a session from the store, where another host may have put it.
    fn note_chain(&self, session: &SslSessionRef, der: &[u8]) {
        if der.is_empty() {
            return;
        }
        let hash = Stamp::from_bytes(ffi::appdata(session)).and_then(|stamp| stamp.chain);
        if let Some(hash) = hash.filter(|hash| self.chains().get(hash).is_none()) {
            if let Some(chain) = Chain::from_der(der, &hash) {
                self.chains().keep(chain);
            }
        }
    }

    /// This session as it is kept decoded, if it is dear to decode and small enough.
    pub(crate) fn to_keep(
        &self,
        session: &SslSessionRef,
        record: &Session,
    ) -> Option<DecodedSession> {
        ffi::peer_certificate(session)?;
        DecodedSession::new(session, record, self.knobs.max_decoded)
    }

    /// Removes a session from the store.
    pub(crate) fn remove(&self, key: &SessionKey) {
        let Some(store) = self.store() else { return };
        if self.call(|| store.remove(key)).is_ok() {
            self.counters().removed.add_one();
        }
        // After it: a lookup may have come in between, and kept one.
        self.decoded().forget(key);
    }

    /// Calls the store: measures it, counts, and turns an error or a panic into `StoreFailed`.
    fn call<T>(&self, f: impl FnOnce() -> Result<T, StoreError>) -> Result<T, Reason> {
        let slow = Instant::now() + SLOW;
        // An error is the store's own, so it is dropped where it may panic.
        let answer = catch(AssertUnwindSafe(|| f().map_err(drop)));
        if Instant::now() >= slow {
            self.counters().slow.add_one();
        }
        match answer {
            Some(Ok(answer)) => Ok(answer),
            _ => {
                self.counters().errors.add_one();
                Err(Reason::StoreFailed)
            }
        }
    }
}
