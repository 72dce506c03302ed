//! Stores that take their time, or fail.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use openssl::ssl::Ssl;
use openssl_resumption::{
    Handshake::{Full, Resumed},
    Reason, Resumption, Source, WriteBehind,
};

use crate::store::{Call, Mood, Watched};
use crate::{LONG, common::*, meet_async, pair, runtime, serve, session_of, watched};

#[test]
fn a_hundred_handshakes_wait_for_a_slow_store_together() {
    const LATENCY: Duration = Duration::from_secs(1);
    let store = Arc::new(Watched::default());
    let behind = Arc::new(WriteBehind::new(Arc::clone(&store)));
    let policy = Resumption::stateful(Arc::clone(&behind)).suspend_lookups(true);
    let context = context(&policy.clone().lookup_deadline(LONG));
    let kinds = [Kind::Tls12, Kind::Tls13];
    let sessions = kinds.map(|kind| session_of(&context, kind));
    assert_eq!(behind.flush(LONG), 0);
    store.set(Mood::Slow(LATENCY));

    let start = Instant::now();
    thread::scope(|scope| {
        let runtime = runtime();
        let mut servers = Vec::new();
        for i in 0..100 {
            let (near, far) = pair();
            let ssl = Ssl::new(&context).unwrap();
            servers.push(runtime.spawn(serve(ssl, far)));
            let (kind, session) = (kinds[i % 2], &sessions[i % 2]);
            scope.spawn(move || {
                let client = Client::new(kind).unwrap();
                let stream = client.connect(near, Some(session)).unwrap();
                assert!(client.finish(stream).unwrap().resumed);
            });
        }
        runtime.block_on(async {
            for server in servers {
                let (outcome, ..) = server.await.unwrap().unwrap();
                assert_eq!(outcome.unwrap().handshake, Resumed(Source::Store));
            }
        });
    });
    let took = start.elapsed();
    assert!(took >= LATENCY, "the store was not asked: {took:?}");
    assert!(took < 10 * LATENCY, "one after the other: {took:?}");
    assert_eq!(store.count(Call::Get), 100);
    // Not even to write.
    for call in [Call::Get, Call::Put, Call::Remove, Call::Take] {
        assert_eq!(store.count_here(call), 0, "{call:?}");
    }
    store.set(Mood::Prompt);
}

#[test]
fn a_lookup_that_misses_its_deadline_is_a_full_handshake_and_counted() {
    for kind in Kind::ALL {
        let (store, policy) = watched();
        let context = context(&policy.clone().lookup_deadline(Duration::from_millis(50)));
        let session = session_of(&context, kind);
        store.set(Mood::Holding);
        let (near, far) = pair();
        let client = Client::new(kind).unwrap();
        thread::scope(|scope| {
            let client = scope.spawn(|| {
                let stream = client.connect(near, Some(&session)).unwrap();
                client.finish(stream).unwrap()
            });
            let runtime = runtime();
            let served = runtime.block_on(serve(Ssl::new(&context).unwrap(), far));
            let begun = store.count(Call::Get);
            store.set(Mood::Prompt);
            // It went on while the store still held the lookup.
            assert_eq!(begun, 1, "{kind:?}");
            let outcome = served.unwrap().0.unwrap();
            assert_eq!(outcome.handshake, Full(Reason::StoreFailed), "{kind:?}");
            assert!(!client.join().unwrap().resumed, "{kind:?}");
        });
        assert_eq!(policy.stats().store.late, 1, "{kind:?}");
        // The lookup has ended by now.
        assert_eq!(policy.stats().store.hits, 1, "{kind:?}");
        let met = meet_async(&context, &client, Some(&session));
        assert_eq!(met.agreed(), Resumed(Source::Store), "{kind:?}");
        assert_eq!(policy.stats().store.late, 1, "{kind:?}");
    }
}

#[test]
fn a_store_that_errs_or_panics_costs_a_full_handshake() {
    for mood in [Mood::Failing, Mood::Panicking] {
        for kind in Kind::ALL {
            let (store, policy) = watched();
            let context = context(&policy);
            let client = Client::new(kind).unwrap();
            let session = session_of(&context, kind);
            store.set(mood);
            let met = meet_async(&context, &client, Some(&session));
            assert_eq!(met.agreed(), Full(Reason::StoreFailed), "{mood:?} {kind:?}");
            // The lookup, and then the new session.
            assert_eq!(policy.stats().store.errors, 2, "{mood:?} {kind:?}");
            assert_eq!(store.count_here(Call::Get), 0, "{mood:?} {kind:?}");
            store.set(Mood::Prompt);
            let met = meet_async(&context, &client, Some(&session));
            assert_eq!(met.agreed(), Resumed(Source::Store), "{mood:?} {kind:?}");
        }
    }
}

#[test]
fn a_runtime_without_a_timer_serves_until_there_is_something_to_look_up() {
    let (_, policy) = watched();
    let context = context(&policy);
    let (near, far) = pair();
    let server = Ssl::new(&context).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let client = Client::new(Kind::Tls13).unwrap();
            client.finish(client.connect(near, None).unwrap()).unwrap()
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap();
        runtime.block_on(serve(server, far)).unwrap();
    });
}
