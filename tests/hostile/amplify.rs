//! CPU of one ClientHello that offers the same own session many times, under a name it does not resume for.
use crate::common::*;
use openssl::ssl::{Ssl, SslContext, SslVerifyMode};
use openssl_resumption::*;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;

/// ms of CPU of the server's thread for these hellos
fn cost(context: &SslContext, hellos: &[Vec<u8>]) -> (f64, Vec<u8>) {
    let (mut near, far) = UnixStream::pair().unwrap();
    let ssl = Ssl::new(context).unwrap();
    let server = thread::spawn(move || {
        let before = worked();
        let _ = ssl.accept(far).is_err();
        (worked() - before).as_secs_f64() * 1e3
    });
    let mut answer = vec![0; 16384];
    let mut got = vec![];
    for hello in hellos {
        near.write_all(hello).unwrap();
        let n = near.read(&mut answer).unwrap();
        got = answer[..n.min(8)].to_vec();
    }
    near.shutdown(Shutdown::Write).unwrap();
    (server.join().unwrap(), got)
}
static WORST: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
fn judge(what: String, ms: f64) {
    if ms > 5.0 {
        WORST.lock().unwrap().push(format!("{what}: {ms:.1} ms"));
    }
}
fn median(mut v: Vec<f64>) -> f64 {
    v.sort_by(f64::total_cmp);
    v[v.len() / 2]
}

fn context_of(policy: &Resumption, ca: &Identity) -> SslContext {
    context_with(policy, |b| {
        b.cert_store_mut().add_cert(ca.cert.clone()).unwrap();
        b.set_verify(SslVerifyMode::PEER);
    })
}

#[test]
fn amplification() {
    let (ca, me) = ca_and_client();
    let plain = |cert: bool| {
        if cert {
            client_as(Kind::Tls13, &me)
        } else {
            Client::new(Kind::Tls13).unwrap()
        }
    };
    println!(
        "{:<52} {:>6} {:>9} {:>9}",
        "policy", "copies", "ms/hello", "answer"
    );
    for cert in [false, true] {
        let policies: Vec<(&str, Resumption)> = vec![
            ("stateless", Resumption::stateless(TicketKeys::random())),
            ("stateful", Resumption::stateful(MemoryStore::default())),
            (
                "stateful max_decoded(0)",
                Resumption::stateful(MemoryStore::default()).max_decoded(0),
            ),
            (
                "stateful single_use",
                Resumption::stateful(MemoryStore::default()).single_use(true),
            ),
            (
                "stateful single_use max_decoded(0)",
                Resumption::stateful(MemoryStore::default())
                    .single_use(true)
                    .max_decoded(0),
            ),
        ];
        for (name, policy) in policies {
            let context = context_of(&policy, &ca);
            let client = plain(cert).server_name("a.test");
            let base = median(
                (0..9)
                    .map(|_| cost(&context, &[offering("P-256", [])]).0)
                    .collect(),
            );
            for which in ["1", "max"] {
                let mut n = 0;
                let mut all = vec![];
                let mut ans = vec![];
                for _ in 0..7 {
                    let met = meet(&context, &client, None);
                    let t = ticket(met.next().unwrap()).to_vec();
                    n = if which == "1" {
                        1
                    } else {
                        (65_535 - 2 - 35 - 400) / (t.len() + 6)
                    };
                    let hello = offering("P-256", (0..n).map(|_| t.clone()));
                    let (ms, got) = cost(&context, &[hello]);
                    all.push(ms);
                    ans = got;
                }
                judge(format!("{name} cert={cert}"), median(all.clone()));
                println!(
                    "{:<52} {:>6} {:>9.3} {:02x?}  (base {:.3})",
                    format!("{name} cert={cert}"),
                    n,
                    median(all),
                    &ans[..6.min(ans.len())],
                    base
                );
            }
            let s = policy.stats();
            println!(
                "     store: hits {} misses {} decoded {} capped {}; tickets opened {}",
                s.store.hits, s.store.misses, s.store.decoded, s.store.capped, s.tickets.opened
            );
        }
    }
    let worst = WORST.lock().unwrap().clone();
    // what OpenSSL alone does with such a hello
    for cert in [false, true] {
        let mut b = acceptor();
        b.cert_store_mut().add_cert(ca.cert.clone()).unwrap();
        b.set_verify(SslVerifyMode::PEER);
        b.set_session_id_context(b"x").unwrap();
        let context = b.build().into_context();
        let client = plain(cert).server_name("a.test");
        let mut all = vec![];
        let mut n = 0;
        let mut ans = vec![];
        for _ in 0..7 {
            let met = meet(&context, &client, None);
            let t = ticket(met.next().unwrap()).to_vec();
            n = (65_535 - 2 - 35 - 400) / (t.len() + 6);
            let (ms, got) = cost(&context, &[offering("P-256", (0..n).map(|_| t.clone()))]);
            all.push(ms);
            ans = got;
        }
        println!(
            "{:<52} {:>6} {:>9.3} {:02x?}",
            format!("OpenSSL alone, tickets cert={cert}"),
            n,
            median(all),
            &ans[..6.min(ans.len())]
        );
    }
    assert!(
        worst.is_empty(),
        "one hello takes more than 5 ms: {worst:#?}"
    );
}

#[test]
fn with_hello_retry_request_twice() {
    let (ca, me) = ca_and_client();
    for (name, policy) in [
        ("stateless", Resumption::stateless(TicketKeys::random())),
        (
            "stateful max_decoded(0)",
            Resumption::stateful(MemoryStore::default()).max_decoded(0),
        ),
    ] {
        let context = context_with(&policy, |b| {
            b.cert_store_mut().add_cert(ca.cert.clone()).unwrap();
            b.set_verify(SslVerifyMode::PEER);
            b.set_groups_list("P-384").unwrap();
        });
        let client = Client::with(Kind::Tls13, |c| {
            c.set_certificate(&me.cert)?;
            c.set_private_key(&me.key)?;
            c.set_groups_list("P-256:P-384")
        })
        .unwrap()
        .server_name("a.test");
        let met = meet(&context, &client, None);
        let t = ticket(met.next().unwrap()).to_vec();
        let n = (65_535 - 2 - 35 - 400) / (t.len() + 6);
        let hellos = ["P-256:P-384", "P-384"].map(|g| offering(g, (0..n).map(|_| t.clone())));
        // P-384 alone takes up to 5 ms on a busy machine.
        let once = ["P-256:P-384", "P-384"].map(|g| offering(g, [t.clone()]));
        let alone = median((0..5).map(|_| cost(&context, &once).0).collect());
        let ms = median((0..5).map(|_| cost(&context, &hellos).0).collect()) - alone;
        let (_, got) = cost(&context, &hellos);
        judge(format!("HRR {name}"), ms);
        println!("HRR {name}: {n} copies twice: {ms:.1} ms, answer {got:02x?}");
    }
    let worst: Vec<_> = WORST
        .lock()
        .unwrap()
        .iter()
        .filter(|w| w.starts_with("HRR"))
        .cloned()
        .collect();
    assert!(worst.is_empty(), "{worst:?}");
}

/// A large client certificate, after some client was forgotten: it is hashed once, and not for each copy.
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
            thread::sleep(std::time::Duration::from_millis(10));
            policy.forget_client((*d).try_into().unwrap());
        }
        let copies = if listing { 1713 } else { 1 };
        let hello = offering("P-256", (0..copies).map(|_| t.clone()));
        let mut v: Vec<_> = (0..7)
            .map(|_| cost(&ctx, std::slice::from_ref(&hello)))
            .collect();
        v.sort_by(|a, b| a.0.total_cmp(&b.0));
        worst = f64::max(worst, v[3].0);
        println!(
            "forgotten client: {listing}, {copies} copies: {:.1} ms of CPU, answer {:02x?}",
            v[3].0, v[3].1
        );
    }
    assert!(worst < 5.0, "{worst} ms");
}
