//! Handshakes that are given up while they are suspended, and sessions that are used once.

use std::io::Write;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use openssl::ssl::{Ssl, SslContext};
use openssl_resumption::{
    Handshake::{Full, Resumed},
    Reason, Source,
};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::callbacks::own_callback;
use crate::common::child::in_child;
use crate::store::{Call, Mood};
use crate::{Served, common::*, meet_async, pair, runtime, serve, session_of, watched};

/// What goes when the connection goes.
fn lifeline(ssl: &mut Ssl) -> Weak<()> {
    let life = Arc::new(());
    let line = Arc::downgrade(&life);
    ssl.set_ex_data(Ssl::new_ex_index().unwrap(), life);
    line
}

type Server = JoinHandle<Result<Served, String>>;

/// A server to which a client has said hello; it runs when the runtime does. And the client's end.
fn greeted(
    runtime: &Runtime,
    context: &SslContext,
    hello: &[u8],
) -> (Server, Weak<()>, std::os::unix::net::UnixStream) {
    let (mut near, far) = pair();
    near.write_all(hello).unwrap();
    let mut ssl = Ssl::new(context).unwrap();
    let line = lifeline(&mut ssl);
    (runtime.spawn(serve(ssl, far)), line, near)
}

fn run_until(runtime: &Runtime, done: impl Fn() -> bool) {
    runtime.block_on(async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn a_cancelled_future_leaves_nothing_behind() {
    for (kind, single_use) in [
        (Kind::Tls12, false),
        (Kind::Tls13, false),
        (Kind::Tls13, true),
    ] {
        let (store, policy) = watched();
        let context = context(&policy.clone().single_use(single_use));
        let session = session_of(&context, kind);
        let hello = Client::new(kind).unwrap().hello(Some(&session));
        store.set(Mood::Holding);
        store.forget_calls();

        let runtime = runtime();
        let (server, line, _near) = greeted(&runtime, &context, &hello);
        run_until(&runtime, || store.asked_for().len() == 1);
        assert!(line.upgrade().is_some());
        server.abort();
        assert!(runtime.block_on(server).unwrap_err().is_cancelled());
        assert!(line.upgrade().is_none(), "the connection is freed at once");

        let started = policy.stats();
        assert_eq!(handshakes(&started), (1, 0));
        drop((context, policy));
        // The policy stays until the lookup has ended, which a runtime waits for.
        assert!(Arc::strong_count(&store) > 1);
        store.set(Mood::Prompt);
        drop(runtime);
        assert_eq!(Arc::strong_count(&store), 1, "{kind:?} {single_use}");
    }
}

#[test]
fn a_session_that_was_taken_for_a_cancelled_handshake_is_gone() {
    let (store, policy) = watched();
    let context = context(&policy.single_use(true));
    let session = session_of(&context, Kind::Tls13);
    let client = Client::new(Kind::Tls13).unwrap();
    let hello = client.hello(Some(&session));
    store.set(Mood::Holding);
    let runtime = runtime();
    let (server, _, near) = greeted(&runtime, &context, &hello);
    run_until(&runtime, || store.asked_for().len() == 1);
    server.abort();
    store.set(Mood::Prompt);
    drop((runtime, near));
    let met = meet_async(&context, &client, Some(&session));
    assert_eq!(met.agreed(), Full(Reason::NotFound));
}

/// With one thread for lookups the second waits for the first.
#[test]
fn a_lookup_that_has_not_begun_when_its_handshake_is_cancelled_is_not_made() {
    let (store, policy) = watched();
    let (context, suspended) = own_callback(&policy.single_use(true), "P-256", |_| ());
    let sessions = [(); 2].map(|()| session_of(&context, Kind::Tls13));
    let client = with_groups("P-256");
    store.set(Mood::Holding);

    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let [held, waiting] = [1, 2].map(|times| {
        let hello = client.hello(Some(&sessions[times - 1]));
        let greeted = greeted(&runtime, &context, &hello);
        run_until(&runtime, || suspended.load(Relaxed) == times);
        greeted
    });
    run_until(&runtime, || store.asked_for().len() == 1);
    let (waiting, line, _near) = waiting;
    waiting.abort();
    assert!(runtime.block_on(waiting).unwrap_err().is_cancelled());
    assert!(line.upgrade().is_none());
    store.set(Mood::Prompt);
    drop((held, runtime));
    assert_eq!(store.asked_for().len(), 1);
    let met = meet_async(&context, &client, Some(&sessions[1]));
    assert_eq!(met.agreed(), Resumed(Source::Store));
}

#[test]
fn of_many_that_offer_a_single_use_session_exactly_one_resumes() {
    let (store, policy) = watched();
    let context = context(&policy.clone().single_use(true));
    let session = session_of(&context, Kind::Tls13);
    store.set(Mood::Holding);
    let (store, session) = (&store, &*session);
    thread::scope(|scope| {
        let runtime = runtime();
        let mut servers = Vec::new();
        for _ in 0..10 {
            let (near, far) = pair();
            servers.push(runtime.spawn(serve(Ssl::new(&context).unwrap(), far)));
            scope.spawn(move || {
                let client = Client::new(Kind::Tls13).unwrap();
                let stream = client.connect(near, Some(session)).unwrap();
                client.finish(stream).unwrap()
            });
        }
        run_until(&runtime, || store.asked_for().len() == 10);
        store.set(Mood::Prompt);
        runtime.block_on(async {
            for server in servers {
                server.await.unwrap().unwrap();
            }
        });
    });
    assert_eq!(store.count(Call::Take), 10);
    assert_eq!(policy.stats().resumed(Source::Store), 1);
    assert_eq!(policy.stats().full(Reason::NotFound), 9);
}

/// A client offers the ticket of nobody, for which the store hangs, and then its own.
#[test]
fn what_is_given_up_takes_no_further_session() {
    let (store, policy) = watched();
    let context = context(&policy.clone().single_use(true));
    let session = session_of(&context, Kind::Tls13);
    store.forget_calls();
    store.set(Mood::Holding);
    let hello = offering("P-256", [ticket_of_nobody(0), ticket(&session).to_vec()]);
    let runtime = runtime();
    let (server, _line, near) = greeted(&runtime, &context, &hello);
    run_until(&runtime, || store.asked_for().len() == 1);
    server.abort();
    assert!(runtime.block_on(server).unwrap_err().is_cancelled());
    store.set(Mood::Prompt);
    // Waits for what it has begun.
    drop((runtime, near));
    assert_eq!(store.asked_for().len(), 1);
    let met = meet_async(&context, &Client::new(Kind::Tls13).unwrap(), Some(&session));
    assert_eq!(met.agreed(), Resumed(Source::Store));
}

/// In a process of its own, because lookups are bounded by process.
#[test]
fn a_store_that_hangs_leaves_threads_to_others() {
    in_child(
        "cancelled::a_store_that_hangs_leaves_threads_to_others",
        hang,
    );
}

fn hang() {
    let (store, policy) = watched();
    let context = context(&policy.lookup_deadline(Duration::from_millis(500)));
    store.set(Mood::Holding);
    let hello = offering("P-256", [ticket_of_nobody(0)]);
    let runtime = runtime();
    let greeted: Vec<_> = (0..600)
        .map(|_| greeted(&runtime, &context, &hello))
        .collect();
    run_until(&runtime, || store.asked_for().len() >= 256);
    let own = runtime.block_on(async {
        let own = tokio::task::spawn_blocking(|| ());
        tokio::time::timeout(Duration::from_secs(10), own).await
    });
    let asked = store.asked_for().len();
    drop(greeted);
    // Before anything fails: the runtime waits for what it has begun.
    store.set(Mood::Prompt);
    assert!(own.is_ok(), "no thread");
    assert_eq!(asked, 256);
}
