//! Two servers that share a Redis, while all is well.

use std::thread;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use serde_json::Value;

use crate::SECRET;
use crate::common::process::{Scratch, Server};
use crate::common::{Client, Kind};
use crate::load::{WARM_UP, on_time, under_load, visit};
use crate::server::Redis;

/// A server of the sessions in this Redis.
pub(crate) fn stateful(url: &str, secret: &str) -> Server {
    Server::start(&[
        "--mode",
        "stateful",
        "--redis",
        url,
        "--redis-secret",
        secret,
    ])
}

/// The statistics of a server, which count this visit too.
pub(crate) fn stats(server: &Server) -> Value {
    let client = Client::new(Kind::Tls13).unwrap();
    visit(server.address, &client, None).unwrap().page["stats"].take()
}

#[test]
fn two_servers_resume_each_others_sessions_from_redis() {
    on_time(healthy);
}

fn healthy() {
    let redis = Redis::start("healthy");
    let scratch = Scratch::new("redis-healthy-servers");
    let secret = scratch.write("secret", &SECRET);
    let fleet = RwLock::new(Vec::from([0, 1].map(|_| stateful(&redis.url(), &secret))));
    let mut begun = Instant::now();
    let seen = under_load(&fleet, || {
        thread::sleep(WARM_UP);
        begun = Instant::now();
        thread::sleep(Duration::from_secs(4));
    });
    let tally = seen.tally(begun, Instant::now());
    println!("healthy: {tally:?}, {:?}", seen.reasons());
    seen.check_handshakes();
    tally.assert_resumed();

    // Redis tells the same story, but for sessions that a server still had to write, and for the
    // first ones, when it was not connected yet.
    let (gets, sets) = (redis.calls("get"), redis.calls("set"));
    let both: Vec<_> = fleet.read().iter().map(stats).collect();
    let sum = |what: &str| -> u64 {
        let counts = both.iter().map(|stats| stats["store"][what].as_u64());
        counts.map(Option::unwrap).sum()
    };
    let [hits, misses, errors, puts] = ["hits", "misses", "errors", "puts"].map(sum);
    println!("{gets} GET: {hits} hits, {misses} misses, {errors} errors; {puts} puts, {sets} SET");
    assert!(gets <= hits + misses + errors);
    assert!(gets * 100 >= hits * 99);
    assert!(sets <= puts && sets * 100 >= puts * 99);
    assert!(errors * 100 <= hits);
}
