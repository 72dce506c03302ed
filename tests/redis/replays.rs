//! Hosts with a register in one Redis: of each flight of early data one host accepts it.

use std::cell::RefCell;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use crate::common::programs::eventually;
use crate::common::*;
use crate::register::register;
use crate::server::Redis;
use openssl::ssl::SslContext;
use openssl_resumption::{
    EarlyData, HelloId, RedisStore, ReplayRegister, Resumption, Session, SessionKey, SessionStore,
    StoreError, TicketKeys,
};

const HELLOS: &str = "openssl-resumption:hello:seen";

/// Two hosts that open one another's tickets, each with a register of its own in this Redis.
fn hosts(redis: &Redis) -> ([Resumption; 2], [SslContext; 2]) {
    let policies = [(); 2].map(|()| {
        let keys = TicketKeys::derived("fleet", [crate::SECRET]);
        let register = Arc::new(register(&redis.url()));
        // No flight is to be the one that connects, for which a busy machine may take too long.
        eventually("it is connected", || {
            let other = HelloId::from([0; 32]);
            register.register(&other, Duration::from_secs(60)).is_ok()
        });
        Resumption::stateless(keys)
            .early_data(16 * 1024)
            .replay_register(register)
    });
    let contexts = policies.each_ref().map(context);
    (policies, contexts)
}

/// As a Redis that has not lost anything for long.
fn age(redis: &Redis, key: &str) {
    let info: String = redis.ask("INFO replication");
    let history = info
        .lines()
        .find_map(|line| line.strip_prefix("master_replid:"));
    let history = history.expect("a replication history").trim();
    let _: redis::Value = redis.ask(&format!("ZADD {key} -1 {history}"));
}

#[test]
fn of_two_hosts_that_get_one_flight_one_accepts_it() {
    // 1,000 races, or as this variable says.
    let races = std::env::var("OPENSSL_RESUMPTION_RACES");
    let races = races.map_or(1_000, |races| races.parse().unwrap());
    let redis = Redis::start("replays");
    let (policies, hosts) = hosts(&redis);
    let client = Client::new(Kind::Tls13).unwrap();
    let session = meet(&hosts[0], &client, None).next().unwrap().to_vec();
    for host in &hosts {
        assert_eq!(replay(host, &flight(&client, &session, b"too soon")), b"");
    }
    age(&redis, HELLOS);
    let (start, mut won) = (Barrier::new(2), [0; 2]);
    for race in 0..races {
        let flight = flight(&client, &session, b"buy one");
        let accepted = thread::scope(|scope| {
            let ran = hosts.each_ref().map(|host| {
                let (start, flight) = (&start, &flight);
                scope.spawn(move || {
                    start.wait();
                    !replay(host, flight).is_empty()
                })
            });
            ran.map(|ran| ran.join().unwrap())
        });
        assert_eq!(
            accepted.iter().filter(|accepted| **accepted).count(),
            1,
            "{race}"
        );
        won.iter_mut()
            .zip(accepted)
            .for_each(|(won, accepted)| *won += u32::from(accepted));
    }
    println!("{races} races, won by {won:?}");
    let count = |what| {
        policies
            .iter()
            .map(|policy| policy.stats().early_data(what))
            .sum::<u64>()
    };
    assert_eq!(count(EarlyData::WarmingUp), 2);
    assert_eq!(count(EarlyData::Replayed), races);
}

#[test]
fn what_redis_has_lost_is_not_accepted_again() {
    let mut redis = Redis::start("replays-lost");
    let (policies, hosts) = hosts(&redis);
    let client = Client::new(Kind::Tls13).unwrap();
    let session = meet(&hosts[0], &client, None).next().unwrap().to_vec();
    // To make the connections of both hosts.
    for host in &hosts {
        replay(host, &flight(&client, &session, b"first"));
    }
    for restarts in [false, true] {
        age(&redis, HELLOS);
        let flight = flight(&client, &session, b"buy one");
        assert_eq!(replay(&hosts[0], &flight), b"buy one");
        if restarts {
            redis.kill();
            redis.run();
        } else {
            let _: redis::Value = redis.ask("FLUSHALL");
        }
        for host in [&hosts[1], &hosts[0]] {
            assert_eq!(replay(host, &flight), b"", "{restarts}");
        }
    }
    redis.kill();
    let flight = flight(&client, &session, b"buy one");
    for host in &hosts {
        assert_eq!(replay(host, &flight), b"", "Redis is away");
    }
    let failed = policies
        .iter()
        .map(|policy| policy.stats().early_data(EarlyData::RegisterFailed));
    assert!(failed.sum::<u64>() >= 2);
    assert!(policies[0].last_register_error().is_some());
}

/// A store that takes from Redis, and does not say when Redis may have lost what was taken.
struct Unsaid(RedisStore);

impl SessionStore for Unsaid {
    fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
        self.0.put(key, session)
    }
    fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        self.0.get(key)
    }
    fn remove(&self, key: &SessionKey) -> Result<(), StoreError> {
        self.0.remove(key)
    }
    fn take(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        self.0.take(key)
    }
    fn takes_once(&self) -> bool {
        true
    }
}

/// A session that was taken is there again when Redis comes back from a snapshot of before. It resumes, without early
/// data.
#[test]
fn a_session_that_redis_has_again_does_not_bring_its_early_data_back() {
    let store = |redis: &Redis| {
        let options = RedisStore::connect(&redis.url()).unwrap();
        options.deadline(Duration::from_secs(5))
    };
    for said in [false, true] {
        let mut redis = Redis::start("replays-taken");
        let policy = match said {
            true => Resumption::stateful(store(&redis).for_servers([crate::SECRET]).unwrap()),
            false => Resumption::stateful(Unsaid(store(&redis).plaintext())),
        };
        let policy = policy.single_use(true).early_data(16 * 1024);
        let context = context(&policy);
        let client = Client::new(Kind::Tls13).unwrap();
        let session = meet(&context, &client, None).next().unwrap().to_vec();
        eventually("it is stored", || redis.session_keys().len() == 1);
        age(&redis, "openssl-resumption:session:taken");
        let _: redis::Value = redis.ask("SAVE");
        let flight = flight(&client, &session, b"buy one");
        assert_eq!(replay(&context, &flight), b"buy one");
        assert_eq!(replay(&context, &flight), b"");
        redis.kill();
        redis.run();
        // Until there are connections again nothing is found.
        let again = RefCell::new(Vec::new());
        let stats = || policy.stats();
        eventually("it is taken again", || {
            let hits = stats().store.hits;
            again.replace(replay(&context, &flight));
            stats().store.hits > hits
        });
        let expected: &[u8] = if said { b"" } else { b"buy one" };
        assert_eq!(*again.borrow(), expected, "{said}");
        assert_eq!(
            stats().early_data(EarlyData::WarmingUp),
            u64::from(said),
            "{:?}",
            stats()
        );
    }
}
