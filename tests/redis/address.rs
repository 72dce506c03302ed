//! Addresses: TLS, users, passwords and databases; and who gets to see them.

use std::thread;
use std::time::{Duration, Instant, SystemTime};

use openssl_resumption::{
    KeySource, RedisKeys, RedisOptions, RedisStore, Resumption, SessionKey, SessionStore,
};

use crate::SECRET;
use crate::common::process::{Scratch, Server};
use crate::common::programs::eventually;
use crate::common::{Client, Kind, context, meet, mint};
use crate::load::{KINDS, on_time, visit};
use crate::proxy::{FORWARDS, Proxy, SWALLOWS};
use crate::server::{Redis, free_port};

/// All that the library needs.
const ACL: &str = "~openssl-resumption:* +set +get +getdel +pexpire +unlink +mget +ping +select";

const PASSWORD: &str = "p%40ss%2Fword";

/// A Redis with TLS: it, the port, and the file of the CA that signed its certificate. Clients need one of that CA too, if
/// these are to.
fn with_tls(name: &str, scratch: &Scratch, clients: bool) -> (Redis, u16, String) {
    let ca = mint("a CA", None).unwrap();
    let of_redis = mint("redis.example", Some(&ca)).unwrap();
    // As many as a system has: to read them takes longer than there is time to connect.
    let others = (0..150).map(|n| mint(&format!("CA {n}"), None).unwrap());
    let all = others.chain([ca]).flat_map(|ca| ca.cert.to_pem().unwrap());
    let ca = scratch.write("ca.pem", &all.collect::<Vec<_>>());
    let cert = scratch.write("cert.pem", &of_redis.cert.to_pem().unwrap());
    let key = of_redis.key.private_key_to_pem_pkcs8().unwrap();
    let key = scratch.write("key.pem", &key);
    let port = free_port();
    let redis = Redis::start_with(
        name,
        &[
            ["--tls-port", &port.to_string()],
            ["--tls-cert-file", &cert],
            ["--tls-key-file", &key],
            ["--tls-ca-cert-file", &ca],
            ["--tls-auth-clients", if clients { "yes" } else { "no" }],
        ]
        .concat(),
    );
    (redis, port, ca)
}

#[test]
fn tls_with_a_user_a_password_and_a_database() {
    on_time(|| {
        let scratch = Scratch::new("redis-tls-files");
        let (redis, port, ca) = with_tls("tls", &scratch, false);
        // What the README recommends.
        let () = redis.ask(&format!("ACL SETUSER app on >p@ss/word {ACL}"));

        let url = format!("rediss://app:{PASSWORD}@localhost:{port}/3");
        let secret = scratch.write("secret", &SECRET);
        let args = ["--mode", "hybrid", "--redis-keys", "--redis", &url];
        let args = [&args[..], &["--redis-secret", &secret]].concat();
        let trusting = [0, 1].map(|_| {
            Server::start_with(&args, |command| {
                command.env("SSL_CERT_FILE", &ca);
            })
        });
        let connected = || {
            redis
                .ask::<String>("CLIENT LIST")
                .matches("user=app")
                .count()
        };
        // To have each connect, two times for sessions.
        for server in &trusting {
            let client = Client::new(Kind::Tls12WithoutTickets).unwrap();
            visit(server.address, &client, None).unwrap();
        }
        eventually("all are connected", || connected() >= 4);
        for kind in KINDS.into_iter().chain([Kind::Tls12WithoutTickets]) {
            let client = Client::new(kind).unwrap();
            let sets = redis.calls("set");
            let first = visit(trusting[0].address, &client, None).unwrap();
            assert!(first.page["key_warning"].is_null(), "{}", first.page);
            if kind == Kind::Tls12WithoutTickets {
                eventually("its session is written", || redis.calls("set") > sets);
            }
            let second = visit(trusting[1].address, &client, first.session.as_deref());
            let page = second.unwrap().page;
            assert_eq!(page["resumed"], true, "{kind:?}: {page}");
        }
        let databases: String = redis.ask("INFO keyspace");
        println!("{databases}");
        assert!(databases.contains("db3:") && !databases.contains("db0:"));

        // Who signed the certificate is not known to this one.
        let wary = Server::start(&args);
        let client = Client::new(Kind::Tls13).unwrap();
        let page = visit(wary.address, &client, None).unwrap().page;
        println!("{}", page["key_warning"]);
        let warning = page["key_warning"].as_str().unwrap();
        assert!(warning.contains("certificate"), "{warning}");
        assert!(!warning.contains("ss/word") && !warning.contains(PASSWORD));
    });
}

/// No environment tells where the CA is, and Redis wants a certificate.
#[test]
fn tls_with_a_ca_and_a_certificate_of_ones_own() {
    let scratch = Scratch::new("redis-own-tls-files");
    let (_redis, port, ca) = with_tls("own-tls", &scratch, true);
    let options = RedisStore::connect(&format!("rediss://localhost:{port}")).unwrap();
    let deadline = Duration::from_secs(5);
    let options = options.deadline(deadline).connect_deadline(deadline);
    let key = SessionKey::from([1; 32]);
    let fails = |options: RedisOptions, because: &str| {
        let store = options.plaintext();
        store.get(&key).unwrap_err();
        let said = store.last_error().unwrap();
        assert!(said.contains(because), "{because}: {said}");
    };
    let of_file = |name: &str| scratch.0.join(name);
    fails(options.clone(), "certificate verify failed");
    fails(options.clone().ca_file(of_file("no.pem")), "no.pem");
    // In TLS 1.3 a client learns that only with the first answer.
    fails(options.clone().ca_file(&ca), "cannot connect");
    let options = options.ca_file(&ca);
    let wrong = options.clone().client_certificate(of_file("cert.pem"), &ca);
    fails(wrong, "the key in");
    let right = options.client_certificate(of_file("cert.pem"), of_file("key.pem"));
    assert!(right.plaintext().get(&key).unwrap().is_none());
}

/// The password, and the secret in any of the ways in which bytes are shown.
#[track_caller]
fn assert_discreet(text: &str) {
    println!("{text}");
    for secret in ["hunter2", "5e5e", "94, 94", "^^^^", "app"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[test]
fn neither_errors_nor_debug_show_user_password_or_secret() {
    let redis = Redis::start("discreet");
    let url = format!("redis://app:hunter2@127.0.0.1:{}/2", redis.port);
    let options = || RedisStore::connect(&url).unwrap();
    assert_discreet(&format!("{:?}", options()));
    assert_discreet(&format!("{:?}", options().plaintext()));
    assert_discreet(&format!("{:?}", options().sealed([SECRET]).unwrap()));
    assert_discreet(&format!("{:?}", options().for_servers([SECRET]).unwrap()));
    let keys = RedisKeys::connect(&url, [SECRET]).unwrap();
    assert_discreet(&format!("{keys:?}"));

    // The user is unknown to Redis. What it says is in the errors.
    let alone = keys.load(SystemTime::now()).unwrap();
    assert_discreet(&format!("{alone:?}"));
    let store = options().plaintext();
    let policy = Resumption::stateful(store);
    meet(&context(&policy), &Client::new(Kind::Tls13).unwrap(), None);
    assert_discreet(&format!("{policy:?}"));

    for wrong in [
        "http://app:hunter2@127.0.0.1",
        "redis://app:hunter2@127.0.0.1:99999",
        "redis://app:hunter2@127.0.0.1/database",
        "redis://app:hunter2@",
        "redis://app:hunter2@[::1",
        "app:hunter2@127.0.0.1",
        "redis://app:hunter2%zz%ff@127.0.0.1/0",
    ] {
        if let Err(error) = RedisStore::connect(wrong) {
            assert_discreet(&format!("{error} {error:?}"));
        }
        if let Err(error) = RedisKeys::connect(wrong, [SECRET]) {
            assert_discreet(&format!("{error} {error:?}"));
        }
    }
    let short = RedisStore::connect(&url).unwrap().sealed([[0x5e; 31]]);
    assert_discreet(&short.unwrap_err().to_string());
}

/// As a proxy does whose Redis hangs: TLS handshakes with it never end by themselves.
#[test]
fn connections_by_tls_that_hang_do_not_keep_others_from_being_made() {
    let scratch = Scratch::new("redis-hang-files");
    let (_redis, port, ca) = with_tls("hang", &scratch, false);
    let proxy = Proxy::start(port, SWALLOWS);
    let url = format!("rediss://localhost:{}", proxy.port);
    let secret = scratch.write("secret", &SECRET);
    let args = ["--redis", &url, "--redis-secret", &secret];
    let server = Server::start_with(&args, |command| {
        command.env("SSL_CERT_FILE", &ca);
    });
    let client = Client::new(Kind::Tls12).unwrap();
    let mut session = None;
    let mut come = || {
        let visit = visit(server.address, &client, session.as_deref()).unwrap();
        session = visit.session;
        thread::sleep(Duration::from_millis(20));
        visit.page["resumed"] == true
    };
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        come();
    }
    proxy.set(FORWARDS);
    let begun = Instant::now();
    let mut in_a_row = 0;
    // A busy machine misses a deadline of 50 ms now and then; what hangs does for ever.
    while in_a_row < 20 {
        assert!(begun.elapsed() < Duration::from_secs(60), "not back");
        in_a_row = if come() { in_a_row + 1 } else { 0 };
    }
}
