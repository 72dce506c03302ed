//! A session with a certificate that one listener lets pass, offered at another that would not: they share
//! policy, name and CAs, and differ in how they verify.

use openssl::hash::MessageDigest;
use openssl::ssl::SslAcceptorBuilder;
use openssl::x509::extension::ExtendedKeyUsage;
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509PurposeId, X509VerifyResult};
use openssl_resumption::{
    Handshake::{Full, Resumed},
    Reason,
};

use crate::common::*;

type Prepare = fn(&mut SslAcceptorBuilder);

fn nothing(_: &mut SslAcceptorBuilder) {}

/// What makes a listener strict, what makes one lax, and whether both are as they come.
fn differences() -> Vec<(&'static str, Prepare, Prepare)> {
    vec![
        ("depth", |b| b.set_verify_depth(0), nothing),
        (
            "flags",
            |b| {
                let flags = X509VerifyFlags::CRL_CHECK;
                b.verify_param_mut().set_flags(flags).unwrap();
            },
            nothing,
        ),
        (
            "flags of the store",
            |b| {
                let flags = X509VerifyFlags::CRL_CHECK;
                b.cert_store_mut().set_flags(flags).unwrap();
            },
            nothing,
        ),
        ("purpose", nothing, |b| {
            let any = X509PurposeId::ANY;
            b.verify_param_mut().set_purpose(any).unwrap();
        }),
        ("purpose of the store", nothing, |b| {
            b.cert_store_mut().set_purpose(X509PurposeId::ANY).unwrap();
        }),
        (
            "a host",
            |b| b.verify_param_mut().set_host("somebody.else").unwrap(),
            nothing,
        ),
        (
            "a mail address",
            |b| b.verify_param_mut().set_email("some@body.else").unwrap(),
            nothing,
        ),
        (
            "an address",
            |b| {
                let ip = "192.0.2.1".parse().unwrap();
                b.verify_param_mut().set_ip(ip).unwrap();
            },
            nothing,
        ),
        (
            "a callback that refuses",
            |b| b.set_verify_callback(DEMAND, |_, _| false),
            nothing,
        ),
        ("a callback that lets pass and says so", nothing, |b| {
            b.set_verify_depth(0);
            b.set_verify_callback(DEMAND, |_, context| {
                context.set_error(X509VerifyResult::OK);
                true
            });
        }),
    ]
}

/// A client with a certificate for servers.
fn server_as_client(ca: &Identity) -> Identity {
    let mut identity = mint("me", Some(ca)).unwrap();
    let (mut certificate, old) = (X509::builder().unwrap(), &identity.cert);
    certificate.set_version(2).unwrap();
    certificate.set_serial_number(old.serial_number()).unwrap();
    certificate.set_not_before(old.not_before()).unwrap();
    certificate.set_not_after(old.not_after()).unwrap();
    certificate.set_subject_name(old.subject_name()).unwrap();
    certificate.set_issuer_name(old.issuer_name()).unwrap();
    certificate.set_pubkey(&identity.key).unwrap();
    let usage = ExtendedKeyUsage::new().server_auth().build().unwrap();
    certificate.append_extension(usage).unwrap();
    certificate.sign(&ca.key, MessageDigest::sha256()).unwrap();
    identity.cert = certificate.build();
    identity
}

#[test]
fn a_session_resumes_only_where_its_client_is_verified_in_the_same_way() {
    for (difference, strict, lax) in differences() {
        let (ca, right) = ca_and_client();
        let me = match difference {
            "purpose" | "purpose of the store" => server_as_client(&ca),
            _ => right,
        };
        for (what, policy, kind) in resuming_clients() {
            let what = format!("{difference}, {what}");
            let listener = |prepare: Prepare| {
                context_with(&policy, |builder| {
                    demand_certificates(builder, &ca);
                    prepare(builder);
                })
            };
            let (strict, lax) = (listener(strict), listener(lax));
            let client = client_as(kind, &me);
            let [first, second] = meet_twice(&lax, &client);
            assert!(matches!(second.agreed(), Resumed(_)), "{what}: at home");
            let (refused, _) = try_meet(&strict, &client, None);
            let (met, _) = try_meet(&strict, &client, first.next());
            match (refused, met) {
                (Err(_), met) => assert!(met.is_err(), "{what}"),
                (Ok(_), met) => {
                    let full = Full(Reason::OtherBinding);
                    assert_eq!(met.unwrap().agreed(), full, "{what}");
                }
            }
        }
    }
}
