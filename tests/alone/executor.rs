//! How long one client's hello holds the only thread of a tokio runtime, with lookups suspended.
#![cfg(feature = "tokio")]
#![allow(
    unsafe_code,
    missing_docs,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    unused,
    reason = "as it was tried from outside"
)]
#[path = "../common/mod.rs"]
mod common;
use common::*;
use openssl::ssl::{Ssl, SslVerifyMode};
use openssl_resumption::*;
use std::time::{Duration, Instant};
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
    let mut worst = vec![];
    for n in [1usize, 1713] {
        let met = meet(&context, &client, None);
        let t = ticket(met.next().unwrap()).to_vec();
        let hello = offering("P-256", (0..n).map(|_| t.clone()));
        let rt = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let gap = rt.block_on(async {
            let (mut near, far) = tokio::io::duplex(1 << 20);
            near.write_all(&hello).await.unwrap();
            let ssl = Ssl::new(&context).unwrap();
            let task = tokio::spawn(async move {
                let _ = tokio::time::timeout(Duration::from_secs(5), accept_async(ssl, far)).await;
            });
            let mut gap = Duration::ZERO;
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(2) {
                let t = Instant::now();
                tokio::time::sleep(Duration::from_millis(1)).await;
                gap = gap.max(t.elapsed());
            }
            task.abort();
            gap
        });
        println!("{n} copies of one ticket: the executor's thread stood still for {gap:?}");
        worst.push(gap);
    }
    assert!(
        worst[1] < worst[0] + Duration::from_millis(50),
        "one hello holds the executor"
    );
}
