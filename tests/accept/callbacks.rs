//! ClientHello and server name callbacks of the server's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use openssl::ssl::{ClientHelloResponse, NameType, Ssl, SslContext};
use openssl_resumption::{
    Handshake::Resumed, Resumption, Source, SslContextBuilderExt, TicketKeys,
};

use crate::store::{Call, Watched};
use crate::{common::*, meet_async_twice, pair, runtime, serve, session_of, watched};

/// Sets a callback that calls the policy's and counts how often it is told to retry; then it does
/// something of its own.
pub(crate) fn own_callback(
    policy: &Resumption,
    groups: &str,
    then: impl Fn(&mut openssl::ssl::SslRef) + Send + Sync + 'static,
) -> (SslContext, Arc<AtomicUsize>) {
    let retries = Arc::new(AtomicUsize::new(0));
    let (counted, policy) = (Arc::clone(&retries), policy.clone());
    let context = context_changed(&policy.clone(), move |builder| {
        builder.set_groups_list(groups).unwrap();
        builder.set_client_hello_callback(move |ssl, alert| {
            let response = policy.client_hello(ssl, alert)?;
            if response == ClientHelloResponse::RETRY {
                counted.fetch_add(1, Relaxed);
                return Ok(response);
            }
            then(ssl);
            Ok(ClientHelloResponse::SUCCESS)
        });
    });
    (context, retries)
}

#[test]
fn a_callback_of_ones_own_suspends_the_handshake() {
    for kind in Kind::ALL {
        let store = Arc::new(Watched::default());
        let policy = Resumption::stateful(Arc::clone(&store));
        let switched = context(&policy);
        let (context, retries) = own_callback(&policy, "P-256", move |ssl| {
            ssl.set_ssl_context(&switched).unwrap();
        });
        let client = Client::new(kind).unwrap();
        let [first, second] = meet_async_twice(&context, &client);
        assert_eq!(second.agreed(), Resumed(Source::Store), "{kind:?}");
        assert_eq!(store.count_here(Call::Get), 0, "{kind:?}");
        assert_eq!(retries.load(Relaxed), 1, "{kind:?}");
        // In a plain accept it never says so.
        let met = meet(&context, &client, first.next());
        assert_eq!(met.agreed(), Resumed(Source::Store), "{kind:?}");
        assert_eq!(retries.load(Relaxed), 1, "{kind:?}");
    }
}

/// The second hello then goes to the callback of the context that the first switched to.
#[test]
fn a_switch_of_contexts_between_two_hellos_keeps_the_answer() {
    for (own, single_use) in [(false, false), (true, false), (false, true), (true, true)] {
        let store = Arc::new(Watched::default());
        let policy = Resumption::stateful(Arc::clone(&store)).single_use(single_use);
        let target = if own {
            policy.clone().suspend_lookups(true)
        } else {
            policy.clone()
        };
        let target = context(&target);
        let (context, retries) = own_callback(&policy, "P-384", move |ssl| {
            ssl.set_ssl_context(&target).unwrap();
        });
        let [_, second] = meet_async_twice(&context, &with_groups("P-256:P-384"));
        assert_eq!(second.agreed(), Resumed(Source::Store), "{own}");
        assert_eq!(retries.load(Relaxed), 1, "{own}");
        assert_eq!(store.asked_for().len(), 1, "{own}");
    }
}

#[test]
fn a_callback_that_does_not_ask_leaves_lookups_synchronous_and_is_counted() {
    let (store, policy) = watched();
    let context = context_changed(&policy, |builder| {
        builder.set_client_hello_callback(|_, _| Ok(ClientHelloResponse::SUCCESS));
    });
    let [_, second] = meet_async_twice(&context, &Client::new(Kind::Tls13).unwrap());
    assert_eq!(second.agreed(), Resumed(Source::Store));
    assert_eq!(store.count_here(Call::Get), 1);
    assert_eq!(policy.stats().overridden, 1, "once");
}

#[test]
fn a_server_name_callback_switches_contexts() {
    for kind in Kind::ALL {
        let (store, policy) = watched();
        let shop = context(&policy);
        let context = context_with(&policy, |builder| {
            builder.set_servername_callback(move |ssl, _| {
                if ssl.servername(NameType::HOST_NAME) == Some("shop.example") {
                    ssl.set_ssl_context(&shop).unwrap();
                }
                Ok(())
            });
        });
        let client = Client::new(kind).unwrap().server_name("shop.example");
        let [_, second] = meet_async_twice(&context, &client);
        assert_eq!(second.agreed(), Resumed(Source::Store), "{kind:?}");
        assert_eq!(store.count_here(Call::Get), 0, "{kind:?}");
    }
}

/// Nobody knows what it waits for.
#[test]
fn a_retry_for_another_reason_is_an_error() {
    let (store, policy) = watched();
    let session = session_of(&context(&policy), Kind::Tls13);
    store.forget_calls();
    let context = context_changed(&policy, |builder| {
        builder.set_client_hello_callback(|_, _| Ok(ClientHelloResponse::RETRY));
    });
    for (session, lookups) in [(None, 0), (Some(&*session), 1)] {
        store.forget_calls();
        let (mut near, far) = pair();
        let hello = Client::new(Kind::Tls13).unwrap().hello(session);
        std::io::Write::write_all(&mut near, &hello).unwrap();
        let served = runtime().block_on(serve(Ssl::new(&context).unwrap(), far));
        assert_eq!(served, Err("unknown error code 11".into()));
        assert_eq!(store.asked_for().len(), lookups);
    }
}

/// `set_resumption` comes last, so it is the policy's callback that stays.
#[test]
fn suspending_replaces_a_callback_set_before() {
    let (store, policy) = watched();
    let context = context_with(&policy, |builder| {
        builder.set_client_hello_callback(|_, _| panic!("replaced"));
        builder.set_resumption(&policy).unwrap();
    });
    let [_, second] = meet_async_twice(&context, &Client::new(Kind::Tls12).unwrap());
    assert_eq!(second.agreed(), Resumed(Source::Store));
    assert_eq!(store.count_here(Call::Get), 0);
    assert_eq!(policy.stats().overridden, 0);
}

/// So it is with a policy that does not suspend, and with one that has no store to ask.
#[test]
fn a_policy_that_does_not_suspend_leaves_a_callback_set_before() {
    let (_, policy) = watched();
    let tickets = Resumption::stateless(TicketKeys::random());
    for policy in [policy.suspend_lookups(false), tickets.suspend_lookups(true)] {
        let calls = Arc::new(AtomicUsize::new(0));
        let context = context_with(&policy, |builder| {
            let calls = Arc::clone(&calls);
            builder.set_client_hello_callback(move |_, _| {
                calls.fetch_add(1, Relaxed);
                Ok(ClientHelloResponse::SUCCESS)
            });
        });
        meet(&context, &Client::new(Kind::Tls12).unwrap(), None);
        assert_eq!(calls.load(Relaxed), 1, "{policy:?}");
    }
}
