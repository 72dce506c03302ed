//! Hosts with a register in one Redis: of each flight of early data one host accepts it.

use std::sync::Barrier;
use std::thread;

use crate::common::*;
use crate::register::register;
use crate::server::Redis;
use openssl::ssl::SslContext;
use openssl_resumption::{EarlyData, Resumption, TicketKeys};

/// Two hosts that open one another's tickets, each with a register of its own in this Redis.
fn hosts(redis: &Redis) -> ([Resumption; 2], [SslContext; 2]) {
    let policies = [(); 2].map(|()| {
        let keys = TicketKeys::derived("fleet", [crate::SECRET]);
        Resumption::stateless(keys)
            .early_data(16 * 1024)
            .replay_register(register(&redis.url()))
    });
    let contexts = policies.each_ref().map(context);
    (policies, contexts)
}

/// As a Redis whose register has been kept for long.
fn age(redis: &Redis) {
    let info: String = redis.ask("INFO replication");
    let history = info
        .lines()
        .find_map(|line| line.strip_prefix("master_replid:"));
    let history = history.expect("a replication history").trim();
    let _: redis::Value = redis.ask(&format!("ZADD openssl-resumption:hello:seen -1 {history}"));
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
    age(&redis);
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
        age(&redis);
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
