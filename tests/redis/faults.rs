//! Two servers under load while their Redis fails in one way or another.

use std::thread;
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use crate::SECRET;
use crate::common::process::{Scratch, Server};
use crate::fleet::{stateful, stats};
use crate::load::{WARM_UP, on_time, under_load};
use crate::server::Redis;

/// How long it takes at most until sessions are resumed again.
const BACK: Duration = Duration::from_secs(5);

/// How long a fault lasts.
const FAULT: Duration = Duration::from_secs(3);

/// Two servers and their Redis under load: all is well, then `fault` happens and is mended, and
/// then all is well again in time.
fn through(name: &str, fault: impl Fn(&mut Redis, &RwLock<Vec<Server>>)) {
    on_time(|| {
        let redis = Redis::start(name);
        let url = redis.url();
        through_with(name, redis, &url, &fault);
    });
}

fn through_with(
    name: &str,
    mut redis: Redis,
    url: &str,
    fault: impl Fn(&mut Redis, &RwLock<Vec<Server>>),
) {
    let scratch = Scratch::new(&format!("redis-{name}-servers"));
    let secret = scratch.write("secret", &SECRET);
    let fleet = RwLock::new(Vec::from([0, 1].map(|_| stateful(url, &secret))));
    let [mut begun, mut failed, mut healed] = [Instant::now(); 3];
    let seen = under_load(&fleet, || {
        thread::sleep(WARM_UP);
        begun = Instant::now();
        thread::sleep(Duration::from_secs(2));
        failed = Instant::now();
        fault(&mut redis, &fleet);
        healed = Instant::now();
        thread::sleep(BACK + Duration::from_secs(2));
    });
    let before = seen.tally(begun, failed);
    let during = seen.tally(failed, healed);
    let after = seen.tally(healed + BACK, Instant::now());
    println!("{name}: before {before:?}, during {during:?}, after {after:?}");
    let last = seen.last_full();
    let back = last.and_then(|last| last.checked_duration_since(healed));
    println!(
        "the last full handshake was {back:?} after; {:?}",
        seen.reasons()
    );
    for server in fleet.read().iter() {
        println!("{}", stats(server)["store"]);
    }
    seen.check_handshakes();
    before.assert_resumed();
    after.assert_resumed();
}

#[test]
fn redis_is_killed_and_restarted() {
    through("kill", |redis, _| {
        redis.kill();
        thread::sleep(FAULT);
        redis.run();
    });
}

#[test]
fn redis_stops_answering() {
    through("stop", |redis, _| {
        redis.signal("STOP");
        thread::sleep(FAULT);
        redis.signal("CONT");
    });
}

#[test]
fn redis_is_full() {
    through("full", |redis, _| {
        let () = redis.ask("CONFIG SET maxmemory-policy noeviction");
        let () = redis.ask("CONFIG SET maxmemory 1");
        thread::sleep(FAULT);
        let () = redis.ask("CONFIG SET maxmemory 0");
    });
}

#[test]
fn redis_is_flushed() {
    through("flush", |redis, _| redis.ask("FLUSHALL"));
}

#[test]
fn the_password_is_changed() {
    on_time(|| {
        let redis = Redis::start("password");
        let () = redis.ask("ACL SETUSER app on >right ~* &* +@all");
        let url = format!("redis://app:right@127.0.0.1:{}", redis.port);
        through_with("password", redis, &url, |redis, _| {
            let () = redis.ask("ACL SETUSER app resetpass >other");
            let killed: u32 = redis.ask("CLIENT KILL USER app");
            assert!(killed > 0);
            thread::sleep(FAULT);
            let () = redis.ask("ACL SETUSER app resetpass >right");
        });
    });
}

#[test]
fn others_write_at_the_keys_of_sessions() {
    through("foreign", |redis, _| {
        let begun = Instant::now();
        let mut written = [0; 3];
        while begun.elapsed() < FAULT {
            for (i, key) in redis.session_keys().iter().enumerate() {
                written[i % 3] += 1;
                match i % 3 {
                    0 => redis.ask(&format!("SET {key} \u{1}garbage\u{fffd}\u{0} PX 60000")),
                    1 => {
                        let () = redis.ask(&format!("DEL {key}"));
                        let _: u32 = redis.ask(&format!("LPUSH {key} foreign"));
                    }
                    // A header as sessions have it, and nothing sealed.
                    _ => redis.ask(&format!("SET {key} \u{1}\u{0}\u{0}\u{0}\u{0}zzzz\u{1}zzzz")),
                }
            }
        }
        println!("garbage, lists, forgeries: {written:?}");
        assert!(written.iter().all(|written| *written > 10));
    });
}

/// Without a rollover: none of the values in Redis opens any more.
#[test]
fn servers_come_back_with_another_secret() {
    let scratch = Scratch::new("redis-secrets");
    let other = scratch.write("other", &[0xe3; 32]);
    through("secret", |redis, fleet| {
        let before = redis.session_keys().len();
        for i in 0..2 {
            let mut fleet = fleet.write();
            assert_eq!(fleet[i].stop("TERM"), Some(0));
            fleet[i] = stateful(&redis.url(), &other);
            drop(fleet);
            thread::sleep(FAULT / 2);
        }
        println!("{before} sessions under the old secret");
    });
}
