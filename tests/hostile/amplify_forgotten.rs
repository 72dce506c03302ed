//! As amplify.rs, default stateful mode, a large client certificate, after some client was forgotten: the certificate is hashed for each copy.
#![allow(
    unsafe_code,
    missing_docs,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    unused,
    reason = "as it was tried from outside"
)]
use crate::common::*;
use openssl::ssl::{Ssl, SslContext, SslVerifyMode};
use openssl_resumption::*;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
fn cpu() -> f64 {
    let mut t = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    t.tv_sec as f64 * 1e3 + t.tv_nsec as f64 / 1e6
}
fn cost(ctx: &SslContext, hello: &[u8]) -> (f64, Vec<u8>) {
    let (mut near, far) = UnixStream::pair().unwrap();
    let ssl = Ssl::new(ctx).unwrap();
    let t = std::thread::spawn(move || {
        let a = cpu();
        let _ = ssl.accept(far).is_err();
        cpu() - a
    });
    near.write_all(hello).unwrap();
    let mut b = [0; 9000];
    let n = near.read(&mut b).unwrap_or(0);
    drop(near);
    (t.join().unwrap(), b[..n.min(6)].to_vec())
}
#[test]
fn hashed_each_time() {
    let ca = mint("clients", None).unwrap();
    let me = mint_with_padding("me", &ca, 15_000);
    let mut worst = 0.0;
    for listing in [false, true] {
        let policy = Resumption::stateful(MemoryStore::default());
        let ctx = context_with(&policy, |b| {
            b.cert_store_mut().add_cert(ca.cert.clone()).unwrap();
            b.set_verify(SslVerifyMode::PEER);
        });
        let client = client_as(Kind::Tls13, &me); // no name: as the raw hello
        let met = meet(&ctx, &client, None);
        let t = ticket(met.next().unwrap()).to_vec();
        if listing {
            let d = me
                .cert
                .digest(openssl::hash::MessageDigest::sha256())
                .unwrap();
            std::thread::sleep(std::time::Duration::from_millis(10));
            policy.forget_client((*d).try_into().unwrap());
        }
        let copies = if listing { 1713 } else { 1 };
        let hello = offering("P-256", (0..copies).map(|_| t.clone()));
        let mut v: Vec<_> = (0..7).map(|_| cost(&ctx, &hello)).collect();
        v.sort_by(|a, b| a.0.total_cmp(&b.0));
        worst = f64::max(worst, v[3].0);
        println!(
            "forgotten client: {listing}, {copies} copies: {:.1} ms of CPU, answer {:02x?}",
            v[3].0, v[3].1
        );
    }
    assert!(worst < 5.0, "{worst} ms");
}
