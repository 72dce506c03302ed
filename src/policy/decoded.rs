//! Sessions that are kept decoded, because decoding is dear where they have a client
//! certificate (120 to 200 µs on OpenSSL 3.0, most of it for the certificate's public key).
//!
//! They cache decoding, never existence: the store has answered before one is looked for, and
//! it serves only if it was made of the very bytes that the store returned. No connection ever gets
//! one, only a copy: OpenSSL writes to sessions that it resumes, and marks those of connections
//! that end badly as not resumable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use openssl::ssl::{SslSession, SslSessionRef};
use parking_lot::Mutex;

use crate::ffi::{self, OwnedSession};
use crate::session::{Session, SessionKey};
use crate::store::{Item, Kind, Shelf};
use crate::threads::{self, Perishable, Watched};

/// What one takes beside its record and its certificate: an `SSL_SESSION`, an `X509`, and the
/// entry here.
const OVERHEAD: usize = 2_048;

/// How many bytes a byte of a record takes at most, decoded: a certificate of nothing but tiny names or
/// extensions takes 15, and clients may choose what is in theirs. A usual one takes less than half.
const PER_BYTE: usize = 16;

/// How many a byte of an extension takes at most. OpenSSL parses extensions when it verifies a certificate,
/// or somebody asks it something, and keeps what it finds with the certificate, which it shares with
/// all its copies: an alternative name of two bytes takes 104.
const PER_BYTE_OF_EXTENSIONS: usize = 64;

/// A session and the record that it is decoded from, or was encoded to.
pub(crate) struct DecodedSession {
    session: SslSession,
    record: Session,
    /// The bytes of memory that it is counted as.
    size: usize,
    /// Bytes of memory that this and all others may take together.
    limit: usize,
}

impl DecodedSession {
    /// One of a copy of this session, unless it is too large for the limit.
    pub(crate) fn new(session: &SslSessionRef, record: &Session, limit: usize) -> Option<Self> {
        let size = size(session, record);
        // Data of the user's would be shared by all copies, and freed with each.
        if size > limit || ffi::has_ex_data(session) {
            return None;
        }
        Some(Self {
            session: ffi::copy_session(session)?.into_shared(),
            record: record.clone(),
            size,
            limit,
        })
    }
}

fn size(session: &SslSessionRef, record: &Session) -> usize {
    let extensions = ffi::peer_certificate(session).map_or(0, ffi::extensions_len);
    record.as_bytes().len() * PER_BYTE + extensions * PER_BYTE_OF_EXTENSIONS + OVERHEAD
}

/// The decoded sessions of a policy, those used last.
#[derive(Default)]
pub(crate) struct Decoded {
    /// There are any: spares the lock.
    any: AtomicBool,
    kept: Mutex<Shelf<Arc<DecodedSession>>>,
    watched: Watched,
}

impl Item for Arc<DecodedSession> {
    fn size(&self) -> usize {
        self.size
    }

    fn ends(&self) -> u64 {
        self.record.ends()
    }
}

impl Decoded {
    /// A copy of the session that was made of this record.
    pub(crate) fn copy(&self, key: &SessionKey, record: &Session) -> Option<OwnedSession> {
        if !self.any.load(Relaxed) {
            return None;
        }
        // The copy is made outside the lock. Nobody writes to what several then read.
        let session = self.kept.lock().get(key).map(Arc::clone)?;
        if session.record.as_bytes() != record.as_bytes() {
            return None;
        }
        ffi::copy_session(&session.session)
    }

    /// Keeps a decoded session, which is a successor if its client has used another session.
    pub(crate) fn keep(
        self: &Arc<Self>,
        key: &SessionKey,
        session: DecodedSession,
        used: Option<&SessionKey>,
    ) {
        let limit = session.limit;
        // What goes is freed outside the lock.
        let mut gone = Vec::new();
        let mut kept = self.kept.lock();
        let kind = match used {
            Some(used) => kept.supersede(used),
            None => Kind::Fresh,
        };
        gone.extend(kept.insert(key, kind, Arc::new(session)));
        while kept.bytes() > limit {
            let Some((_, evicted)) = kept.evict(key) else {
                break;
            };
            gone.push(evicted);
        }
        drop(kept);
        self.any.store(true, Relaxed);
        threads::watch(self);
    }

    pub(crate) fn forget(&self, key: &SessionKey) {
        if !self.any.load(Relaxed) {
            return;
        }
        let gone = self.kept.lock().pop(key);
        drop(gone);
    }
}

impl Perishable for Decoded {
    fn watched(&self) -> &Watched {
        &self.watched
    }

    fn is_empty(&self) -> bool {
        self.kept.lock().len() == 0
    }

    fn sweep(&self, now: u64, _: &mut usize) -> bool {
        let mut gone = Vec::new();
        let more = self.kept.lock().sweep(now, &mut gone);
        drop(gone);
        more
    }
}

#[cfg(test)]
mod tests;
