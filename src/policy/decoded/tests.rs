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
