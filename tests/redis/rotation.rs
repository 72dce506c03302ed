//! Two servers under load that share ticket keys, through rotations, with Redis and without.

use std::thread;
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use crate::SECRET;
use crate::common::process::{Scratch, Server};
use crate::load::{WARM_UP, on_time, under_load};
use crate::server::Redis;

const EPOCH: Duration = Duration::from_secs(2);

fn stateless(url: &str, secret: &str, epoch: Duration) -> Server {
    let epoch = epoch.as_secs().to_string();
    let args = ["--mode", "stateless", "--redis-keys", "--key-epoch", &epoch];
    Server::start(&[&args[..], &["--redis", url, "--redis-secret", secret]].concat())
}

fn through(name: &str, epoch: Duration, happen: impl Fn(&mut Redis)) {
    on_time(|| once_through(name, epoch, &happen));
}

fn once_through(name: &str, epoch: Duration, happen: impl Fn(&mut Redis)) {
    let mut redis = Redis::start(name);
    let scratch = Scratch::new(&format!("redis-{name}-servers"));
    let secret = scratch.write("secret", &SECRET);
    let servers = [0, 1].map(|_| stateless(&redis.url(), &secret, epoch));
    let fleet = RwLock::new(Vec::from(servers));
    let begun = Instant::now();
    let seen = under_load(&fleet, || {
        thread::sleep(WARM_UP);
        happen(&mut redis);
    });
    let tally = seen.tally(begun, Instant::now());
    println!("{name}: {tally:?}, {:?}", seen.reasons());
    let keys: Vec<String> = redis.ask("KEYS openssl-resumption:ticket-key:*");
    println!("{} keys in Redis", keys.len());
    seen.check_handshakes();
    tally.assert_resumed();
}

#[test]
fn tickets_open_on_the_other_server_through_rotations() {
    through("rotations", EPOCH, |_| thread::sleep(5 * EPOCH));
}

/// Every server has keys for so long, and half an epoch more: enough for all to see that Redis is
/// back, because they ask once a second.
#[test]
fn and_while_redis_is_away_for_an_epoch() {
    let epoch = 2 * EPOCH;
    through("away-rotation", epoch, |redis| {
        redis.kill();
        thread::sleep(epoch);
        redis.run();
        thread::sleep(2 * epoch);
    });
}

#[test]
fn and_when_redis_is_flushed() {
    through("flush-rotation", EPOCH, |redis| {
        for _ in 0..6 {
            let () = redis.ask("FLUSHALL");
            thread::sleep(EPOCH * 3 / 4);
        }
    });
}
