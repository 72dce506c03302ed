//! A Redis that is full has room for clients, not for resumptions.

use std::time::Duration;

use openssl_resumption::{MemoryStore, RedisStore, Resumption, SessionStore, Tiered};

use crate::SECRET;
use crate::common::programs::eventually;
use crate::common::{Client, Kind, context, meet};
use crate::server::Redis;

/// How long a session may still live, in milliseconds, for each key.
fn lives(redis: &Redis) -> Vec<u64> {
    let mut lives: Vec<u64> = redis
        .session_keys()
        .iter()
        .map(|key| redis.ask(&format!("PTTL {key}")))
        .collect();
    lives.sort_unstable();
    lives
}

#[test]
fn a_session_that_has_a_successor_lives_for_another_minute() {
    let redis = Redis::start("successor");
    let options = || {
        let options = RedisStore::connect(&redis.url()).unwrap();
        options.deadline(Duration::from_secs(10))
    };
    let day = Resumption::DEFAULT_LIFETIME.as_millis() as u64;
    let tiered = Tiered::new(MemoryStore::default(), options().sealed([SECRET]).unwrap());
    for (lifetime, store) in [
        (
            day,
            Box::new(options().plaintext()) as Box<dyn SessionStore>,
        ),
        (day, Box::new(options().for_servers([SECRET]).unwrap())),
        (day, Box::new(tiered)),
        // What ends sooner does not live longer.
        (50_000, Box::new(options().plaintext())),
    ] {
        redis.ask::<()>("FLUSHALL");
        let policy = Resumption::stateful(store).lifetime(Duration::from_millis(lifetime));
        let context = context(&policy);
        let client = Client::new(Kind::Tls13).unwrap();
        let first = meet(&context, &client, None);
        let until = |keys| {
            let queued = || policy.stats().store.usage.map_or(0, |usage| usage.queued);
            eventually("all is written", || {
                redis.session_keys().len() == keys && queued() == 0
            });
        };
        until(1);
        assert!(lives(&redis)[0] > lifetime.min(day) - 40_000);
        let second = meet(&context, &client, first.next());
        until(2);
        let [used, successor] = lives(&redis)[..] else {
            panic!()
        };
        assert!(used <= 60_000.min(lifetime), "{used}");
        assert!(successor > lifetime - 40_000, "{successor}");
        for session in [first.next(), second.next()] {
            assert!(meet(&context, &client, session).server_reused);
        }
        // A TLS 1.2 session has no successor.
        let client = Client::new(Kind::Tls12).unwrap();
        let first = meet(&context, &client, None);
        let before = lives(&redis);
        assert!(meet(&context, &client, first.next()).server_reused);
        let after = lives(&redis);
        let sum = |lives: Vec<u64>| lives.iter().sum::<u64>();
        assert!(sum(after) + 40_000 > sum(before));
    }
}

/// It refuses the successor, and would cut the life of what its client goes on to use.
#[test]
fn a_redis_that_takes_nothing_more_leaves_its_clients_what_they_have() {
    let redis = Redis::start("full");
    let store = RedisStore::connect(&redis.url()).unwrap();
    let store = store.deadline(Duration::from_secs(10)).plaintext();
    let policy = Resumption::stateful(store);
    let context = context(&policy);
    let client = Client::new(Kind::Tls13).unwrap();
    let first = meet(&context, &client, None);
    redis.ask::<()>("CONFIG SET maxmemory 1");
    assert!(meet(&context, &client, first.next()).server_reused);
    assert!(policy.last_store_error().unwrap().contains("OOM"));
    assert!(lives(&redis)[0] > 80_000_000, "{:?}", lives(&redis));
}

/// Room for about 4,300 sessions. Those that have no successor yet go last under this policy; under others
/// a minute has to pass first.
#[test]
fn two_thousand_clients_that_come_in_turn_all_resume() {
    let redis = Redis::start_with(
        "room",
        &[
            "--maxmemory",
            "2600kb",
            "--maxmemory-policy",
            "volatile-ttl",
        ],
    );
    let store = RedisStore::connect(&redis.url()).unwrap();
    let store = store.deadline(Duration::from_secs(10)).plaintext();
    let context = context(&Resumption::stateful(store));
    let client = Client::new(Kind::Tls13).unwrap();
    let visit = |session: Option<&[u8]>| {
        let met = meet(&context, &client, session);
        (met.server_reused, met.next().unwrap().to_vec())
    };
    let mut sessions: Vec<_> = (0..2_000).map(|_| visit(None).1).collect();
    for round in 0..3 {
        let mut resumed = 0;
        for session in &mut sessions {
            let (reused, next) = visit(Some(session));
            resumed += usize::from(reused);
            *session = next;
        }
        let keys = redis.session_keys().len();
        assert!(
            resumed >= 1_980,
            "{resumed} of 2,000 in round {round}, {keys} keys"
        );
    }
    assert!(
        redis.session_keys().len() < 5_000,
        "there is no room for all"
    );
}
