//! Ticket keys in Redis, with the time as a parameter: many hosts that find them there.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openssl_resumption::{
    KeySet, KeySource, RedisKeys, Resumption, SslContextBuilderExt, TicketKeys,
};

use crate::SECRET;
use crate::common::{Client, Kind, acceptor, context, meet};
use crate::server::Redis;

const PERIOD: u64 = 100;

/// The prefix by default.
const PREFIX: &str = "openssl-resumption:ticket-key:";

fn source(redis: &Redis) -> RedisKeys {
    let keys = RedisKeys::connect(&redis.url(), [SECRET]).unwrap();
    keys.period(Duration::from_secs(PERIOD))
}

/// So many seconds after a period has begun. Far from now: times are the caller's.
fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(18_000_000 * PERIOD + seconds)
}

/// The names of the keys in a set: the one that seals, the upcoming ones, and those that open.
fn names(set: &KeySet) -> [Vec<String>; 3] {
    let text = format!("{set:?}");
    let (seals, rest) = text.split_once("upcoming").unwrap();
    let (upcoming, opens) = rest.split_once("opens").unwrap();
    [seals, upcoming, opens].map(|text| {
        let names = text.split("TicketKey(").skip(1);
        names
            .map(|name| name.split(')').next().unwrap().into())
            .collect()
    })
}

#[test]
fn hosts_that_start_together_agree_on_one_key_for_each_period() {
    const HOSTS: usize = 32;
    let redis = Redis::start("agree");
    let start = Barrier::new(HOSTS);
    // Each time is that of a period never seen before, and half of it later.
    let times: Vec<_> = (0..40).map(|i| at(i * 7 * PERIOD / 2)).collect();
    let load = || {
        let source = source(&redis);
        let sets = times.iter().map(|now| {
            start.wait();
            // On a busy machine Redis may miss its deadline. An error that is unwrapped here would leave the others
            // waiting.
            let mut loads = (0..60).map(|_| source.load(*now));
            loads.find_map(Result::ok).map(|set| names(&set))
        });
        sets.collect::<Vec<_>>()
    };
    let all: Vec<_> = thread::scope(|scope| {
        let hosts: Vec<_> = (0..HOSTS).map(|_| scope.spawn(load)).collect();
        hosts.into_iter().map(|host| host.join().unwrap()).collect()
    });
    for sets in &all {
        for (one, other) in all[0].iter().zip(sets) {
            let [one, other] = [one, other].map(|set| set.as_ref().expect("keys from Redis"));
            assert_eq!(one[..2], other[..2]);
        }
    }
    let sets = redis.calls("set");
    println!("{HOSTS} hosts, {} times: {sets} SET", times.len());
}

#[test]
fn and_open_each_others_tickets() {
    const HOSTS: usize = 32;
    let redis = Redis::start("tickets");
    let start = Barrier::new(HOSTS);
    let begin = || {
        let keys = TicketKeys::from_source(RedisKeys::connect(&redis.url(), [SECRET]).unwrap());
        let policy = Resumption::stateless(keys);
        let mut builder = acceptor();
        start.wait();
        builder.set_resumption(&policy).unwrap();
        (builder.build().into_context(), policy)
    };
    let hosts: Vec<_> = thread::scope(|scope| {
        let hosts: Vec<_> = (0..HOSTS).map(|_| scope.spawn(begin)).collect();
        hosts.into_iter().map(|host| host.join().unwrap()).collect()
    });
    for kind in [Kind::Tls12, Kind::Tls13] {
        let client = Client::new(kind).unwrap();
        for i in 0..HOSTS {
            let met = meet(&hosts[i].0, &client, None);
            let other = meet(&hosts[(i + 1) % HOSTS].0, &client, met.next());
            assert!(other.client.resumed, "{kind:?} {i}");
        }
    }
}

/// One host goes on from period to period, another one starts anew each time, late or early.
#[test]
fn keys_are_there_before_they_seal_and_while_their_tickets_live() {
    let redis = Redis::start("periods");
    let host = source(&redis);
    let mut held: Vec<KeySet> = Vec::new();
    for i in 0..20 {
        let now = at(i * PERIOD / 2 + 3);
        let set = host.load(now).unwrap();
        let [seals, upcoming, opens] = names(&set);
        let fresh = names(&source(&redis).load(now).unwrap());
        assert_eq!(fresh, [seals.clone(), upcoming.clone(), opens.clone()]);
        assert_eq!(upcoming.len() as u64, 1 + i % 2);
        assert_eq!(opens.len() as u64, i / 2);
        if let Some(before) = held.last() {
            let [sealed, coming, _] = names(before);
            let expected = if i % 2 == 0 { &coming[0] } else { &sealed[0] };
            assert_eq!(seals[0], *expected);
            if i % 2 == 0 {
                assert_eq!(opens[0], sealed[0], "the one before opens");
            }
        }
        held.push(set);
    }
}

/// Seven days after the key has sealed, which no ticket outlives.
#[test]
fn a_key_leaves_redis_when_its_tickets_have_ended() {
    let redis = Redis::start("key-ttl");
    // By the clock of Redis.
    let now = SystemTime::now();
    source(&redis).load(now).unwrap();
    let seconds = now.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let keys: Vec<String> = redis.ask(&format!("KEYS {PREFIX}*"));
    assert!(keys.len() >= 2, "{keys:?}");
    for key in keys {
        let number: u64 = key.rsplit(':').next().unwrap().parse().unwrap();
        let left = (number + 1) * PERIOD + 7 * 86_400 - seconds;
        let ttl: u64 = redis.ask(&format!("TTL {key}"));
        println!("{key}: {ttl} s, expected {left}");
        assert!(ttl.abs_diff(left) <= 2);
        let length: u64 = redis.ask(&format!("STRLEN {key}"));
        assert_eq!(length, 124);
    }
}

#[test]
fn keys_in_use_are_put_back_when_redis_has_lost_them() {
    let redis = Redis::start("put-back");
    let (one, other) = (source(&redis), source(&redis));
    let held = [&one, &other].map(|host| host.load(at(0)).unwrap());
    let () = redis.ask("FLUSHALL");
    let later = [&one, &other].map(|host| names(&host.load(at(PERIOD / 2)).unwrap()));
    assert_eq!(later[0], later[1]);
    let [seals, upcoming, _] = names(&held[0]);
    assert_eq!(later[0][0], seals);
    assert_eq!(later[0][1][0], upcoming[0]);
    assert_eq!(
        names(&source(&redis).load(at(PERIOD / 2)).unwrap())[0],
        seals
    );
}

#[test]
fn a_key_that_had_to_give_way_goes_on_opening() {
    let redis = Redis::start("give-way");
    let host = source(&redis);
    let held = host.load(at(0)).unwrap();
    let () = redis.ask("FLUSHALL");
    // Somebody who starts now makes another key.
    let newcomer = names(&source(&redis).load(at(1)).unwrap());
    let set = host.load(at(PERIOD / 2)).unwrap();
    let [seals, upcoming, opens] = names(&set);
    assert_eq!(seals, newcomer[0]);
    assert_eq!(upcoming[..1], newcomer[1]);
    let [sealed, was_upcoming, _] = names(&held);
    assert!(opens.contains(&sealed[0]) && opens.contains(&was_upcoming[0]));
}

/// The text of a set that was loaded: of a host that is on its own, and why.
#[track_caller]
fn alone(source: &RedisKeys) -> String {
    let set = format!("{:?}", source.load(at(0)).unwrap());
    assert!(set.contains("of this host alone"), "{set}");
    set
}

#[test]
fn a_host_starts_alone_where_keys_do_not_open() {
    let redis = Redis::start("foreign-keys");
    source(&redis).load(at(0)).unwrap();
    let other = RedisKeys::connect(&redis.url(), [[0xe3; 32]]).unwrap();
    let other = other.period(Duration::from_secs(PERIOD));
    let why = alone(&other);
    assert!(
        why.contains("another secret") && why.contains(PREFIX),
        "{why}"
    );
    // It goes on asking, and says why it gets nothing.
    let error = other.load(at(1)).unwrap_err().to_string();
    assert!(error.contains("another secret"), "{error}");
    // The keys of the period after next are under a secret of its own.
    let later = names(&other.load(at(2 * PERIOD)).unwrap());
    assert_eq!(later[0].len(), 1);
    // A rollover of the secret: all that is sealed under any opens.
    let both = RedisKeys::connect(&redis.url(), [[0xe3; 32], SECRET]).unwrap();
    let both = both.period(Duration::from_secs(PERIOD));
    let theirs = names(&source(&redis).load(at(0)).unwrap());
    assert_eq!(names(&both.load(at(0)).unwrap()), theirs);

    let key = format!("{PREFIX}{PERIOD}:{}", 18_000_000);
    let () = redis.ask(&format!("SET {key} garbage"));
    let why = alone(&source(&redis));
    assert!(why.contains(&key), "{why}");
    let _: u32 = redis.ask(&format!("DEL {key}"));
    let _: u32 = redis.ask(&format!("LPUSH {key} list"));
    // Redis says that no string is there. A server starts all the same.
    let why = alone(&source(&redis));
    assert!(why.contains("WRONGTYPE"), "{why}");
}

/// Nobody comes back to a server that does not start.
#[test]
fn a_host_starts_alone_while_redis_is_away_and_joins_later() {
    let mut redis = Redis::start("away");
    let url = redis.url();
    let host = || {
        let source = RedisKeys::connect(&url, [SECRET]).unwrap();
        let keys = TicketKeys::from_source(source);
        (context(&Resumption::stateless(keys.clone())), keys)
    };
    let shared = host();
    redis.kill();
    let alone = host();
    let warning = alone.1.last_warning().expect("it is alone");
    println!("{warning}");
    assert!(warning.contains("alone"));

    let client = Client::new(Kind::Tls13).unwrap();
    let there = meet(&shared.0, &client, None);
    let here = meet(&alone.0, &client, None);
    let again = meet(&alone.0, &client, here.next());
    assert!(again.client.resumed);
    assert!(!meet(&shared.0, &client, here.next()).client.resumed);

    redis.run();
    // Away, it was asked once a second.
    let begun = std::time::Instant::now();
    while alone.1.last_warning().is_some() {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "still alone, or the machine is too busy"
        );
        thread::sleep(Duration::from_millis(50));
    }
    println!("joined after {:?}", begun.elapsed());
    assert!(meet(&alone.0, &client, here.next()).client.resumed);
    let later = meet(&alone.0, &client, None);
    // What the others had was lost with Redis. They take what is there when they ask again.
    let third = host();
    assert!(meet(&third.0, &client, later.next()).client.resumed);
    assert!(meet(&shared.0, &client, there.next()).client.resumed);
}

/// It can be reached, and takes no keys: a replica, or a Redis that is full.
#[test]
fn a_host_starts_alone_while_redis_takes_no_keys_and_joins_later() {
    let redis = Redis::start("no-keys");
    let source = source(&redis);
    let () = redis.ask("CONFIG SET maxmemory 1");
    let alone = source.load(at(0)).unwrap();
    assert!(format!("{alone:?}").contains("alone"), "{alone:?}");
    let () = redis.ask("CONFIG SET maxmemory 0");
    let joined = source.load(at(1)).unwrap();
    assert!(!format!("{joined:?}").contains("alone"), "{joined:?}");
    assert_eq!(names(&joined)[0], names(&alone)[0], "now that of all");
}

/// Better than a key of its own: the others have it.
#[test]
fn a_host_uses_the_key_that_is_there_though_there_is_no_next() {
    let redis = Redis::start("no-next");
    let shared = names(&source(&redis).load(at(0)).unwrap());
    let next = format!("{PREFIX}{PERIOD}:{}", 18_000_001);
    let _: u32 = redis.ask(&format!("DEL {next}"));
    let () = redis.ask("CONFIG SET maxmemory 1");
    let source = source(&redis);
    let set = source.load(at(1)).unwrap();
    assert_eq!(names(&set)[0], shared[0]);
    assert!(names(&set)[1].is_empty());
    let text = format!("{set:?}");
    assert!(text.contains("no ticket key for the next period"), "{text}");
    let () = redis.ask("CONFIG SET maxmemory 0");
    let set = source.load(at(2)).unwrap();
    assert_eq!([names(&set)[0].len(), names(&set)[1].len()], [1, 1]);
}
