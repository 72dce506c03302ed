//! Stores that answer whatever they like.

use std::sync::Arc;

use openssl_resumption::{
    Handshake::{Full, Resumed},
    Reason, Resumption, Session, Source,
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
