//! What a certificate is held against when its client comes back: verify callbacks, what a connection asks for itself,
//! and contexts that a handshake switches to.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use openssl::ssl::{ClientHelloResponse, NameType, SslContext, SslRef, SslVerifyMode};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{X509PurposeId, X509StoreContext, X509StoreContextRef};
use openssl_resumption::{ClientCertificates, Handshake::Full, Reason, Resumption, TicketKeys};

use crate::common::*;
use crate::revoked::{assert_refused_as_revoked, verifying_clients};

#[path = "../binding/switch.rs"]
pub(crate) mod switch;
use switch::Switch;

const NAME: &str = "a.example";

/// A client that names the server.
fn named(kind: Kind, me: &Identity) -> Client {
    client_as(kind, me).server_name(NAME)
}

fn always(_: bool, _: &mut X509StoreContextRef) -> bool {
    true
}

/// A callback may go by the server name, which is not known when a session is looked up, and may take what it is asked
/// about for proven, which it is not yet. So it is not asked then, and no session stands in for its word.
#[test]
fn where_a_callback_decides_it_is_asked_in_full_handshakes_and_in_no_others() {
    let (ca, me) = ca_and_client();
    for (what, policy, kind) in verifying_clients() {
        let asked = Arc::new(AtomicUsize::new(0));
        let context = |policy: &Resumption| {
            let count = Arc::clone(&asked);
            context_with(policy, |builder| {
                demand_unrevoked(builder, &ca, &mint_crl(&ca, &[]));
                builder.set_verify_callback(DEMAND, move |_, context| {
                    let index = X509StoreContext::ssl_idx().unwrap();
                    let ssl = context.ex_data(index).expect("the connection");
                    assert_eq!(ssl.servername(NameType::HOST_NAME), Some(NAME));
                    count.fetch_add(1, SeqCst);
                    true
                });
            })
        };
        let client = named(kind, &me);
        let lax = policy
            .clone()
            .client_certificates(ClientCertificates::Resume);
        let [_, second] = meet_twice(&context(&lax), &client);
        assert!(second.client.resumed, "{what}: where nobody looks");

        let context = context(&policy);
        let mut met = meet(&context, &client, None);
        let each = asked.swap(0, SeqCst) / 2;
        for revoked in [false, true, true] {
            if revoked {
                add_crl(context.cert_store(), &mint_crl(&ca, &[&me]));
            }
            met = meet(&context, &client, met.next());
            assert_eq!(met.agreed(), Full(Reason::NotTrusted), "{what}");
            assert!(asked.swap(0, SeqCst) >= each, "{what}");
        }
        // Who has seen a ticket, and has neither its secret nor a certificate, has nobody asked about its client.
        if let Some(seen) = met.next() {
            let stranger = Client::new(kind).unwrap().server_name(NAME);
            try_meet(&context, &stranger, Some(&guess(seen)))
                .0
                .unwrap_err();
            assert_eq!(asked.load(SeqCst), 0, "{what}");
        }
        assert_eq!(policy.stats().failed_closed, 0, "{what}");
    }
}

#[test]
fn a_client_of_no_ca_that_a_callback_lets_pass_does_so_in_full_handshakes() {
    let (ca, _) = ca_and_client();
    let stranger = mint("stranger", None).unwrap();
    for (what, policy, kind) in verifying_clients() {
        let context = |policy: &Resumption| {
            context_with(policy, |builder| {
                demand_certificates(builder, &ca);
                builder.set_verify_callback(DEMAND, always);
            })
        };
        let client = client_as(kind, &stranger);
        let lax = policy
            .clone()
            .client_certificates(ClientCertificates::Resume);
        let [_, second] = meet_twice(&context(&lax), &client);
        assert!(second.client.resumed, "{what}: where nobody looks");
        let context = context(&policy);
        let mut met = meet(&context, &client, None);
        for _ in 0..3 {
            met = meet(&context, &client, met.next());
            assert_eq!(met.agreed(), Full(Reason::NotTrusted), "{what}");
            assert!(met.authenticated, "{what}");
        }
        assert_eq!(policy.stats().failed_closed, 0, "{what}");
    }
}

/// Nobody knows what it has in common with that of another connection.
#[test]
fn with_a_callback_of_its_own_a_connection_is_full_and_fails_nothing() {
    let (ca, me) = ca_and_client();
    for (what, policy, kind) in verifying_clients() {
        let context = context_with(&policy, |builder| {
            demand_certificates(builder, &ca);
            builder.set_client_hello_callback(move |ssl, _| {
                ssl.set_verify_callback(DEMAND, |ok, _| ok);
                Ok(ClientHelloResponse::SUCCESS)
            });
        });
        let [_, second] = meet_twice(&context, &client_as(kind, &me));
        assert_eq!(second.agreed(), Full(Reason::OtherBinding), "{what}");
        assert_eq!(policy.stats().failed_closed, 0, "{what}");
    }
}

/// Each connection has a store of its own, and each is asked.
#[test]
fn stores_that_connections_get_in_time_are_asked_each_time() {
    let (ca, me) = ca_and_client();
    for (what, policy, kind) in verifying_clients() {
        let armed = Switch::default();
        let is_armed = armed.clone();
        let cert = ca.cert.clone();
        let lists = [mint_crl(&ca, &[]), mint_crl(&ca, &[&me])];
        let context = context_with(&policy, |builder| {
            demand_certificates(builder, &ca);
            builder.set_client_hello_callback(move |ssl, _| {
                let mut store = X509StoreBuilder::new().unwrap();
                store.add_cert(cert.clone()).unwrap();
                store.set_flags(X509VerifyFlags::CRL_CHECK).unwrap();
                add_crl(&*store, &lists[usize::from(is_armed.is_on())]);
                ssl.set_verify_cert_store(store.build()).unwrap();
                Ok(ClientHelloResponse::SUCCESS)
            });
        });
        let client = client_as(kind, &me);
        let [_, second] = meet_twice(&context, &client);
        assert!(second.client.resumed, "{what}: {:?}", second.outcome);
        armed.turn_on();
        for _ in 0..2 {
            assert_refused_as_revoked(&policy, &context, &client, second.next(), &what);
        }
    }
}

/// What a connection may come to ask, and whether the client's certificate meets it.
type Change = (&'static str, fn(&mut SslRef), bool);

fn changes() -> Vec<Change> {
    vec![
        (
            "lists for certificates that have none",
            |ssl| {
                let flags = X509VerifyFlags::CRL_CHECK;
                ssl.param_mut().set_flags(flags).unwrap();
            },
            false,
        ),
        ("depth", |ssl| ssl.param_mut().set_depth(0), true),
        (
            "its host",
            |ssl| ssl.param_mut().set_host("me").unwrap(),
            true,
        ),
        (
            "another host",
            |ssl| ssl.param_mut().set_host("somebody.else").unwrap(),
            false,
        ),
        (
            "its address",
            |ssl| {
                ssl.param_mut()
                    .set_ip("127.0.0.1".parse().unwrap())
                    .unwrap()
            },
            true,
        ),
        (
            "another address",
            |ssl| {
                ssl.param_mut()
                    .set_ip("192.0.2.1".parse().unwrap())
                    .unwrap()
            },
            false,
        ),
        (
            "another mail address",
            |ssl| ssl.param_mut().set_email("some@body.else").unwrap(),
            false,
        ),
        (
            "any purpose",
            |ssl| ssl.param_mut().set_purpose(X509PurposeId::ANY).unwrap(),
            true,
        ),
        (
            "another purpose",
            |ssl| {
                let purpose = X509PurposeId::TIMESTAMP_SIGN;
                ssl.param_mut().set_purpose(purpose).unwrap();
            },
            false,
        ),
        ("a higher level", |ssl| ssl.set_security_level(5), false),
        ("a lower level", |ssl| ssl.set_security_level(0), true),
    ]
}

#[test]
fn what_a_connection_asks_for_itself_is_asked_of_who_comes_back() {
    let (ca, me) = ca_and_client();
    for (change, apply, passes) in changes() {
        for (what, policy, kind) in verifying_clients() {
            let what = format!("{change}, {what}");
            let armed = Switch::default();
            let is_armed = armed.clone();
            let context = context_with(&policy, |builder| {
                demand_certificates(builder, &ca);
                builder.set_client_hello_callback(move |ssl, _| {
                    is_armed.is_on().then(|| apply(ssl));
                    Ok(ClientHelloResponse::SUCCESS)
                });
            });
            let client = client_as(kind, &me);
            let [_, second] = meet_twice(&context, &client);
            assert!(second.client.resumed, "{what}");
            armed.turn_on();
            if change.contains("purpose") {
                // Before 3.5 OpenSSL does not tell it.
                policy.trust_changed();
            }
            let (fresh, _) = try_meet(&context, &client, None);
            for _ in 0..2 {
                let (met, _) = try_meet(&context, &client, second.next());
                assert_eq!(met.is_ok(), fresh.is_ok(), "{what}: as if it were new");
                if let Ok(met) = met {
                    met.agreed();
                }
            }
            assert_eq!(fresh.is_ok(), passes, "{what}");
            if let Ok(fresh) = fresh {
                let met = meet(&context, &client, fresh.next());
                assert!(met.client.resumed, "{what}: {:?}", met.outcome);
            }
            assert_eq!(policy.stats().failed_closed, 0, "{what}");
        }
    }
}

/// How a server comes to another context.
struct Front<'a> {
    policy: &'a Resumption,
    ca: &'a Identity,
    verify: SslVerifyMode,
}

impl Front<'_> {
    /// A context that demands what it does, and that the server name callback leaves for what `to` gives at that moment.
    fn to(&self, to: impl Fn() -> SslContext + Send + Sync + 'static) -> SslContext {
        context_with(self.policy, |builder| {
            demand_unrevoked(builder, self.ca, &mint_crl(self.ca, &[]));
            builder.set_verify(self.verify);
            builder.set_servername_callback(move |ssl, _| {
                ssl.set_ssl_context(&to()).unwrap();
                ssl.set_verify(DEMAND);
                Ok(())
            });
        })
    }
}

/// The virtual host of a name, where no client is revoked yet.
fn host(policy: &Resumption, ca: &Identity) -> SslContext {
    context_with(policy, |builder| {
        demand_unrevoked(builder, ca, &mint_crl(ca, &[]));
    })
}

/// The context that accepts knows nothing of the list, or does not even ask for a certificate.
#[test]
fn a_list_at_the_virtual_host_is_heeded_when_a_session_is_looked_up() {
    let (ca, me) = ca_and_client();
    for verify in [DEMAND, SslVerifyMode::PEER, SslVerifyMode::NONE] {
        for (what, policy, kind) in verifying_clients() {
            let what = format!("{what} from {verify:?}");
            let host = host(&policy, &ca);
            let to = host.clone();
            let front = Front {
                policy: &policy,
                ca: &ca,
                verify,
            }
            .to(move || to.clone());
            let client = named(kind, &me);
            let [_, second] = meet_twice(&front, &client);
            assert!(second.client.resumed, "{what}: {:?}", second.outcome);
            add_crl(host.cert_store(), &mint_crl(&ca, &[&me]));
            for _ in 0..3 {
                assert_refused_as_revoked(&policy, &front, &client, second.next(), &what);
            }
        }
    }
}

/// Has the client come back until it has been refused four times: once at most by the library, and from then on by full
/// handshakes. Another client of the name, who is not revoked, is not failed at all.
#[track_caller]
fn assert_failed_once_at_most(
    policy: &Resumption,
    context: &SslContext,
    client: &Client,
    session: Option<&[u8]>,
    what: &str,
) {
    let before = policy.stats().failed_closed;
    let (_, refused) = try_meet(context, client, session);
    assert!(refused.is_some(), "{what}: a revoked client was let in");
    assert!(policy.stats().failed_closed <= before + 1, "{what}");
    for _ in 0..3 {
        assert_refused_as_revoked(policy, context, client, session, what);
    }
}

/// The new one is unknown until a handshake has been there.
#[test]
fn a_virtual_host_that_is_replaced_fails_a_connection_once_at_most() {
    let (ca, me) = ca_and_client();
    let good = mint("good", Some(&ca)).unwrap();
    for verify in [DEMAND, SslVerifyMode::NONE] {
        for (what, policy, kind) in verifying_clients() {
            let what = format!("{what} from {verify:?}");
            let current = Arc::new(Mutex::new(host(&policy, &ca)));
            let to = Arc::clone(&current);
            let front = Front {
                policy: &policy,
                ca: &ca,
                verify,
            }
            .to(move || to.lock().unwrap().clone());
            let (client, other) = (named(kind, &me), named(kind, &good));
            let [_, second] = meet_twice(&front, &client);
            let [_, others] = meet_twice(&front, &other);
            assert!(second.client.resumed && others.client.resumed, "{what}");

            *current.lock().unwrap() = context_with(&policy, |builder| {
                demand_unrevoked(builder, &ca, &mint_crl(&ca, &[&me]));
            });
            assert_failed_once_at_most(&policy, &front, &client, second.next(), &what);
            let others = meet(&front, &other, others.next());
            let others = meet(&front, &other, others.next());
            assert!(others.client.resumed, "{what}: {:?}", others.outcome);
        }
    }
}

/// Nothing of it can be known when a session is looked up: it is another one in each connection.
#[test]
fn a_store_that_each_connection_gets_late_fails_a_client_once() {
    let (ca, me) = ca_and_client();
    let good = mint("good", Some(&ca)).unwrap();
    for (what, policy, kind) in verifying_clients() {
        let armed = Switch::default();
        let is_armed = armed.clone();
        let cert = ca.cert.clone();
        let lists = [mint_crl(&ca, &[]), mint_crl(&ca, &[&me])];
        let context = context_with(&policy, |builder| {
            demand_unrevoked(builder, &ca, &mint_crl(&ca, &[]));
            builder.set_servername_callback(move |ssl, _| {
                let mut store = X509StoreBuilder::new().unwrap();
                store.add_cert(cert.clone()).unwrap();
                store.set_flags(X509VerifyFlags::CRL_CHECK).unwrap();
                add_crl(&*store, &lists[usize::from(is_armed.is_on())]);
                ssl.set_verify_cert_store(store.build()).unwrap();
                Ok(())
            });
        });
        let (client, other) = (named(kind, &me), named(kind, &good));
        let [_, second] = meet_twice(&context, &client);
        let [_, others] = meet_twice(&context, &other);
        assert!(second.client.resumed && others.client.resumed, "{what}");
        armed.turn_on();
        assert_failed_once_at_most(&policy, &context, &client, second.next(), &what);
        let others = meet(&context, &other, others.next());
        assert!(others.client.resumed, "{what}: {:?}", others.outcome);
    }
}

/// It has nothing where the library could keep what it has seen of it.
#[test]
fn a_virtual_host_without_a_policy_fails_a_client_once_at_most() {
    let (ca, me) = ca_and_client();
    for (what, policy, kind) in verifying_clients() {
        let mut host = acceptor();
        demand_unrevoked(&mut host, &ca, &mint_crl(&ca, &[]));
        let host = host.build().into_context();
        let to = host.clone();
        let front = Front {
            policy: &policy,
            ca: &ca,
            verify: DEMAND,
        }
        .to(move || to.clone());
        let client = named(kind, &me);
        let [_, second] = meet_twice(&front, &client);
        assert!(second.client.resumed, "{what}: {:?}", second.outcome);
        add_crl(host.cert_store(), &mint_crl(&ca, &[&me]));
        assert_failed_once_at_most(&policy, &front, &client, second.next(), &what);
    }
}

/// Where the context that accepts asks for no certificate, nobody can ask a callback that is set later.
#[test]
fn a_callback_that_a_connection_gets_late_is_full_and_fails_nothing() {
    let (ca, me) = ca_and_client();
    for (what, policy, kind) in verifying_clients() {
        let context = context_with(&policy, |builder| {
            demand_certificates(builder, &ca);
            builder.set_verify(SslVerifyMode::NONE);
            builder.set_servername_callback(move |ssl, _| {
                ssl.set_verify_callback(DEMAND, |ok, _| ok);
                Ok(())
            });
        });
        let client = named(kind, &me);
        let mut met = meet(&context, &client, None);
        for _ in 0..2 {
            met = meet(&context, &client, met.next());
            assert!(matches!(met.agreed(), Full(_)), "{what}");
        }
        assert_eq!(policy.stats().failed_closed, 0, "{what}");
    }
}

/// It is too late then to decline a session, but not to fail its connection, once.
#[test]
fn what_a_connection_asks_for_late_is_asked_of_who_comes_back() {
    let (ca, me) = ca_and_client();
    // These two are not looked at a second time.
    let is_unseen = |change: &str| change.contains("purpose") || change.ends_with("her address");
    for (change, apply, passes) in changes()
        .into_iter()
        .filter(|(change, ..)| !is_unseen(change))
    {
        for (what, policy, kind) in verifying_clients() {
            let what = format!("{change}, {what}");
            let armed = Switch::default();
            let is_armed = armed.clone();
            let context = context_with(&policy, |builder| {
                demand_certificates(builder, &ca);
                builder.set_servername_callback(move |ssl, _| {
                    is_armed.is_on().then(|| apply(ssl));
                    Ok(())
                });
            });
            let client = named(kind, &me);
            let [_, second] = meet_twice(&context, &client);
            assert!(second.client.resumed, "{what}");
            armed.turn_on();
            let failed = policy.stats().failed_closed;
            let results = [(); 3].map(|()| try_meet(&context, &client, second.next()).0.is_ok());
            assert_eq!(results[1..], [passes, passes], "{what}");
            assert!(!results[0] || passes, "{what}: resumed past it");
            assert!(policy.stats().failed_closed <= failed + 1, "{what}");
        }
    }
}

/// As after the start of a process: what a name demands is learned from its first full handshake.
#[test]
fn a_name_that_has_not_been_seen_yet_is_full_once() {
    let (ca, me) = ca_and_client();
    for kind in [Kind::Tls12, Kind::Tls13] {
        let keys = TicketKeys::random();
        let server = || {
            let policy =
                Resumption::stateless(keys.clone()).client_certificates(ClientCertificates::Verify);
            let host = host(&policy, &ca);
            let front = Front {
                policy: &policy,
                ca: &ca,
                verify: SslVerifyMode::NONE,
            }
            .to(move || host.clone());
            (policy, front)
        };
        let client = named(kind, &me);
        let (_, front) = server();
        let [_, second] = meet_twice(&front, &client);
        assert!(second.client.resumed, "{kind:?}");
        let (policy, front) = server();
        let met = meet(&front, &client, second.next());
        assert_eq!(met.agreed(), Full(Reason::NotTrusted), "{kind:?}");
        let old = meet(&front, &client, second.next());
        assert!(old.client.resumed, "{kind:?}: {:?}", old.outcome);
        assert_eq!(policy.stats().failed_closed, 0, "{kind:?}");
    }
}
