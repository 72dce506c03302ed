//! What resumes, in which mode, and on which thread it is looked up.

use std::sync::Arc;

use openssl::ssl::{SslAcceptorBuilder, SslOptions, SslVerifyMode, SslVersion};
use openssl_resumption::{
    Handshake::{Full, Resumed},
    Reason, Resumption, Source, SslContextBuilderExt, TicketKeys, accept_async,
};

use crate::store::{Call, Watched};
use crate::{LONG, common::*, meet_async, meet_async_twice, watched};

/// Each cell of the table of modes.
#[test]
fn each_kind_of_session_resumes_and_what_is_in_the_store_is_looked_up_elsewhere() {
    let store = || Arc::new(Watched::default());
    let (stateful, hybrid) = (store(), store());
    let policies = [
        (
            "stateful",
            &stateful,
            Resumption::stateful(Arc::clone(&stateful)),
        ),
        (
            "hybrid",
            &hybrid,
            Resumption::hybrid(Arc::clone(&hybrid), TicketKeys::random()),
        ),
        (
            "stateless",
            &store(),
            Resumption::stateless(TicketKeys::random()),
        ),
        ("off", &store(), Resumption::off()),
    ];
    for (mode, store, policy) in policies {
        let context = context(&policy.suspend_lookups(true));
        for kind in Kind::ALL {
            store.forget_calls();
            let [first, second] = meet_async_twice(&context, &Client::new(kind).unwrap());
            assert!(matches!(first.agreed(), Full(_)), "{mode} {kind:?}");
            let source = match (mode, kind) {
                ("stateful", _) | ("hybrid", Kind::Tls12WithoutTickets) => Some(Source::Store),
                ("off", _) | ("stateless", Kind::Tls12WithoutTickets) => None,
                _ => Some(Source::Ticket),
            };
            match source {
                Some(source) => assert_eq!(second.agreed(), Resumed(source), "{mode} {kind:?}"),
                None => assert!(matches!(second.agreed(), Full(_)), "{mode} {kind:?}"),
            }
            let looked_up = usize::from(source == Some(Source::Store));
            assert_eq!(store.asked_for().len(), looked_up, "{mode} {kind:?}");
            assert_eq!(store.count_here(Call::Get), 0, "{mode} {kind:?}");
        }
    }
}

/// A client with a certificate has a session in the store, and one without a ticket; with `single_use` it is taken.
#[test]
fn in_hybrid_mode_what_clients_with_certificates_offer_is_looked_up_elsewhere() {
    let (ca, me) = ca_and_client();
    for (single_use, hello_retry) in [(false, false), (false, true), (true, false), (true, true)] {
        let store = Arc::new(Watched::default());
        let policy = Resumption::hybrid(Arc::clone(&store), TicketKeys::random())
            .single_use(single_use)
            .suspend_lookups(true)
            .lookup_deadline(LONG);
        let context = context_with(&policy, |builder| {
            builder.cert_store_mut().add_cert(ca.cert.clone()).unwrap();
            builder.set_verify(SslVerifyMode::PEER);
            if hello_retry {
                builder.set_groups_list("P-384").unwrap();
            }
        });
        for certificate in [true, false] {
            let client = Client::with(Kind::Tls13, |context| {
                if certificate {
                    context.set_certificate(&me.cert)?;
                    context.set_private_key(&me.key)?;
                }
                context.set_groups_list("P-256:P-384")
            });
            store.forget_calls();
            let [first, second] = meet_async_twice(&context, &client.unwrap());
            assert!(matches!(first.agreed(), Full(_)));
            assert_eq!(second.authenticated, certificate);
            let source = if certificate {
                Source::Store
            } else {
                Source::Ticket
            };
            assert_eq!(second.agreed(), Resumed(source));
            assert_eq!(store.asked_for().len(), usize::from(certificate));
            let call = if single_use { Call::Take } else { Call::Get };
            assert_eq!(store.count(call), usize::from(certificate));
            assert_eq!(store.count_here(call), 0);
        }
        assert_eq!(policy.stats().overridden, 0);
    }
}

#[test]
fn after_a_hello_retry_request_the_store_is_not_asked_again() {
    for single_use in [false, true] {
        let (store, policy) = watched();
        let (context, client) = retrying(&policy.single_use(single_use));
        let [first, second] = meet_async_twice(&context, &client);
        assert_eq!(second.agreed(), Resumed(Source::Store));
        assert_eq!(store.asked_for().len(), 1);
        assert_eq!(
            store.count_here(Call::Get) + store.count_here(Call::Take),
            0
        );
        let again = meet_async(&context, &client, first.next());
        let expected = if single_use {
            Full(Reason::NotFound)
        } else {
            Resumed(Source::Store)
        };
        assert_eq!(again.agreed(), expected);
    }
}

/// A client of both versions, which offers a TLS 1.2 session.
#[test]
fn the_version_is_foreseen_as_the_server_has_it() {
    let changes: [fn(&mut SslAcceptorBuilder); 2] = [
        |b| b.set_max_proto_version(Some(SslVersion::TLS1_2)).unwrap(),
        |b| {
            b.set_options(SslOptions::NO_TLSV1_3);
        },
    ];
    for change in changes {
        let (store, policy) = watched();
        let context = context_with(&policy, change);
        let client = Client::with(Kind::Tls12, |context| context.set_max_proto_version(None));
        let [_, second] = meet_async_twice(&context, &client.unwrap());
        assert_eq!(second.agreed(), Resumed(Source::Store));
        assert_eq!(store.count_here(Call::Get), 0);
    }
}

#[test]
fn a_policy_that_does_not_suspend_asks_in_the_handshake() {
    for kind in Kind::ALL {
        let store = Arc::new(Watched::default());
        let context = context(&Resumption::stateful(Arc::clone(&store)));
        let [_, second] = meet_async_twice(&context, &Client::new(kind).unwrap());
        assert_eq!(second.agreed(), Resumed(Source::Store), "{kind:?}");
        assert_eq!(store.count_here(Call::Get), 1, "{kind:?}");
    }
}

#[test]
fn a_policy_that_suspends_works_in_a_plain_accept() {
    for kind in Kind::ALL {
        let (store, policy) = watched();
        let context = context(&policy);
        let [first, second] = meet_twice(&context, &Client::new(kind).unwrap());
        assert_eq!(second.agreed(), Resumed(Source::Store), "{kind:?}");
        let third = meet_async(&context, &Client::new(kind).unwrap(), first.next());
        assert_eq!(third.agreed(), Resumed(Source::Store), "{kind:?}");
        assert_eq!(store.count(Call::Get), 2, "{kind:?}");
    }
    let (_, policy) = watched();
    let (context, client) = retrying(&policy.single_use(true));
    let [_, second] = meet_twice(&context, &client);
    assert_eq!(second.agreed(), Resumed(Source::Store));
}

#[test]
fn the_policy_set_last_decides_whether_lookups_are_suspended() {
    for suspends in [false, true] {
        let (store, suspending) = watched();
        let plain = Resumption::stateful(Arc::clone(&store));
        let policies = if suspends {
            [plain, suspending]
        } else {
            [suspending, plain]
        };
        let [before, last] = policies;
        let context = context_with(&last, |builder| builder.set_resumption(&before).unwrap());
        let [_, second] = meet_async_twice(&context, &Client::new(Kind::Tls13).unwrap());
        assert_eq!(second.agreed(), Resumed(Source::Store));
        assert_eq!(store.count_here(Call::Get), usize::from(!suspends));
    }
}

#[test]
fn what_the_lookup_finds_is_checked_as_ever() {
    for kind in Kind::ALL {
        let (store, policy) = watched();
        let context = context(&policy);
        let shop = Client::new(kind).unwrap().server_name("shop.example");
        let first = meet_async(&context, &shop, None);
        let bank = Client::new(kind).unwrap().server_name("bank.example");
        let elsewhere = meet_async(&context, &bank, first.next());
        assert_eq!(elsewhere.agreed(), Full(Reason::OtherBinding), "{kind:?}");
        let at_home = meet_async(&context, &shop, first.next());
        assert_eq!(at_home.agreed(), Resumed(Source::Store), "{kind:?}");
        policy.forget_all();
        let forgotten = meet_async(&context, &shop, first.next());
        assert_eq!(forgotten.agreed(), Full(Reason::Forgotten), "{kind:?}");
        assert_eq!(store.count_here(Call::Get), 0, "{kind:?}");
    }
}

#[test]
fn the_future_goes_wherever_its_stream_goes() {
    fn goes<T: Send>(_: T) {}
    let _ = |ssl, stream: tokio::net::UnixStream| goes(accept_async(ssl, stream));
}
