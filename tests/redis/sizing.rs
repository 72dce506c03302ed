//! How large a Redis is for so many hosts: the README's table, the formula that it comes from, and two fleets in which
//! Redis itself counts what the formula says.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use openssl_resumption::{RedisOptions, RedisStore, Resumption, Sealed, SessionStore};

use redis::{Connection, FromRedisValue};

use crate::SECRET;
use crate::common::programs::eventually;
use crate::common::{Client, Kind, context, meet};
use crate::server::Redis;

/// What a host has to do. All its clients speak TLS 1.3, which writes most.
struct Load {
    hosts: u32,
    /// New connections of a host in a second.
    connections: f64,
    /// Which part of them is resumed.
    resumed: f64,
    /// How long a session may resume after its full handshake, in seconds.
    lifetime: f64,
}

/// What Redis has to do for all hosts.
struct Size {
    sessions: f64,
    writes: f64,
    reads: f64,
    connections: u32,
}

/// How long a session stays that has a successor, in seconds.
const USED: f64 = 60.0;

/// What a session takes in Redis' memory, of a client without a certificate.
const BYTES: f64 = 420.0;

impl Load {
    fn size(&self) -> Size {
        let all = f64::from(self.hosts) * self.connections;
        let resumed = all * self.resumed;
        let full = all - resumed;
        Size {
            // However often a client comes back, one session is its newest, and all end with the first.
            sessions: full * self.lifetime + resumed * USED,
            // `SET` for the session that each connection gets, `PEXPIRE` for the one that it used.
            writes: all + resumed,
            reads: resumed,
            connections: self.hosts * RedisOptions::DEFAULT_CONNECTIONS,
        }
    }
}

/// The loads of the README's table.
const HOSTS: [u32; 4] = [1, 10, 100, 1_000];

fn row(hosts: u32) -> String {
    let size = |lifetime| {
        let (connections, resumed) = (1_000.0, 0.5);
        Load {
            hosts,
            connections,
            resumed,
            lifetime,
        }
        .size()
    };
    let day = size(Resumption::DEFAULT_LIFETIME.as_secs_f64());
    let hour = size(3_600.0);
    let held = |size: &Size| {
        let sessions = figure(size.sessions / 1e6);
        let memory = figure(size.sessions * BYTES / 1e9);
        format!("{sessions} million, {memory} GB")
    };
    format!(
        "| {} | {} | {} | {} | {} | {} |",
        figure(f64::from(hosts)),
        held(&day),
        held(&hour),
        figure(day.writes),
        figure(day.reads),
        figure(f64::from(day.connections)),
    )
}

/// A small one with a decimal, if it has one; a large one with commas.
fn figure(number: f64) -> String {
    if number < 10.0 {
        let short = format!("{number:.1}");
        return short.trim_end_matches(".0").to_owned();
    }
    let digits = format!("{number:.0}");
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups = groups.map(|group| std::str::from_utf8(group).unwrap());
    groups.collect::<Vec<_>>().join(",")
}

#[test]
fn the_readmes_table_is_what_the_formula_says() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    assert!(readme.contains(&format!("takes about {BYTES} bytes")));
    for row in HOSTS.map(row) {
        assert!(readme.lines().any(|line| line.trim() == row), "{row}");
    }
}

/// A connection for each host at a time, then all that is in Redis is older by so many seconds.
const STEP: u32 = 400;

/// Makes all keys that much older, in milliseconds. Whoever asks does not know of it, and gives a successor a whole life: the
/// few clients that are away for 20 minutes of a day make that little. What the script calls is counted under other names
/// than what stores call.
const AGE: &str = "
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
for _, key in ipairs(redis.call('KEYS', '*')) do
    redis.call('PEXPIREAT', key, now + redis.call('PTTL', key) - ARGV[1])
end";

/// So many steps later a client is back, once, at the next host. Odd, so that every other connection is resumed.
const AWAY: usize = 3;

/// So many steps are counted once the first sessions have ended.
const COUNTED: u32 = 24;

/// Puts copies of a session beside it: so many that buffers of connections, which come and go, are little beside them.
const COPY: &str = "
local key = redis.call('RANDOMKEY')
local session, left = redis.call('GET', key), redis.call('PTTL', key)
for n = 1, ARGV[1] do
    redis.call('SET', key:sub(1, -9) .. string.format('%08d', n), session, 'PX', left)
end";

const COPIES: u32 = 20_000;

#[test]
fn redis_has_to_do_what_the_formula_says() {
    for hosts in [1, 10] {
        count(hosts);
    }
}

fn count(hosts: u32) {
    let load = Load {
        hosts,
        connections: 1.0 / f64::from(STEP),
        resumed: 0.5,
        lifetime: Resumption::DEFAULT_LIFETIME.as_secs_f64(),
    };
    let size = load.size();
    let redis = Redis::start(&format!("sizing-{hosts}"));
    let mut connection = redis::Client::open(redis.url())
        .and_then(|client| client.get_connection())
        .unwrap();
    let stores: Vec<_> = (0..hosts).map(|_| store(&redis)).collect();
    let policies = stores
        .iter()
        .map(|store| Resumption::stateful(Arc::clone(store)));
    let servers: Vec<_> = policies.map(|policy| context(&policy)).collect();
    let client = Client::new(Kind::Tls13).unwrap();

    let filled = (load.lifetime / f64::from(STEP)) as u32 + 2;
    let mut away = VecDeque::new();
    for step in 0..filled + COUNTED {
        let mut age = redis::cmd("EVAL");
        let age = age.arg(AGE).arg(0).arg(STEP * 1_000);
        age.exec(&mut connection).unwrap();
        if step == filled {
            redis.ask::<()>("CONFIG RESETSTAT");
        }
        let back: Option<Vec<Vec<u8>>> = match away.len() {
            AWAY => away.pop_front().unwrap(),
            _ => None,
        };
        let mut got = Vec::new();
        for (host, server) in servers.iter().enumerate() {
            let session = back.as_ref().map(|sessions| &sessions[host][..]);
            let met = meet(server, &client, session);
            let error = stores[host].last_error();
            let outcome = met.outcome;
            assert_eq!(
                met.server_reused,
                session.is_some(),
                "{outcome:?}: {error:?}"
            );
            got.push(met.next().unwrap().to_vec());
        }
        got.rotate_left(1);
        // Who has come back once does not come again.
        away.push_back(Some(got).filter(|_| back.is_none()));
    }

    let time = f64::from(COUNTED * STEP);
    let calls = |command| redis.calls(command) as f64;
    assert_eq!(calls("get"), (size.reads * time).round());
    assert_eq!(
        calls("set") + calls("pexpire"),
        (size.writes * time).round()
    );
    eventually(
        "one connection is ours, and others that were have ended",
        || {
            let clients: String = redis.ask("CLIENT LIST");
            let others = clients.lines().filter(|line| !line.contains("cmd=client"));
            others.count() == size.connections as usize + 1
        },
    );
    let sessions: f64 = ask(&mut connection, "DBSIZE");
    let before = memory(&mut connection);
    let mut copy = redis::cmd("EVAL");
    copy.arg(COPY).arg(0).arg(COPIES);
    copy.exec(&mut connection).unwrap();
    let bytes = (memory(&mut connection) - before) / f64::from(COPIES);
    let said = size.sessions;
    assert!(is_near(sessions, said), "{sessions} sessions, not {said}");
    // Some versions of Redis, and Valkey, make do with less.
    assert!(is_near(bytes, BYTES) || bytes < BYTES, "{bytes} bytes each");
}

/// A busy machine is not to make a handshake a full one.
const PATIENCE: Duration = Duration::from_secs(10);

/// That of one host, with a thread and connections of its own. It writes within the handshake.
fn store(redis: &Redis) -> Arc<Sealed<RedisStore>> {
    let options = RedisStore::connect(&redis.url()).unwrap();
    let options = options.deadline(PATIENCE).connect_deadline(PATIENCE);
    Arc::new(options.sealed([SECRET]).unwrap())
}

/// On a connection that is there already: another would take memory too.
fn ask<T: FromRedisValue>(connection: &mut Connection, command: &str) -> T {
    let mut words = command.split(' ');
    let mut cmd = redis::cmd(words.next().unwrap());
    cmd.arg(words.collect::<Vec<_>>())
        .query(connection)
        .unwrap()
}

/// How many bytes Redis has in use.
fn memory(connection: &mut Connection) -> f64 {
    let info: String = ask(connection, "INFO");
    let used = info
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    used.unwrap().parse().unwrap()
}

/// To within 5 %.
fn is_near(counted: f64, said: f64) -> bool {
    (counted / said - 1.0).abs() < 0.05
}
