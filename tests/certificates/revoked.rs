//! Clients that are revoked between two connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openssl::asn1::Asn1Time;
use openssl::ssl::{SslContext, SslVerifyMode};
use openssl::x509::{X509Crl, X509CrlRef};
use openssl_resumption::{ClientCertificates, Handshake::Full, Reason, Resumption};

use crate::common::*;

/// The modes and versions, each with a policy that looks at certificates again.
pub(crate) fn verifying_clients() -> impl Iterator<Item = (String, Resumption, Kind)> {
    resuming_clients().map(|(what, policy, kind)| {
        let policy = policy.client_certificates(ClientCertificates::Verify);
        (what, policy, kind)
    })
}

/// What a full handshake says of a client that is revoked: nothing of ours has failed the connection.
#[track_caller]
pub(crate) fn assert_refused_as_revoked(
    policy: &Resumption,
    context: &SslContext,
    client: &Client,
    session: Option<&[u8]>,
    what: &str,
) {
    let before = policy.stats();
    let (_, refused) = try_meet(context, client, session);
    let refused = refused.unwrap_or_else(|| panic!("{what}: a revoked client was let in"));
    assert!(refused.contains("revoked"), "{what}: {refused}");
    let stats = policy.stats();
    assert_eq!(stats.failed_closed, before.failed_closed, "{what}");
    assert_eq!(stats.handshakes(), before.handshakes(), "{what}");
}

fn unrevoked(policy: &Resumption, ca: &Identity, crl: &X509CrlRef) -> SslContext {
    context_with(policy, |builder| demand_unrevoked(builder, ca, crl))
}

/// CA, two clients, a list that has none of them, and one that has the first.
fn people() -> (Identity, [Identity; 2], X509Crl, X509Crl) {
    let (ca, bad) = ca_and_client();
    let good = mint("good", Some(&ca)).unwrap();
    let (before, after) = (mint_crl(&ca, &[]), mint_crl(&ca, &[&bad]));
    (ca, [bad, good], before, after)
}

#[test]
fn a_list_that_is_added_to_the_store_in_use_is_heeded_at_once() {
    let (ca, [bad, good], before, after) = people();
    for verify in [DEMAND, SslVerifyMode::PEER] {
        for (what, policy, kind) in verifying_clients() {
            let what = format!("{what} {verify:?}");
            let context = context_with(&policy, |builder| {
                demand_unrevoked(builder, &ca, &before);
                builder.set_verify(verify);
            });
            let (client, other) = (client_as(kind, &bad), client_as(kind, &good));
            let [_, second] = meet_twice(&context, &client);
            let [_, others] = meet_twice(&context, &other);
            assert!(second.client.resumed && others.client.resumed, "{what}");

            add_crl(context.cert_store(), &after);
            for _ in 0..2 {
                assert_refused_as_revoked(&policy, &context, &client, second.next(), &what);
            }
            let others = meet(&context, &other, others.next());
            assert!(others.client.resumed, "{what}: who is not revoked");
        }
    }
}

#[test]
fn a_list_in_a_new_context_is_heeded() {
    let (ca, [bad, good], before, after) = people();
    for (what, policy, kind) in verifying_clients() {
        let old = unrevoked(&policy, &ca, &before);
        let (client, other) = (client_as(kind, &bad), client_as(kind, &good));
        let [_, second] = meet_twice(&old, &client);
        let [_, others] = meet_twice(&old, &other);
        assert!(second.client.resumed && others.client.resumed, "{what}");

        let new = unrevoked(&policy, &ca, &after);
        assert_refused_as_revoked(&policy, &new, &client, second.next(), &what);
        let others = meet(&new, &other, others.next());
        assert!(others.client.resumed, "{what}: who is not revoked");
        // Two contexts of one policy are two opinions.
        let second = meet(&old, &client, second.next());
        assert!(second.client.resumed, "{what}: where nobody knows");
    }
}

/// What makes the difference is `Verify`.
#[test]
fn nobody_who_does_not_look_sees_a_list() {
    let (ca, [bad, _], before, after) = people();
    for (what, policy, kind) in resuming_clients() {
        let context = unrevoked(&policy, &ca, &before);
        let client = client_as(kind, &bad);
        let met = meet(&context, &client, None);
        add_crl(context.cert_store(), &after);
        let met = meet(&context, &client, met.next());
        assert!(met.client.resumed, "{what}");
        let new = unrevoked(&policy, &ca, &after);
        let met = meet(&new, &client, met.next());
        assert!(met.client.resumed, "{what}");
        assert_eq!(policy.stats().certificates.verifications, 0, "{what}");
        assert_refused_as_revoked(&policy, &new, &client, None, &what);
    }
}

#[test]
fn a_hook_that_knows_of_it_has_the_client_declined() {
    let (ca, [bad, good], ..) = people();
    for (what, policy, kind) in resuming_clients() {
        for certificates in [ClientCertificates::Resume, ClientCertificates::Verify] {
            let serial = bad.cert.serial_number().to_bn().unwrap();
            let is_known = Arc::new(AtomicBool::new(false));
            let knows = Arc::clone(&is_known);
            let policy = policy
                .clone()
                .client_certificates(certificates)
                .admit_client(move |client| {
                    let own = client.certificate().expect("one is demanded");
                    let own = own.serial_number().to_bn().unwrap();
                    !knows.load(SeqCst) || own != serial
                });
            let context = demanding(&policy, &[&ca]);
            let (client, other) = (client_as(kind, &bad), client_as(kind, &good));
            let [_, second] = meet_twice(&context, &client);
            let [_, others] = meet_twice(&context, &other);
            assert!(second.client.resumed && others.client.resumed, "{what}");

            is_known.store(true, SeqCst);
            for _ in 0..2 {
                // The full handshake knows nothing of it.
                let met = meet(&context, &client, second.next());
                assert_eq!(met.agreed(), Full(Reason::NotAdmitted), "{what}");
            }
            let others = meet(&context, &other, others.next());
            assert!(others.client.resumed, "{what}: who is not revoked");
            assert_eq!(policy.stats().failed_closed, 0, "{what}");
        }
    }
}

#[test]
fn whatever_is_added_to_the_store_costs_one_look_a_client() {
    let (ca, [_, me], before, after) = people();
    let other = mint("other", None).unwrap();
    let others = mint_crl(&other, &[&me]);
    for (what, policy, kind) in verifying_clients() {
        let context = unrevoked(&policy, &ca, &before);
        let client = client_as(kind, &me);
        let looks = || policy.stats().certificates.verifications;
        let mut met = meet(&context, &client, None);
        let mut expected = looks();
        let mut resume = |times, costs| {
            expected += costs;
            for _ in 0..times {
                met = meet(&context, &client, met.next());
                assert!(met.client.resumed, "{what}: {:?}", met.outcome);
                assert_eq!(looks(), expected, "{what}");
            }
        };
        resume(20, 1);
        add_crl(context.cert_store(), &others);
        resume(3, 1);
        add_ca(context.cert_store(), &other.cert);
        resume(3, 1);
        add_crl(context.cert_store(), &after);
        resume(3, 1);
        policy.trust_changed();
        resume(3, 1);
        policy.clone().trust_changed();
        resume(3, 1);
        // It is in there already.
        add_crl(context.cert_store(), &others);
        resume(3, 0);
    }
}

/// The verdict is about a client, not about a certificate's key or name.
#[test]
fn each_client_is_looked_at_for_itself() {
    let (ca, [bad, good], before, after) = people();
    for (what, policy, kind) in verifying_clients() {
        let context = unrevoked(&policy, &ca, &before);
        let sessions = [&bad, &good, &bad, &good].map(|me| {
            let client = client_as(kind, me);
            let met = meet(&context, &client, None);
            (client, met)
        });
        add_crl(context.cert_store(), &after);
        for (number, (client, met)) in sessions.iter().enumerate() {
            let what = format!("{what} {number}");
            if number % 2 == 0 {
                assert_refused_as_revoked(&policy, &context, client, met.next(), &what);
            } else {
                let met = meet(&context, client, met.next());
                assert!(met.client.resumed, "{what}: {:?}", met.outcome);
            }
        }
    }
}

/// From then on nobody knows who is revoked, and OpenSSL lets nobody in.
#[test]
fn a_list_that_ends_ends_what_it_was_good_for() {
    let (ca, [_, me], ..) = people();
    let ends = SystemTime::now() + Duration::from_secs(4);
    let seconds = ends.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seconds = Asn1Time::from_unix(seconds.try_into().unwrap()).unwrap();
    let list = mint_crl_until(&ca, &[], &seconds);
    let mut servers: Vec<_> = verifying_clients()
        .map(|(what, policy, kind)| {
            let context = unrevoked(&policy, &ca, &list);
            let client = client_as(kind, &me);
            let [_, second] = meet_twice(&context, &client);
            assert!(second.client.resumed, "{what}: {:?}", second.outcome);
            (what, policy, context, client, second)
        })
        .collect();
    while !servers.is_empty() {
        assert!(SystemTime::now() < ends + Duration::from_secs(20));
        servers.retain_mut(|(what, policy, context, client, met)| {
            match try_meet(context, client, met.next()) {
                (Ok(next), _) => {
                    assert!(next.client.resumed, "{what}: {:?}", next.outcome);
                    *met = next;
                    true
                }
                (Err(_), refused) => {
                    let refused = refused.expect("the server's word");
                    assert!(refused.contains("CRL has expired"), "{what}: {refused}");
                    assert_eq!(policy.stats().failed_closed, 0, "{what}");
                    false
                }
            }
        });
    }
}

/// The session is looked up twice then.
#[test]
fn a_list_is_heeded_when_the_server_asks_for_another_hello() {
    let (ca, [bad, _], before, after) = people();
    for (mode, policy) in resuming() {
        let policy = policy.client_certificates(ClientCertificates::Verify);
        let context = context_with(&policy, |builder| {
            demand_unrevoked(builder, &ca, &before);
            builder.set_groups_list("P-384").unwrap();
        });
        let client = Client::with(Kind::Tls13, |context| {
            context.set_certificate(&bad.cert)?;
            context.set_private_key(&bad.key)?;
            context.set_groups_list("P-256:P-384")
        });
        let client = client.unwrap();
        let [_, second] = meet_twice(&context, &client);
        assert!(second.client.resumed, "{mode}");
        assert_eq!(policy.stats().certificates.verifications, 1, "{mode}");
        add_crl(context.cert_store(), &after);
        assert_refused_as_revoked(&policy, &context, &client, second.next(), mode);
        assert_eq!(policy.stats().certificates.verifications, 2, "{mode}");
    }
}
