//! What an operator gets to know of a Redis that does not do what it should.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use openssl_resumption::{
    CircuitBreaker, KeySource, RedisKeys, RedisStore, Resumption, Session, SessionKey, SessionStore,
};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::SECRET;
use crate::common::process::Scratch;
use crate::common::{Client, Kind, context, meet};
use crate::server::{Redis, free_port};

/// What the policy says of its store, once it says something with this in it; a handshake at a time.
#[track_caller]
fn assert_says(policy: &Resumption, expected: &str) {
    let context = context(policy);
    let client = Client::new(Kind::Tls13).unwrap();
    let begun = Instant::now();
    loop {
        meet(&context, &client, None);
        let said = policy.last_store_error();
        if said.as_ref().is_some_and(|text| text.contains(expected)) {
            println!("{}", said.unwrap());
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{expected}: {said:?}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

fn fleet(url: &str) -> Resumption {
    let store = RedisStore::connect(url).unwrap().for_servers([SECRET]);
    Resumption::stateful(store.unwrap())
}

#[test]
fn the_policy_says_why_it_cannot_connect() {
    let nobody = fleet(&format!("redis://127.0.0.1:{}", free_port()));
    assert_says(&nobody, "refused");

    let redis = Redis::start_with("locked", &["--requirepass", "right"]);
    assert_says(&fleet(&redis.url()), "NOAUTH");
    let wrong = format!("redis://:wrong@127.0.0.1:{}", redis.port);
    assert_says(&fleet(&wrong), "WRONGPASS");
}

/// No handshake waits for that write, or sees its error.
#[test]
fn the_policy_says_why_a_write_failed() {
    let redis = Redis::start("errors-full");
    let policy = fleet(&redis.url());
    let () = redis.ask("CONFIG SET maxmemory 1");
    assert_says(&policy, "OOM");
    assert!(policy.stats().store.usage.unwrap().lost > 0);
}

#[test]
fn the_policy_says_that_a_session_does_not_open() {
    let redis = Redis::start("errors-secret");
    let [store, others] = [SECRET, [0xe3; 32]].map(|secret| {
        let store = RedisStore::connect(&redis.url()).unwrap();
        Arc::new(store.for_servers([secret]).unwrap())
    });
    let others = Resumption::stateful(others);
    let client = Client::new(Kind::Tls13).unwrap();
    let begun = Instant::now();
    let ours = context(&Resumption::stateful(Arc::clone(&store)));
    let others = (context(&others), others);
    loop {
        let session = meet(&ours, &client, None);
        assert_eq!(store.flush(Duration::from_secs(10)), 0);
        assert!(!meet(&others.0, &client, session.next()).client.resumed);
        if let Some(said) = others.1.last_store_error() {
            assert!(said.contains("another secret"), "{said}");
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "or the machine is too busy"
        );
    }
}

/// Who can write to Redis fills no memory but that of Redis.
#[test]
fn an_answer_of_any_size_is_not_read() {
    let redis = Redis::start("errors-large");
    let store = RedisStore::connect(&redis.url()).unwrap();
    let store = store.deadline(Duration::from_secs(5)).plaintext();
    let (small, large) = (SessionKey::from([1; 32]), SessionKey::from([2; 32]));
    for (key, size) in [(small, 1 << 10), (large, 2 << 20)] {
        let expiry = SystemTime::now() + Duration::from_secs(600);
        let expiry = expiry.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let bytes = [&[1][..], &expiry.to_be_bytes(), &vec![7; size]].concat();
        store
            .put(&key, Session::from_bytes(&bytes).unwrap())
            .unwrap();
    }
    for _ in 0..3 {
        let error = store.get(&large).unwrap_err();
        println!("{error}");
        assert!(store.last_error().is_some());
        assert!(
            store.get(&small).unwrap().is_some(),
            "on another connection"
        );
    }
}

/// Redis quotes what it does not understand, the password too.
#[test]
fn no_error_shows_the_password() {
    let redis = Redis::start_with("no-auth", &["--rename-command", "AUTH", ""]);
    let url = format!("redis://app:hunter2@127.0.0.1:{}", redis.port);
    let policy = fleet(&url);
    assert_says(&policy, "AUTH was refused");
    let keys = RedisKeys::connect(&url, [SECRET]).unwrap();
    let alone = format!("{:?}", keys.load(SystemTime::now()).unwrap());
    assert!(alone.contains("AUTH was refused"), "{alone}");
    for text in [alone, policy.last_store_error().unwrap()] {
        assert!(!text.contains("hunter2") && !text.contains("app"), "{text}");
    }
}

#[test]
fn what_is_no_session_is_no_failure_of_redis() {
    let redis = Redis::start("errors-foreign");
    let store = RedisStore::connect(&redis.url()).unwrap().prefix("p:");
    let store = CircuitBreaker::new(store.plaintext()).deadline(Duration::MAX);
    let key = SessionKey::from([0xab; 32]);
    let () = redis.ask(&format!("SET p:{} garbage", "ab".repeat(32)));
    for _ in 0..10 {
        assert!(store.get(&key).unwrap().is_none());
    }
    assert_eq!(store.usage().unwrap().refused, 0);
    let said = store.last_error().unwrap();
    println!("{said}");
    assert!(said.contains("session"), "{said}");
}

/// As when it was restarted: the next lookups are not those that find out.
#[test]
fn connections_that_redis_has_closed_are_not_used() {
    let redis = Redis::start("errors-closed");
    let store = RedisStore::connect(&redis.url()).unwrap();
    let store = store.deadline(Duration::from_secs(5)).plaintext();
    let begun = Instant::now();
    for n in 0..4 {
        store.get(&SessionKey::from([n; 32])).unwrap();
    }
    let last = || -> u64 {
        let clients: String = redis.ask("CLIENT LIST");
        let ids = clients
            .lines()
            .filter_map(|line| line.split([' ', '=']).nth(1)?.parse().ok());
        ids.max().unwrap()
    };
    let before = last();
    let killed: u32 = redis.ask("CLIENT KILL TYPE normal");
    assert!(killed >= 2);
    // Those of the store, and that which asks.
    while last() < before + 3 {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "or the machine is too busy"
        );
        thread::sleep(Duration::from_millis(20));
    }
    for n in 0..40 {
        store.get(&SessionKey::from([n; 32])).unwrap();
    }
}

/// It has accepted nobody for so long that its queue is full.
#[test]
fn connecting_to_a_path_ends_in_time() {
    let scratch = Scratch::new("redis-unix");
    let path = scratch.0.join("socket");
    let address = SockAddr::unix(&path).unwrap();
    let socket = || Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    let listener = socket();
    listener.bind(&address).unwrap();
    listener.listen(0).unwrap();
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let client = socket();
            client.set_nonblocking(true).unwrap();
            let _ = client.connect(&address);
            client
        })
        .collect();
    let keys = RedisKeys::connect(&format!("unix://{}", path.display()), [SECRET]).unwrap();
    let begun = Instant::now();
    let alone = format!("{:?}", keys.load(SystemTime::now()).unwrap());
    assert!(alone.contains("of this host alone"), "{alone}");
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "or the machine is too busy"
    );
    drop(waiting);
}
