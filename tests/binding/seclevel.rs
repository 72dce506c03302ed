//! A client certificate with a key that is too small at one listener's security level, from a session of another listener.
use crate::common::*;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::x509::X509;
#[test]
fn small_keys() {
    let ca = mint("clients", None).unwrap();
    let base = mint("me", Some(&ca)).unwrap();
    let key = PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap();
    let mut c = X509::builder().unwrap();
    c.set_version(2).unwrap();
    c.set_serial_number(base.cert.serial_number()).unwrap();
    c.set_not_before(base.cert.not_before()).unwrap();
    c.set_not_after(base.cert.not_after()).unwrap();
    c.set_subject_name(base.cert.subject_name()).unwrap();
    c.set_issuer_name(ca.cert.subject_name()).unwrap();
    c.set_pubkey(&key).unwrap();
    c.sign(&ca.key, MessageDigest::sha256()).unwrap();
    let weak = Identity {
        cert: c.build(),
        key,
    };
    let mut bad = 0;
    for (what, policy, kind) in resuming_clients() {
        let demand = |b: &mut openssl::ssl::SslAcceptorBuilder| demand_certificates(b, &ca);
        let lax = context_with(&policy, |b| {
            demand(b);
            b.set_security_level(0);
        });
        let strict = context_with(&policy, |b| {
            demand(b);
            b.set_security_level(2);
        });
        let client = Client::with(kind, |c| {
            c.set_security_level(0);
            c.set_certificate(&weak.cert)?;
            c.set_private_key(&weak.key)
        })
        .unwrap();
        let (full, why) = try_meet(&strict, &client, None);
        let first = meet(&lax, &client, None);
        let (met, _) = try_meet(&strict, &client, first.next());
        let r = met.map(|m| m.outcome.map(|o| o.to_string()));
        println!(
            "{what}: strict, full: {} ({:?}); strict, with the session of the lax one: {r:?}",
            if full.is_ok() { "taken" } else { "refused" },
            why
        );
        if full.is_err() && matches!(&r, Ok(Some(o)) if o.contains("resumed")) {
            bad += 1;
        }
    }
    assert_eq!(bad, 0);
}
