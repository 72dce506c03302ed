//! The room that a register takes in Redis, and clocks of Redis that jump.

use std::thread;
use std::time::{Duration, Instant};

use crate::register::register;
use crate::server::Redis;
use openssl_resumption::{HelloId, RedisRegister, Registered, ReplayRegister};

const KEY: &str = "openssl-resumption:hello:seen";

fn ask(register: &RedisRegister, n: u64, lives: Duration) -> Registered {
    let begun = Instant::now();
    let id: [u8; 32] = [n.to_be_bytes(); 4].concat().try_into().unwrap();
    loop {
        match register.register(&HelloId::from(id), lives) {
            Ok(answer) => return answer,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(60), "{error}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until the register is kept for as long as hellos are remembered here.
fn warm_up(register: &RedisRegister, lives: Duration) -> u64 {
    let mut n = 1;
    while ask(register, n, lives) != Registered::First {
        thread::sleep(Duration::from_millis(20));
        n += 1;
    }
    n
}

/// A flood of hellos has filled a Redis that evicts nothing of it. When they have ended there is room again, for sessions too.
#[test]
fn a_redis_that_the_register_filled_has_room_again() {
    for policy in ["noeviction", "volatile-lru", "volatile-ttl"] {
        let redis = Redis::start(&format!("register-{policy}"));
        let register = register(&redis.url());
        let lives = Duration::from_millis(300);
        let first = warm_up(&register, lives);
        let _: redis::Value = redis.ask(&format!("CONFIG SET maxmemory-policy {policy}"));
        // So many that it takes a minute to ask for each.
        let script = "local t = redis.call('TIME') for i = 1, 20000 do \
                      redis.call('ZADD', KEYS[1], t[1] * 1000 + 2000, string.format('%016d', i)) end";
        let client = redis::Client::open(redis.url()).unwrap();
        let mut connection = client.get_connection().unwrap();
        let flood = redis::cmd("EVAL")
            .arg(script)
            .arg(1)
            .arg(KEY)
            .exec(&mut connection);
        flood.unwrap();
        let used: String = redis.ask("INFO memory");
        let used = used
            .lines()
            .find_map(|line| line.strip_prefix("used_memory:"));
        let used: u64 = used.unwrap().trim().parse().unwrap();
        let _: redis::Value = redis.ask(&format!("CONFIG SET maxmemory {}", used - 100_000));
        if policy == "noeviction" {
            assert_eq!(ask(&register, first + 1, lives), Registered::Full);
        }
        thread::sleep(Duration::from_millis(2_500));
        let mut n = first + 10;
        while ask(&register, n, lives) != Registered::First {
            n += 1;
            assert!(n < first + 1_000, "{policy}: full for good");
            thread::sleep(Duration::from_millis(5));
        }
        // A hundred go with each call.
        for i in 0..250 {
            ask(&register, n + i, lives);
        }
        let left: u64 = redis.ask(&format!("ZCARD {KEY}"));
        assert!(left < 1_000, "{policy}: {left}");
        let _: String = redis.ask("SET session x PX 60000");
        let ttl: u64 = redis.ask(&format!("TTL {KEY}"));
        // It outlives sessions, and goes when nobody asks it any more.
        assert!((7 * 86_400..=8 * 86_400).contains(&ttl), "{policy}: {ttl}");
    }
}

#[test]
fn a_clock_that_was_ahead_costs_one_window() {
    let redis = Redis::start("register-clock");
    let register = register(&redis.url());
    let lives = Duration::from_millis(500);
    ask(&register, 1, lives);
    let info: String = redis.ask("INFO replication");
    let history = info
        .lines()
        .find_map(|line| line.strip_prefix("master_replid:"));
    let ahead: Vec<u64> = redis.ask("TIME");
    let ahead = (ahead[0] + 86_400) * 1_000;
    let history = history.unwrap().trim();
    let _: redis::Value = redis.ask(&format!("ZADD {KEY} -{ahead} {history}"));
    assert_eq!(ask(&register, 2, lives), Registered::WarmingUp);
    let begun = Instant::now();
    let mut n = 3;
    while ask(&register, n, lives) != Registered::First {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "until the clock is there again"
        );
        thread::sleep(Duration::from_millis(20));
        n += 1;
    }
}
