//! The register of ClientHellos in Redis: what it answers when Redis has lost what it knew.

use std::thread;
use std::time::{Duration, Instant};

use crate::common::programs::eventually;
use crate::load::alone;
use crate::proxy::{FORWARDS, Proxy};
use crate::server::Redis;
use openssl_resumption::{
    HelloId, RedisRegister, RedisStore, Registered, ReplayRegister, StoreError,
};

/// How long a hello is remembered here; in a server it is a minute or more.
const LIVES: Duration = Duration::from_millis(1_500);

pub(crate) const KEY: &str = "openssl-resumption:hello:seen";

pub(crate) fn register(url: &str) -> RedisRegister {
    let redis = RedisStore::connect(url).unwrap();
    // So that a busy machine is not taken for a Redis that is away.
    redis.deadline(Duration::from_secs(5)).replay_register()
}

fn hello(n: u8) -> HelloId {
    HelloId::from([n; 32])
}

fn ask(register: &RedisRegister, n: u8) -> Result<Registered, StoreError> {
    register.register(&hello(n), LIVES)
}

/// What it answers when there is a connection.
#[track_caller]
pub(crate) fn answer(register: &RedisRegister, n: u8) -> Registered {
    let begun = Instant::now();
    loop {
        match ask(register, n) {
            Ok(answer) => return answer,
            Err(error) => assert!(begun.elapsed() < Duration::from_secs(60), "{error}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until the window after its start is over; each hello in it is taken down all the same.
#[track_caller]
pub(crate) fn warm_up(register: &RedisRegister, mut n: u8) -> u8 {
    let begun = Instant::now();
    while answer(register, n) != Registered::First {
        assert!(begun.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(50));
        n += 1;
    }
    n
}

/// Asks again for a hello that was accepted after `since`; None if its time may be over, as on a machine that is too busy.
#[track_caller]
fn again(register: &RedisRegister, accepted: u8, since: Instant) -> Option<Registered> {
    let answer = answer(register, accepted);
    (since.elapsed() < LIVES).then_some(answer)
}

/// A hello that was accepted is not accepted again, and nor is another one, until the window is over.
#[track_caller]
pub(crate) fn knows_that_it_has_lost(register: &RedisRegister, accepted: u8) {
    let begun = Instant::now();
    let first = answer(register, accepted);
    assert_ne!(first, Registered::First, "the hello is accepted again");
    let mut n = 200;
    loop {
        let before = Instant::now();
        let again = answer(register, accepted);
        match answer(register, n) {
            Registered::First => break,
            Registered::WarmingUp => assert_ne!(again, Registered::First),
            other => panic!("{other:?}"),
        }
        assert!(before.duration_since(begun) < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(50));
        n += 1;
    }
    // By then a server would not accept it any more: the window has passed since it was lost.
    assert!(
        begun.elapsed() >= LIVES - Duration::from_millis(200),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_hello_is_first_once_on_all_hosts() {
    let redis = Redis::start("register-once");
    let [here, there] = [(); 2].map(|()| register(&redis.url()));
    assert_eq!(answer(&here, 1), Registered::WarmingUp);
    let accepted = warm_up(&here, 10);
    for (n, first, second) in [(100, &there, &here), (101, &here, &there)] {
        let since = Instant::now();
        assert_eq!(answer(first, n), Registered::First);
        let answers = [second, first].map(|host| again(host, n, since));
        for answer in answers.into_iter().flatten() {
            assert_eq!(answer, Registered::Before);
        }
    }
    // What has ended is gone, and what has not is there, with what says since when it is kept.
    eventually("a hello ends", || {
        answer(&here, accepted) == Registered::First
    });
    let entries: u64 = redis.ask(&format!("ZCARD {KEY}"));
    assert!((2..=4).contains(&entries), "{entries}");
}

#[test]
fn after_a_flush_it_knows_that_it_has_lost() {
    let redis = Redis::start("register-flush");
    let register = register(&redis.url());
    for command in ["FLUSHALL", "FLUSHDB", &format!("UNLINK {KEY}")] {
        let accepted = warm_up(&register, 10);
        let _: redis::Value = redis.ask(command);
        knows_that_it_has_lost(&register, accepted);
        let _: redis::Value = redis.ask("FLUSHALL");
    }
}

#[test]
fn after_a_restart_it_knows_that_it_has_lost() {
    for snapshot in [false, true] {
        let mut redis = Redis::start("register-restart");
        let register = register(&redis.url());
        let mut accepted = warm_up(&register, 10);
        if snapshot {
            let _: redis::Value = redis.ask("SAVE");
            // What comes now is not in it.
            accepted += 1;
            assert_eq!(answer(&register, accepted), Registered::First);
        }
        redis.kill();
        redis.run();
        let left: u64 = redis.ask(&format!("ZCARD {KEY}"));
        assert_eq!(left > 0, snapshot, "{left}");
        knows_that_it_has_lost(&register, accepted);
    }
}

#[test]
fn after_a_promotion_it_knows_that_it_has_lost() {
    let mut first = Redis::start("register-first");
    let of = format!("127.0.0.1 {}", first.port);
    let second = Redis::start_with("register-second", &["--replicaof", &of]);
    let proxy = Proxy::start(first.port, FORWARDS);
    let register = register(&format!("redis://127.0.0.1:{}", proxy.port));
    let accepted = warm_up(&register, 10) + 1;
    eventually("the replica has all", || {
        second.ask::<u64>(&format!("ZCARD {KEY}")) > 1
    });
    // It misses what comes now, as replicas may.
    second.signal("STOP");
    assert_eq!(answer(&register, accepted), Registered::First);
    first.kill();
    second.signal("CONT");
    proxy.set_target(second.port);
    // Not before it is a master.
    eventually("it says that it is a replica", || {
        assert!(ask(&register, accepted).is_err());
        let said = register.last_error();
        said.is_some_and(|said| said.contains("a replica knows of no hello in time"))
    });
    let _: redis::Value = second.ask("REPLICAOF NO ONE");
    let left: u64 = second.ask(&format!("ZCARD {KEY}"));
    assert!(left > 1, "it has what it got before");
    knows_that_it_has_lost(&register, accepted);
}

#[test]
fn a_redis_that_is_full_says_so_or_forgets_all() {
    let redis = Redis::start("register-full");
    let register = register(&redis.url());
    warm_up(&register, 10);
    for policy in [
        "noeviction",
        "volatile-ttl",
        "allkeys-lru",
        "allkeys-random",
    ] {
        let _: redis::Value = redis.ask(&format!("CONFIG SET maxmemory-policy {policy}"));
        let _: redis::Value = redis.ask("CONFIG SET maxmemory 3mb");
        let (mut lost, accepted, since) = (false, 50, Instant::now());
        assert_eq!(answer(&register, accepted), Registered::First, "{policy}");
        for n in 0..200 {
            // As sessions are.
            fill(&redis, n);
            if let Some(again) = again(&register, accepted, since) {
                assert_ne!(again, Registered::First, "{policy}");
                lost |= again == Registered::WarmingUp;
            }
        }
        let new = answer(&register, 99);
        match policy {
            "noeviction" | "volatile-ttl" => assert!(!lost, "{policy}"),
            _ => assert_ne!(new, Registered::Full, "{policy}"),
        }
        if policy == "noeviction" {
            assert_eq!(new, Registered::Full);
        }
        println!("{policy}: lost {lost}, a new one is {new:?}");
        let _: redis::Value = redis.ask("CONFIG SET maxmemory 0");
        let _: redis::Value = redis.ask("FLUSHALL");
        warm_up(&register, 10);
    }
}

/// Some hundred values of 1 KiB that live for a while. Redis may refuse.
fn fill(redis: &Redis, n: u32) {
    let script = format!(
        "for i = 1, 100 do redis.pcall('SET', 'session:{n}:' .. i, string.rep('x', 1024), 'PX', 60000) end"
    );
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    let _ = redis::cmd("EVAL").arg(script).arg(0).exec(&mut connection);
}

/// A Redis that is away costs early data, and no handshake waits for it.
#[test]
fn while_redis_is_away_or_paused_it_fails_in_time_and_comes_back() {
    let _alone = alone();
    let mut redis = Redis::start("register-away");
    let register = RedisStore::connect(&redis.url()).unwrap().replay_register();
    let mut accepted = warm_up(&register, 10);
    for paused in [true, false] {
        let known = Instant::now();
        accepted = warm_up(&register, accepted + 1);
        if paused {
            redis.signal("STOP");
        } else {
            redis.kill();
        }
        let begun = Instant::now();
        for _ in 0..100 {
            assert!(ask(&register, accepted).is_err(), "{paused}");
        }
        // Of a hundred calls the circuit lets a few through, each for two deadlines at most.
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{:?}",
            begun.elapsed()
        );
        assert!(register.last_error().is_some());
        if paused {
            redis.signal("CONT");
            if let Some(again) = again(&register, accepted, known) {
                assert_eq!(again, Registered::Before);
            }
        } else {
            redis.run();
            knows_that_it_has_lost(&register, accepted);
        }
        accepted = warm_up(&register, 30);
    }
}
