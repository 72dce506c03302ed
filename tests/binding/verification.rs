//! A session with a certificate that one listener lets pass, offered at another that would not: they share
//! policy, name and CAs, and differ in how they verify.

use openssl::hash::MessageDigest;
use openssl::ssl::{ClientHelloResponse, SslAcceptorBuilder, SslRef};
use openssl::x509::extension::ExtendedKeyUsage;
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509, X509PurposeId, X509StoreContextRef, X509VerifyResult};
use openssl_resumption::{
    Handshake::{Full, Resumed},
    Reason,
};

use crate::common::*;
use crate::switch::Switch;

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

/// Each demanded in a callback, by the connection itself.
#[test]
fn what_a_callback_demands_certificates_to_be_named_is_held_against_sessions() {
    type Demand = fn(&mut SslRef);
    let demands: [(&str, Demand); 2] = [
        ("host", |ssl| {
            ssl.param_mut().set_host("somebody.else").unwrap();
        }),
        ("mail", |ssl| {
            ssl.param_mut().set_email("some@body.else").unwrap();
        }),
    ];
    let (ca, me) = ca_and_client();
    for (demanded, demand) in demands {
        for (what, policy, kind) in resuming_clients() {
            for in_hello in [true, false] {
                let armed = Switch::default();
                let is_armed = armed.clone();
                let context = context_with(&policy, |builder| {
                    demand_certificates(builder, &ca);
                    if in_hello {
                        builder.set_client_hello_callback(move |ssl, _| {
                            is_armed.is_on().then(|| demand(ssl));
                            Ok(ClientHelloResponse::SUCCESS)
                        });
                    } else {
                        builder.set_servername_callback(move |ssl, _| {
                            is_armed.is_on().then(|| demand(ssl));
                            Ok(())
                        });
                    }
                });
                let client = client_as(kind, &me).server_name("a.example");
                let first = meet(&context, &client, None);
                armed.turn_on();
                for session in [None, first.next()] {
                    let (met, refused) = try_meet(&context, &client, session);
                    let what = format!("{demanded}, {what} {in_hello}");
                    assert!(met.is_err() && refused.is_some(), "{what}");
                }
            }
        }
    }
}

/// Two listeners, of which one is strict, switch to one virtual host: a connection keeps what the listener told
/// it to verify.
#[test]
fn how_a_listener_verifies_counts_though_its_connections_are_switched() {
    for (difference, strict, lax) in differences() {
        let (ca, right) = ca_and_client();
        let me = match difference {
            "purpose" => server_as_client(&ca),
            // What the store demands is the virtual host's.
            "purpose of the store" | "flags of the store" => continue,
            // The `openssl` crate looks for it at the virtual host.
            difference if difference.contains("callback") => continue,
            _ => right,
        };
        for (what, policy, kind) in resuming_clients() {
            let what = format!("{difference}, {what}");
            let host = demanding(&policy, &[&ca]);
            let listener = |prepare: Prepare| {
                let host = host.clone();
                context_with(&policy, |builder| {
                    demand_certificates(builder, &ca);
                    prepare(builder);
                    builder.set_client_hello_callback(move |ssl, _| {
                        ssl.set_ssl_context(&host).unwrap();
                        Ok(ClientHelloResponse::SUCCESS)
                    });
                })
            };
            let (strict, lax) = (listener(strict), listener(lax));
            let client = client_as(kind, &me);
            let [first, second] = meet_twice(&lax, &client);
            assert!(matches!(second.agreed(), Resumed(_)), "{what}: at home");
            let (met, _) = try_meet(&strict, &client, first.next());
            if let Ok(met) = met {
                assert_eq!(met.agreed(), Full(Reason::OtherBinding), "{what}");
            }
        }
    }
}

/// A generation names what contexts have in common, and not that a certificate which did not verify is good
/// enough for another's callback.
#[test]
fn what_one_callback_let_pass_is_nothing_to_another_of_the_same_generation() {
    let (ca, me) = ca_and_client();
    let stranger = mint("stranger", None).unwrap();
    for (what, policy, kind) in resuming_clients() {
        let policy = policy.generation("1");
        let listener = |lets_pass: bool| {
            context_with(&policy, |builder| {
                demand_certificates(builder, &ca);
                builder.set_verify_callback(DEMAND, move |ok, _| ok || lets_pass);
            })
        };
        let (lenient, strict) = (listener(true), listener(false));
        let [first, second] = meet_twice(&lenient, &client_as(kind, &stranger));
        assert!(matches!(second.agreed(), Resumed(_)), "{what}: at home");
        let (met, _) = try_meet(&strict, &client_as(kind, &stranger), first.next());
        assert!(met.is_err(), "{what}");
        let verified = meet(&lenient, &client_as(kind, &me), None);
        let crossed = meet(&strict, &client_as(kind, &me), verified.next());
        assert!(matches!(crossed.agreed(), Resumed(_)), "{what}: verified");
    }
}

/// However many ways there are to come to a virtual host.
#[test]
fn listeners_of_many_kinds_resume_their_own_sessions() {
    fn callback(ok: bool, _: &mut X509StoreContextRef) -> bool {
        ok
    }
    let (ca, me) = ca_and_client();
    for (what, policy, kind) in resuming_clients() {
        let prepare = |builder: &mut SslAcceptorBuilder| {
            demand_certificates(builder, &ca);
            builder.set_verify_callback(DEMAND, callback);
        };
        let host = context_with(&policy, prepare);
        for depth in 3..9 {
            let host = host.clone();
            let listener = context_with(&policy, |builder| {
                prepare(builder);
                builder.set_verify_depth(depth);
                builder.set_client_hello_callback(move |ssl, _| {
                    ssl.set_ssl_context(&host).unwrap();
                    Ok(ClientHelloResponse::SUCCESS)
                });
            });
            let [_, second] = meet_twice(&listener, &client_as(kind, &me));
            assert!(matches!(second.agreed(), Resumed(_)), "{what} {depth}");
        }
    }
}
