//! How much work one client's hello makes for the only thread of a tokio runtime, with lookups suspended.
#![cfg(feature = "tokio")]
#[path = "../common/mod.rs"]
mod common;
use common::*;
use openssl::ssl::{Ssl, SslVerifyMode};
use openssl_resumption::*;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
#[test]
fn executor() {
    let (ca, me) = ca_and_client();
    let policy = Resumption::stateful(MemoryStore::default())
        .single_use(true)
        .suspend_lookups(true);
    let context = context_with(&policy, |b| {
        b.cert_store_mut().add_cert(ca.cert.clone()).unwrap();
        b.set_verify(SslVerifyMode::PEER);
    });
    let client = client_as(Kind::Tls13, &me).server_name("a.test");
    let mut costs = vec![];
    for n in [1usize, 1713] {
        let met = meet(&context, &client, None);
        let t = ticket(met.next().unwrap()).to_vec();
        let hello = offering("P-256", (0..n).map(|_| t.clone()));
        let rt = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let cost = rt.block_on(async {
            let (mut near, far) = tokio::io::duplex(1 << 20);
            near.write_all(&hello).await.unwrap();
            let ssl = Ssl::new(&context).unwrap();
            let before = worked();
            // What of the thread's time the hello takes; how long that lasts depends on who else is there.
            let accept = accept_async(ssl, far);
            let _ = tokio::time::timeout(Duration::from_secs(2), accept).await;
            worked() - before
        });
        println!("{n} copies of one ticket: the executor's thread worked for {cost:?}");
        costs.push(cost);
    }
    assert!(
        costs[1] < costs[0] + Duration::from_millis(50),
        "one hello holds the executor"
    );
}
