//! Stores that answer whatever they like.

use std::sync::{Arc, Mutex};

use openssl::asn1::{Asn1Object, Asn1OctetString};
use openssl::hash::MessageDigest;
use openssl::x509::extension::BasicConstraints;
use openssl::x509::{X509, X509Extension};
use openssl_resumption::{
    ClientCertificates,
    Handshake::{Full, Resumed},
    MemoryStore, Reason, Resumption, Session, Source,
};

use crate::common::*;
use crate::der::{TIME, with_number};
use crate::for_all;
use crate::liar::{CHECKSUM, HEADER, Liar, Lie, lies};
use crate::now;
use crate::server::Server;
use crate::strange::{no_sessions, strange_sessions};

#[test]
fn whatever_a_store_answers_only_the_session_asked_for_resumes() {
    for kind in Kind::ALL {
        let store = Arc::new(Liar::default());
        let server = Server::new(&Resumption::stateful(Arc::clone(&store)));
        // Sessions of each version for the store to mix up.
        let guest = server.guest(kind);
        for other in Kind::ALL {
            server.guest(other);
        }
        for_all(250, lies(), |lie| {
            *store.lie.lock() = Some(lie.clone());
            let looked_up = store.lookups.lock().len();
            let met = server.try_meet(&guest.client, Some(&guest.session));
            let lookups = store.lookups.lock();
            let [lookup] = &lookups[looked_up..] else {
                panic!("{} lookups", lookups.len() - looked_up);
            };
            let met = match met {
                Ok(met) => met.agreed(),
                // Another secret than the client's, from a store that computes checksums.
                Err(_) if matches!(lie, Lie::ForgedChange(_) | Lie::ForgedOther(_)) => return,
                Err(failure) => panic!("{lie:?}: {failure}"),
            };
            let bytes = |session: &Option<Session>| Some(session.as_ref()?.as_bytes().to_vec());
            if bytes(&lookup.answer) == bytes(&lookup.truth) {
                assert_eq!(met, Resumed(Source::Store), "{lie:?}");
            } else if matches!(lie, Lie::ForgedChange(_) | Lie::ForgedEnd(_)) {
                // A time or a flag: what makes the secret and the binding is as it was.
            } else {
                assert!(matches!(met, Full(_)), "{lie:?} {met:?}");
            }
        });
        *store.lie.lock() = None;
        guest.still_resumes();
        let stats = server.policy.stats().store;
        let answers = stats.hits + stats.misses + stats.expired + stats.errors;
        assert_eq!(answers, store.lookups.lock().len() as u64, "{stats:?}");
        assert_eq!((stats.removed, stats.capped), (0, 0));
    }
}

#[test]
fn what_is_no_session_or_a_strange_one_does_not_resume_even_if_its_checksum_is_right() {
    for kind in Kind::ALL {
        let store = Arc::new(Liar::default());
        let server = Server::new(&Resumption::stateful(Arc::clone(&store)));
        let guest = server.guest(kind);
        let record = store.stored.lock()[0].1.clone();
        let session = &record.as_bytes()[HEADER + CHECKSUM..];
        // Behind a session may be the certificates of its client's chain; these are no certificates, and there is no chain.
        let followed = ["a byte more", "two sessions"];
        let (followed, no_sessions): (Vec<_>, Vec<_>) = no_sessions(session)
            .into_iter()
            .partition(|(what, _)| followed.contains(what));
        assert_eq!(followed.len(), 2);
        for (what, bytes) in followed {
            *store.lie.lock() = Some(Lie::Forged(bytes));
            let met = server.meet(&guest.client, Some(&guest.session));
            assert_eq!(met.agreed(), Resumed(Source::Store), "{kind:?} {what}");
            assert!(!met.authenticated, "{kind:?} {what}");
        }
        let no_sessions = no_sessions.into_iter();
        let strange_sessions = strange_sessions(session, kind).into_iter();
        let all = no_sessions
            .map(|(what, bytes)| (what, bytes, Reason::StoreFailed))
            .chain(strange_sessions);
        for (what, bytes, why) in all {
            *store.lie.lock() = Some(Lie::Forged(bytes));
            let met = server.meet(&guest.client, Some(&guest.session));
            assert_eq!(met.agreed(), Full(why), "{kind:?} {what}");
        }
        for made in [now() + 200_000, i64::MAX as u64, u64::MAX] {
            let forged = with_number(session, TIME, made);
            *store.lie.lock() = Some(Lie::Forged(forged));
            let met = server.meet(&guest.client, Some(&guest.session));
            assert_eq!(met.agreed(), Full(Reason::StoreFailed), "made at {made}");
        }
        *store.lie.lock() = Some(Lie::Forged(session.to_vec()));
        guest.still_resumes();
    }
}

/// A certificate that `ca` has signed, that may sign others, and that has a comment of so many bytes.
fn mint_intermediate(ca: &Identity, comment: usize) -> Identity {
    let mut identity = mint("between", Some(ca)).unwrap();
    let mut cert = X509::builder().unwrap();
    cert.set_version(2).unwrap();
    cert.set_serial_number(identity.cert.serial_number())
        .unwrap();
    cert.set_not_before(identity.cert.not_before()).unwrap();
    cert.set_not_after(identity.cert.not_after()).unwrap();
    cert.set_subject_name(identity.cert.subject_name()).unwrap();
    cert.set_issuer_name(ca.cert.subject_name()).unwrap();
    cert.set_pubkey(&identity.key).unwrap();
    let may_sign = BasicConstraints::new().critical().ca().build().unwrap();
    cert.append_extension(may_sign).unwrap();
    let content = Asn1OctetString::new_from_bytes(&vec![b'x'; comment]).unwrap();
    let kind = Asn1Object::from_str("2.16.840.1.113730.1.13").unwrap();
    let comment = X509Extension::new_from_der(&kind, false, &content).unwrap();
    cert.append_extension(comment).unwrap();
    cert.sign(&ca.key, MessageDigest::sha256()).unwrap();
    identity.cert = cert.build();
    identity
}

/// A client that sends this certificate beside its own.
fn client_with_chain(kind: Kind, me: &Identity, between: &Identity) -> Client {
    Client::with(kind, |context| {
        context.set_certificate(&me.cert)?;
        context.set_private_key(&me.key)?;
        context.add_extra_chain_cert(between.cert.clone())
    })
    .unwrap()
}

/// Who can write to the store can put any certificates there. They would be told to the application as those of the client.
#[test]
fn only_the_chain_that_a_client_sent_is_its_chain_whatever_follows_its_session_in_the_store() {
    let ca = mint("clients", None).unwrap();
    let between = mint_intermediate(&ca, 0);
    let me = mint("me", Some(&between)).unwrap();
    let (chain, other) = [&between, &ca].map(|one| one.cert.to_der().unwrap()).into();
    for kind in Kind::ALL {
        let store = Arc::new(Liar::default());
        let client = client_with_chain(kind, &me, &between);
        // Each time a host that has not seen the client: what it knows of the chain is in the store.
        let ask = |looks: ClientCertificates, session: Option<&[u8]>| {
            let told = Arc::new(Mutex::new(None));
            let tell = Arc::clone(&told);
            let policy = Resumption::stateful(Arc::clone(&store)).client_certificates(looks);
            let policy = policy.admit_client(move |client| {
                let chain = client.lineage().client_chain().map(<[_]>::to_vec);
                *tell.lock().unwrap() = chain;
                true
            });
            let server = Server::with(&policy, |builder| demand_certificates(builder, &ca));
            let met = server.meet(&client, session);
            let told = told.lock().unwrap().take();
            (met, told)
        };
        let (first, _) = ask(ClientCertificates::Resume, None);
        let record = store.stored.lock()[0].1.clone();
        let body = &record.as_bytes()[HEADER + CHECKSUM..];
        let session = body.strip_suffix(&chain[..]).expect("the chain at its end");

        let mut flipped = chain.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let lies = [
            ("nothing", vec![]),
            ("a byte", vec![0]),
            ("a byte more", [&chain[..], &[0]].concat()),
            ("a byte less", chain[..chain.len() - 1].to_vec()),
            ("a byte before", [&[0], &chain[..]].concat()),
            ("the chain twice", [&chain[..], &chain].concat()),
            ("another certificate", other.clone()),
            ("one certificate more", [&chain[..], &other].concat()),
            ("another signature", flipped),
            (
                "an endless element",
                vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            ),
            ("much", vec![0x30; 100_000]),
        ];
        for (what, follows) in lies {
            let what = format!("{kind:?}: {what}");
            *store.lie.lock() = Some(Lie::Forged([session, &follows].concat()));
            let (met, told) = ask(ClientCertificates::Resume, first.next());
            assert_eq!(met.agreed(), Resumed(Source::Store), "{what}");
            assert!(told.is_none() && met.authenticated, "{what}: {told:?}");
            let (met, told) = ask(ClientCertificates::Verify, first.next());
            assert_eq!(met.agreed(), Full(Reason::UnknownChain), "{what}");
            assert!(told.is_none(), "{what}: {told:?}");
        }
        *store.lie.lock() = None;
        for looks in [ClientCertificates::Resume, ClientCertificates::Verify] {
            let (met, told) = ask(looks, first.next());
            assert_eq!(met.agreed(), Resumed(Source::Store), "{kind:?}");
            assert_eq!(told.unwrap(), [&me, &between].map(|one| one.cert.clone()));
        }
    }
}

/// Other clients may have sent more chains since than there is room for in memory.
#[test]
fn a_chain_that_had_to_go_from_memory_is_found_in_the_store_again() {
    let ca = mint("clients", None).unwrap();
    let between = mint_intermediate(&ca, 0);
    let me = mint("me", Some(&between)).unwrap();
    let policy = Resumption::stateful(MemoryStore::default())
        .client_certificates(ClientCertificates::Verify);
    let server = Server::with(&policy, |builder| demand_certificates(builder, &ca));
    for kind in Kind::ALL {
        let client = client_with_chain(kind, &me, &between);
        let first = server.meet(&client, None);
        // Whether it has been kept decoded meanwhile or not.
        for _ in 0..2 {
            let mut others = 0;
            let before = policy.stats().certificates;
            while others < 8 || policy.stats().certificates.chains > others {
                let between = mint_intermediate(&ca, 15_000);
                let other = mint("other", Some(&between)).unwrap();
                server.meet(&client_with_chain(Kind::Tls13, &other, &between), None);
                others += 1;
                assert!(others < 100, "{before:?}: nothing goes");
            }
            let met = server.meet(&client, first.next());
            assert_eq!(met.agreed(), Resumed(Source::Store), "{kind:?}");
        }
    }
}
