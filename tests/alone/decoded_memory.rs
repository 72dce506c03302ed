//! What the decoded sessions really take when clients' certificates have many tiny subject alternative names.
#![allow(
    unsafe_code,
    clippy::undocumented_unsafe_blocks,
    reason = "the counts of the allocator"
)]
#[path = "../common/mod.rs"]
mod common;
use common::*;
use openssl::asn1::{Asn1Object, Asn1OctetString};
use openssl::hash::MessageDigest;
use openssl::ssl::SslVerifyMode;
use openssl::x509::{X509, X509Extension};
use openssl_resumption::*;

fn allocated() -> usize {
    let i = unsafe { libc::mallinfo2() };
    i.uordblks + i.hblkhd
}

fn with_san(issuer: &Identity, entry: &[u8], n: usize) -> Identity {
    let mut id = mint("me", Some(issuer)).unwrap();
    let body: Vec<u8> = entry
        .iter()
        .copied()
        .cycle()
        .take(entry.len() * n)
        .collect();
    let len = (body.len() as u16).to_be_bytes();
    let der = [&[0x30, 0x82, len[0], len[1]][..], &body].concat();
    let mut cert = X509::builder().unwrap();
    cert.set_version(2).unwrap();
    cert.set_serial_number(id.cert.serial_number()).unwrap();
    cert.set_not_before(id.cert.not_before()).unwrap();
    cert.set_not_after(id.cert.not_after()).unwrap();
    cert.set_subject_name(id.cert.subject_name()).unwrap();
    cert.set_issuer_name(id.cert.issuer_name()).unwrap();
    cert.set_pubkey(&id.key).unwrap();
    let oid = Asn1Object::from_str("2.5.29.17").unwrap();
    let content = Asn1OctetString::new_from_bytes(&der).unwrap();
    cert.append_extension(X509Extension::new_from_der(&oid, false, &content).unwrap())
        .unwrap();
    cert.sign(&issuer.key, MessageDigest::sha256()).unwrap();
    id.cert = cert.build();
    id
}

#[test]
fn memory() {
    let ca = mint("clients", None).unwrap();
    let mut worse = vec![];
    for (what, entry, n) in [
        ("dNSName of no bytes", &[0x82u8, 0][..], 7_400),
        ("directoryName of no parts", &[0xa4, 2, 0x30, 0][..], 3_700),
        ("iPAddress of no bytes", &[0x87, 0][..], 7_400),
    ] {
        let me = with_san(&ca, entry, n);
        let client = client_as(Kind::Tls12, &me);
        for limit in [0, Resumption::DEFAULT_MAX_DECODED] {
            let policy = Resumption::stateful(MemoryStore::default()).max_decoded(limit);
            let context = context_with(&policy, |b| {
                b.cert_store_mut().add_cert(ca.cert.clone()).unwrap();
                b.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
            });
            meet(&context, &client, None);
            let before = allocated();
            for _ in 0..160 {
                meet(&context, &client, None);
            }
            let store = policy.stats().store;
            let grown = allocated() - before;
            let room = limit + limit / 10 + (6 << 20);
            if grown > room {
                worse.push(format!(
                    "{what}: {} MiB for a limit of {} MiB",
                    grown >> 20,
                    limit >> 20
                ));
            }
            println!(
                "{what} x{n}: certificate {} bytes; max_decoded({limit}): 161 full handshakes; heap grew by {:.1} MiB; store holds {:?} bytes; too_large {}",
                me.cert.to_der().unwrap().len(),
                grown as f64 / 1048576.0,
                store.usage.map(|u| u.bytes),
                store.too_large
            );
        }
    }
    assert!(worse.is_empty(), "{worse:#?}");
}
