//! Clients that send more certificates than their own.

use std::sync::Arc;

use openssl::x509::store::X509StoreBuilder;
use openssl_resumption::{
    ClientCertificates,
    Handshake::{Full, Resumed},
    MemoryStore, Reason, Resumption, Source, TicketKeys,
};

use crate::common::*;
use crate::contexts::switch::Switch;
use crate::revoked::{assert_refused_as_revoked, verifying_clients};

/// Hosts that share a store and keys; each call makes another one's policy.
type Fleet = Box<dyn Fn() -> Resumption>;

fn fleets() -> [(&'static str, Fleet); 3] {
    let store = || Arc::new(MemoryStore::default());
    let (stateful, hybrid) = (store(), store());
    let keys = TicketKeys::random();
    let same = keys.clone();
    let verify = |policy: Resumption| policy.client_certificates(ClientCertificates::Verify);
    [
        (
            "stateful",
            Box::new(move || verify(Resumption::stateful(Arc::clone(&stateful)))),
        ),
        (
            "stateless",
            Box::new(move || verify(Resumption::stateless(keys.clone()))),
        ),
        (
            "hybrid",
            Box::new(move || verify(Resumption::hybrid(Arc::clone(&hybrid), same.clone()))),
        ),
    ]
}

/// A client whose certificate is the first of so many more.
fn client_of(kind: Kind, chain: &[Identity]) -> Client {
    let [me, others @ ..] = chain else {
        panic!("a client has a certificate");
    };
    let others: Vec<_> = others.iter().collect();
    client_with_chain(kind, me, &others)
}

/// A client's certificate and so many between it and the CA's.
fn chain_of(ca: &Identity, len: usize) -> Vec<Identity> {
    let mut chain = mint_chain(ca, len);
    let me = mint("me", Some(chain.first().unwrap_or(ca))).unwrap();
    chain.insert(0, me);
    chain
}

/// Nothing of ours has failed a connection.
#[track_caller]
fn assert_none_failed(policy: &Resumption, what: &str) {
    assert_eq!(policy.stats().failed_closed, 0, "{what}");
}

#[test]
fn clients_with_chains_resume_at_home_at_the_cost_of_one_look() {
    let ca = mint("clients", None).unwrap();
    for len in [0, 1, 3, 9] {
        let chain = chain_of(&ca, len);
        for (what, policy, kind) in verifying_clients() {
            let what = format!("{what}, {len} between");
            let context = demanding(&policy, &[&ca]);
            let client = client_of(kind, &chain);
            let before = policy.stats().certificates.verifications;
            let mut met = meet(&context, &client, None);
            for _ in 0..3 {
                met = meet(&context, &client, met.next());
                assert!(matches!(met.agreed(), Resumed(_)), "{what}");
            }
            let certificates = policy.stats().certificates;
            assert_eq!(certificates.verifications, before + 1, "{what}");
            // One is kept, though clients of two versions sent it.
            assert_eq!(certificates.chains, usize::from(len > 0), "{what}");
            assert_none_failed(&policy, &what);
        }
    }
}

/// A store hands a chain on, a ticket only names it.
#[test]
fn a_chain_goes_with_a_session_in_the_store_and_not_with_a_ticket() {
    let ca = mint("clients", None).unwrap();
    for len in [1, 3, 9] {
        let chain = chain_of(&ca, len);
        for (mode, fleet) in fleets() {
            for kind in [Kind::Tls12, Kind::Tls13] {
                let what = format!("{mode} {kind:?}, {len} between");
                let client = client_of(kind, &chain);
                let [here, there] = [fleet(), fleet()];
                let [home, away] = [&here, &there].map(|policy| demanding(policy, &[&ca]));
                let [first, second] = meet_twice(&home, &client);
                let Resumed(source) = second.agreed() else {
                    panic!("{what}: at home: {:?}", second.outcome);
                };
                let mut met = meet(&away, &client, first.next());
                if source == Source::Ticket {
                    assert_eq!(met.agreed(), Full(Reason::UnknownChain), "{what}");
                    // It has sent it now, and its tickets from before are good as well.
                    let old = meet(&away, &client, first.next());
                    assert_eq!(old.agreed(), Resumed(source), "{what}: from before");
                    met = meet(&away, &client, met.next());
                }
                assert_eq!(met.agreed(), Resumed(source), "{what}: away");
                let met = meet(&home, &client, met.next());
                assert_eq!(met.agreed(), Resumed(source), "{what}: back home");
                assert_none_failed(&here, &what);
                assert_none_failed(&there, &what);
            }
        }
    }
}

/// A client that the CA has signed itself has nothing to be known.
#[test]
fn clients_without_a_chain_resume_at_all_hosts() {
    let (ca, me) = ca_and_client();
    for (mode, fleet) in fleets() {
        for kind in [Kind::Tls12, Kind::Tls13] {
            let client = client_as(kind, &me);
            let [home, away] = [fleet(), fleet()].map(|policy| demanding(&policy, &[&ca]));
            let met = meet(&home, &client, None);
            let met = meet(&away, &client, met.next());
            assert!(met.client.resumed, "{mode} {kind:?}: {:?}", met.outcome);
        }
    }
}

#[test]
fn a_list_that_revokes_a_certificate_in_between_is_heeded() {
    let ca = mint("clients", None).unwrap();
    let chain = chain_of(&ca, 1);
    let [me, between] = &chain[..] else {
        panic!("two");
    };
    for (what, policy, kind) in verifying_clients() {
        let context = context_with(&policy, |builder| {
            demand_unrevoked(builder, &ca, &mint_crl(&ca, &[]));
            add_crl(builder.cert_store(), &mint_crl(between, &[]));
            check_whole_chains(builder);
        });
        let client = client_with_chain(kind, me, &[between]);
        let [_, second] = meet_twice(&context, &client);
        assert!(second.client.resumed, "{what}: {:?}", second.outcome);
        add_crl(context.cert_store(), &mint_crl(&ca, &[between]));
        for _ in 0..2 {
            assert_refused_as_revoked(&policy, &context, &client, second.next(), &what);
        }
    }
}

#[test]
fn chains_that_are_too_large_are_not_kept_and_fail_nothing() {
    let ca = mint("clients", None).unwrap();
    // Together 20 KB, and about 1 MB.
    for (len, bytes) in [(1, 20_000), (10, 100_000)] {
        let mut chain: Vec<Identity> = Vec::new();
        for number in 0..len {
            let issuer = chain.first().unwrap_or(&ca);
            let name = format!("between {number}");
            let between = mint_intermediate_with_padding(&name, issuer, bytes);
            chain.insert(0, between);
        }
        let me = mint("me", Some(&chain[0])).unwrap();
        chain.insert(0, me);
        for (what, policy, kind) in verifying_clients() {
            let what = format!("{what}, {len} of {bytes}");
            let context = context_with(&policy, |builder| {
                demand_certificates(builder, &ca);
                allow_long_chains(builder, 2 << 20);
            });
            let client = client_of(kind, &chain);
            let mut met = meet(&context, &client, None);
            for _ in 0..2 {
                met = meet(&context, &client, met.next());
                assert_eq!(met.agreed(), Full(Reason::UnknownChain), "{what}");
                assert!(met.authenticated, "{what}");
            }
            assert_eq!(policy.stats().certificates.chain_bytes, 0, "{what}");
            assert_none_failed(&policy, &what);
            // Nobody who does not look needs them.
            let lax = policy.client_certificates(ClientCertificates::Resume);
            let context = context_with(&lax, |builder| {
                demand_certificates(builder, &ca);
                allow_long_chains(builder, 2 << 20);
            });
            let met = meet(&context, &client, met.next());
            assert!(met.client.resumed, "{what}: {:?}", met.outcome);
        }
    }
}

/// The store takes sessions up to a size: such a chain is kept at home only.
#[test]
fn a_chain_that_makes_a_session_too_large_for_the_store_stays_at_home() {
    let ca = mint("clients", None).unwrap();
    let between = mint_intermediate_with_padding("between", &ca, 15_000);
    let me = mint("me", Some(&between)).unwrap();
    let store = Arc::new(MemoryStore::default());
    for kind in [Kind::Tls12, Kind::Tls13] {
        let host = || {
            Resumption::stateful(Arc::clone(&store))
                .client_certificates(ClientCertificates::Verify)
                .max_session_size(8_000)
        };
        let [here, there] = [host(), host()];
        let [home, away] = [&here, &there].map(|policy| demanding(policy, &[&ca]));
        let client = client_with_chain(kind, &me, &[&between]);
        let [first, second] = meet_twice(&home, &client);
        assert_eq!(second.agreed(), Resumed(Source::Store), "{kind:?}");
        let met = meet(&away, &client, first.next());
        assert_eq!(met.agreed(), Full(Reason::UnknownChain), "{kind:?}");
        let met = meet(&away, &client, met.next());
        assert_eq!(met.agreed(), Resumed(Source::Store), "{kind:?}");
        assert_none_failed(&here, "home");
        assert_none_failed(&there, "away");
    }
}

/// What the client sends beside the certificates that its verification uses takes no room.
#[test]
fn junk_is_not_kept() {
    let ca = mint("clients", None).unwrap();
    let chain = chain_of(&ca, 2);
    let [me, used @ ..] = &chain[..] else {
        panic!("three");
    };
    let strangers: Vec<_> = (0..5)
        .map(|number| mint(&format!("stranger {number}"), None).unwrap())
        .collect();
    let others: Vec<_> = strangers.iter().chain(used).collect();
    for (mode, fleet) in fleets() {
        for kind in [Kind::Tls12, Kind::Tls13] {
            let [tidy, untidy] = [used.iter().collect(), others.clone()].map(|sent: Vec<_>| {
                let policy = fleet();
                let context = demanding(&policy, &[&ca]);
                let client = client_with_chain(kind, me, &sent);
                let [_, second] = meet_twice(&context, &client);
                assert!(matches!(second.agreed(), Resumed(_)), "{mode} {kind:?}");
                policy.stats().certificates
            });
            assert!(tidy.chain_bytes > 0, "{mode} {kind:?}");
            assert_eq!(tidy, untidy, "{mode} {kind:?}");

            // Nor if nothing but junk is sent.
            let policy = fleet();
            let context = demanding(&policy, &[&used[0]]);
            let client = client_with_chain(kind, me, &strangers.iter().collect::<Vec<_>>());
            let _ = try_meet(&context, &client, None);
            assert_eq!(policy.stats().certificates.chains, 0, "{mode} {kind:?}");
        }
    }
}

#[test]
fn a_certificate_that_is_no_longer_in_the_servers_store_is_missed() {
    let ca = mint("clients", None).unwrap();
    let chain = chain_of(&ca, 1);
    let [me, between] = &chain[..] else {
        panic!("two");
    };
    for (what, policy, kind) in verifying_clients() {
        // The server has it, and the client does not send it.
        let client = client_as(kind, me);
        let old = demanding(&policy, &[&ca, between]);
        let [_, second] = meet_twice(&old, &client);
        assert!(second.client.resumed, "{what}");
        let new = demanding(&policy, &[&ca]);
        let (_, refused) = try_meet(&new, &client, second.next());
        let refused = refused.expect("a client that nobody vouches for");
        assert!(refused.contains("verify failed"), "{what}: {refused}");

        // The client sends it, and the CA above has gone.
        let client = client_with_chain(kind, me, &[between]);
        let [_, second] = meet_twice(&new, &client);
        assert!(second.client.resumed, "{what}");
        let other = mint("other", None).unwrap();
        let (_, refused) = try_meet(&demanding(&policy, &[&other]), &client, second.next());
        let refused = refused.expect("a client of another CA");
        assert!(refused.contains("verify failed"), "{what}: {refused}");
        assert_none_failed(&policy, &what);
    }
}

/// A session that has been found to pass is not failed because others have taken the room since.
#[test]
fn a_chain_that_goes_after_the_lookup_is_there_until_the_handshake_ends() {
    let ca = mint("clients", None).unwrap();
    let chain = chain_of(&ca, 1);
    // More than there is room for.
    let others: Vec<_> = (0..40)
        .map(|number| {
            let name = format!("between {number}");
            let between = mint_intermediate_with_padding(&name, &ca, 15_000);
            vec![mint("other", Some(&between)).unwrap(), between]
        })
        .collect();
    for (what, policy, kind) in verifying_clients() {
        let crowd: Vec<_> = (others.iter())
            .map(|other| client_of(Kind::Tls13, other))
            .collect();
        let (crowded, armed) = (demanding(&policy, &[&ca]), Switch::default());
        let (is_armed, cert) = (armed.clone(), ca.cert.clone());
        let context = context_with(&policy, |builder| {
            demand_certificates(builder, &ca);
            builder.set_servername_callback(move |ssl, _| {
                // One of its own is asked after the lookup as well.
                let mut store = X509StoreBuilder::new().unwrap();
                store.add_cert(cert.clone()).unwrap();
                ssl.set_verify_cert_store(store.build()).unwrap();
                if is_armed.is_on() {
                    for other in &crowd {
                        meet(&crowded, other, None);
                    }
                }
                Ok(())
            });
        });
        let client = client_of(kind, &chain).server_name("a.example");
        let [_, second] = meet_twice(&context, &client);
        assert!(second.client.resumed, "{what}: {:?}", second.outcome);
        armed.turn_on();
        let third = meet(&context, &client, second.next());
        assert!(third.client.resumed, "{what}: {:?}", third.outcome);
        assert!(policy.stats().certificates.chains < 40, "{what}");
        assert_none_failed(&policy, &what);
    }
}
