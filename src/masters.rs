//! Masters: sessions that are kept decoded, because decoding is dear where they have a client
//! certificate (120 to 200 µs on OpenSSL 3.0, most of it for the certificate's public key).
//!
//! They cache decoding, never existence: the store has answered before a master is looked for, and
//! it serves only if it was made of the very bytes that the store returned. No connection ever gets
//! a master, only a copy: OpenSSL writes to sessions that it resumes, and marks those of connections
//! that end badly as not resumable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use lru::LruCache;
use openssl::ssl::{SslSession, SslSessionRef};
use parking_lot::Mutex;

use crate::ffi;
use crate::store::{Session, SessionKey};

/// What a master takes beside its record and its certificate: an `SSL_SESSION`, an `X509` with the
/// public key decoded, and the entry here.
const OVERHEAD: usize = 4_096;

/// How many bytes a byte of a record takes: in the record, in the session and in the certificate,
/// which OpenSSL keeps both as it was sent and decoded.
const PER_BYTE: usize = 4;

/// A session and the record that it is decoded from, or was encoded to.
pub(crate) struct Master {
    session: SslSession,
    record: Session,
    /// Bytes of memory that this and all others may take together.
    limit: usize,
}

impl Master {
    /// A master of a copy of this session, unless it is too large for the limit.
    pub(crate) fn new(session: &SslSessionRef, record: &Session, limit: usize) -> Option<Self> {
        if size(record) > limit {
            return None;
        }
        Some(Self {
            session: ffi::copy_session(session)?,
            record: record.clone(),
            limit,
        })
    }
}

fn size(record: &Session) -> usize {
    record.as_bytes().len() * PER_BYTE + OVERHEAD
}

/// The masters of a policy, those used last.
pub(crate) struct Masters {
    /// There are any: spares the lock.
    any: AtomicBool,
    kept: Mutex<Kept>,
}

struct Kept {
    masters: LruCache<SessionKey, Arc<Master>>,
    bytes: usize,
}

impl Default for Masters {
    fn default() -> Self {
        Self {
            any: AtomicBool::new(false),
            kept: Mutex::new(Kept {
                // Bounded in bytes.
                masters: LruCache::unbounded(),
                bytes: 0,
            }),
        }
    }
}

impl Masters {
    /// A copy of the master of this record.
    pub(crate) fn copy(&self, key: &SessionKey, record: &Session) -> Option<SslSession> {
        if !self.any.load(Relaxed) {
            return None;
        }
        // The copy is made outside the lock. Nobody writes to what several then read.
        let master = self.kept.lock().masters.get(key).map(Arc::clone)?;
        if master.record.as_bytes() != record.as_bytes() {
            return None;
        }
        ffi::copy_session(&master.session)
    }

    pub(crate) fn keep(&self, key: SessionKey, master: Master) {
        // What goes is freed outside the lock.
        let mut gone = Vec::new();
        let mut kept = self.kept.lock();
        kept.bytes += size(&master.record);
        let limit = master.limit;
        gone.extend(kept.masters.put(key, Arc::new(master)));
        kept.bytes -= gone
            .iter()
            .map(|master| size(&master.record))
            .sum::<usize>();
        while kept.bytes > limit
            && let Some((_, oldest)) = kept.masters.pop_lru()
        {
            kept.bytes -= size(&oldest.record);
            gone.push(oldest);
        }
        drop(kept);
        self.any.store(true, Relaxed);
    }

    pub(crate) fn forget(&self, key: &SessionKey) {
        if !self.any.load(Relaxed) {
            return;
        }
        let mut kept = self.kept.lock();
        let gone = kept.masters.pop(key);
        kept.bytes -= gone.as_ref().map_or(0, |master| size(&master.record));
        drop(kept);
    }
}
