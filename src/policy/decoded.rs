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
mod tests {
    use std::thread;
    use std::time::{Duration, SystemTime};

    use openssl::asn1::Asn1Time;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    use openssl::pkey::PKey;
    use openssl::x509::{X509, X509Builder};

    use super::*;

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let len = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82, len[0], len[1]], content].concat()
    }

    fn session() -> SslSession {
        let session = ffi::session_from_der(&session_of(|_| ()));
        let session = session.unwrap().into_shared();
        assert!(ffi::peer_certificate(&session).is_some());
        session
    }

    /// A TLS 1.3 session with a client certificate, as OpenSSL writes it.
    fn session_of(prepare: impl FnOnce(&mut X509Builder)) -> Vec<u8> {
        let curve = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&curve).unwrap()).unwrap();
        let mut certificate = X509::builder().unwrap();
        let today = Asn1Time::days_from_now(0).unwrap();
        certificate.set_not_before(&today).unwrap();
        certificate.set_not_after(&today).unwrap();
        certificate.set_pubkey(&key).unwrap();
        prepare(&mut certificate);
        certificate.sign(&key, MessageDigest::sha256()).unwrap();
        let certificate = certificate.build().to_der().unwrap();
        let fields = [
            tlv(2, &[1]),
            tlv(2, &[3, 4]),
            tlv(4, &[0x13, 2]),
            tlv(4, &[1; 32]),
            tlv(4, &[2; 48]),
            tlv(0xa3, &certificate),
        ];
        tlv(0x30, &fields.concat())
    }

    /// Some time in the year 2100.
    const ENDS: u64 = 4_102_444_800;

    fn record(n: u8) -> Session {
        until(n, ENDS)
    }

    fn until(n: u8, seconds: u64) -> Session {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        Session::new(end, &[n; 400])
    }

    fn key(n: u8) -> SessionKey {
        SessionKey::from([n; 32])
    }

    fn has(decoded: &Decoded, n: u8) -> bool {
        decoded.copy(&key(n), &record(n)).is_some()
    }

    #[test]
    fn it_serves_for_its_own_bytes_only() {
        let (decoded, record) = (Arc::new(Decoded::default()), record(1));
        let one = DecodedSession::new(&session(), &record, 1 << 20).unwrap();
        decoded.keep(&key(1), one, None);
        let copy = decoded.copy(&key(1), &record).unwrap();
        assert_eq!(copy.id(), [1; 32]);
        for at in 0..record.as_bytes().len() {
            let mut bytes = record.as_bytes().to_vec();
            bytes[at] ^= 1;
            if let Ok(changed) = Session::from_bytes(&bytes) {
                assert!(decoded.copy(&key(1), &changed).is_none(), "byte {at}");
            }
        }
        decoded.forget(&key(1));
        assert!(decoded.copy(&key(1), &record).is_none());
        assert_eq!(decoded.kept.lock().bytes(), 0);
    }

    #[test]
    fn the_least_recently_used_makes_room() {
        let (decoded, session) = (Arc::new(Decoded::default()), session());
        let limit = 3 * size(&session, &record(0));
        let keep = |n, used: Option<u8>| {
            let one = DecodedSession::new(&session, &record(n), limit).unwrap();
            decoded.keep(&key(n), one, used.map(key).as_ref());
        };
        (0..3).for_each(|n| keep(n, None));
        keep(2, None);
        assert!(has(&decoded, 0) && decoded.kept.lock().bytes() == limit);
        keep(3, None);
        assert!(has(&decoded, 0) && !has(&decoded, 1) && has(&decoded, 2) && has(&decoded, 3));
        keep(4, Some(3));
        assert!(has(&decoded, 0) && has(&decoded, 2) && !has(&decoded, 3) && has(&decoded, 4));
        assert_eq!(decoded.kept.lock().bytes(), limit);
        assert!(DecodedSession::new(&session, &record(5), limit / 3 - 1).is_none());
    }

    #[test]
    fn what_has_ended_goes() {
        let (decoded, session) = (Arc::new(Decoded::default()), session());
        for n in 0..3 {
            let record = until(n, ENDS + 10 * u64::from(n));
            let one = DecodedSession::new(&session, &record, 1 << 20).unwrap();
            decoded.keep(&key(n), one, None);
        }
        assert!(!decoded.sweep(ENDS + 15, &mut 0));
        assert_eq!(decoded.kept.lock().len(), 1);
    }

    /// A client that fills the memory of the server has a certificate of many small parts.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[test]
    fn no_certificate_takes_more_than_is_counted() {
        let mut name = openssl::x509::X509Name::builder().unwrap();
        (0..1_300).for_each(|_| name.append_entry_by_text("C", "XX").unwrap());
        let name = name.build();
        let der = session_of(|certificate| {
            certificate.set_subject_name(&name).unwrap();
            certificate.set_issuer_name(&name).unwrap();
        });
        let session = ffi::session_from_der(&der).unwrap();
        let counted = size(&session, &Session::new(SystemTime::UNIX_EPOCH, &der));
        let before = ffi::allocated();
        let sessions: Vec<_> = (0..100)
            .map(|_| ffi::session_from_der(&der).unwrap())
            .collect();
        // Other tests allocate too, and not as much.
        let each = (ffi::allocated() - before) / sessions.len();
        assert!(
            each + der.len() < counted,
            "{each} + {}, {counted}",
            der.len()
        );
        assert!(
            each > 4 * der.len(),
            "{each}: a certificate that is no test"
        );
    }

    /// `.ci/long` runs this under helgrind.
    #[test]
    fn many_threads_copy_one_session() {
        let session = session();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let copy = ffi::copy_session(&session).unwrap();
                        let certificate = ffi::peer_certificate(&copy).unwrap();
                        assert!(certificate.public_key().is_ok());
                    }
                });
            }
        });
    }
}
