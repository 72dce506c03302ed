//! Sessions in a Redis on this machine, asked for by many threads at a time. Lines for `report.py`, which builds the same
//! file with the version before one thread spoke for all.
//!
//! `redis lookups THREADS`: lookups of sessions that are there. `redis handshakes THREADS`: resumed handshakes, both sides
//! of each on one thread, through `for_servers` and through a `MemoryStore`, in turn.

#![allow(missing_docs, reason = "no public interface")]
#![allow(
    clippy::duplicate_mod,
    reason = "the tests' Redis and the benchmarks' handshakes both bring the examples' client along"
)]

use std::collections::VecDeque;
use std::env;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use openssl_resumption::{
    FleetStore, MemoryStore, RedisStore, Resumption, Session, SessionKey, SessionStore,
    SslContextBuilderExt,
};

#[path = "../tests/common/mod.rs"]
mod common;
#[allow(dead_code, reason = "tests use the rest")]
#[path = "../tests/redis/server.rs"]
mod server;
mod support;

use common::programs::eventually;
use server::Redis;
use support::{Case, Kind, Pair, uncounted};

/// A busy machine is not to open the circuit, nor to make a handshake a full one.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long threads ask in a row.
const RUN: Duration = Duration::from_secs(1);

/// How often the two stores take turns.
const TURNS: usize = 5;

/// Of so many clients in all each comes back when all others have been there, and its session has been written.
const CLIENTS: usize = 2_048;

fn main() {
    let args: Vec<_> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let threads = |threads: &str| threads.parse().expect("a number");
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["lookups", number] => lookups(threads(number)),
        ["handshakes", number] => handshakes(threads(number)),
        // `cargo bench` runs all there are.
        _ => println!("redis lookups|handshakes THREADS; report.py runs it"),
    }
}

fn lookups(threads: usize) {
    let redis = Redis::start("lookups");
    let options = RedisStore::connect(&redis.url()).expect("an address");
    let store = options.deadline(PATIENCE).connect_deadline(PATIENCE);
    let store = store.plaintext();
    let key = |n: u8| SessionKey::from([n; 32]);
    eventually("a connection", || store.get(&key(0)).is_ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let ends = now.expect("a clock").as_secs() + 3_600;
    for n in 0..=u8::MAX {
        let record = [&[1], &ends.to_be_bytes()[..], &[n; 181]].concat();
        let session = Session::from_bytes(&record).expect("a session");
        store.put(&key(n), session).expect("an answer");
    }
    let starts: Vec<_> = (0..threads).map(|n| n as u8).collect();
    let ask = |mut n: u8| {
        let mut times = Vec::new();
        let begun = Instant::now();
        while begun.elapsed() < RUN {
            n = n.wrapping_add(1);
            let asked = Instant::now();
            let found = store.get(&key(n)).expect("an answer");
            times.push(asked.elapsed());
            assert!(found.is_some());
        }
        times
    };
    let (took, times) = together(starts, ask, || ());
    let mut times = times.concat();
    times.sort_unstable();
    let all = times.len();
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    println!("a second,p50,p99,cpu");
    println!(
        "{:.0},{:.0},{:.0},{:.1}",
        all as f64 / took.elapsed.as_secs_f64(),
        us(times[all / 2]),
        us(times[all * 99 / 100]),
        us(took.worked) / all as f64,
    );
}

fn handshakes(threads: usize) {
    println!("version,store,a second,ratio,cpu,reads");
    for (name, kind) in [("tls12", Kind::Tls12), ("tls13", Kind::Tls13)] {
        let redis = Redis::start("handshakes");
        let options = RedisStore::connect(&redis.url()).expect("an address");
        let options = options.deadline(PATIENCE).connect_deadline(PATIENCE);
        let fleet = Arc::new(options.for_servers([[7; 32]]).expect("a secret"));
        let policies = [
            Resumption::stateful(MemoryStore::default()),
            Resumption::stateful(Arc::clone(&fleet)),
        ];
        let mut stores = policies.map(|policy| clients(threads, Case(kind, false), &policy));
        let mut runs = [Vec::new(), Vec::new()];
        for _ in 0..TURNS {
            for (clients, runs) in stores.iter_mut().zip(&mut runs) {
                runs.push(turn(clients, &fleet, &redis));
            }
        }
        let ratios = runs[1].iter().zip(&runs[0]).map(|(r, m)| r[0] / m[0]);
        let ratio = median(ratios.collect());
        for (store, runs) in ["memory", "redis"].into_iter().zip(&runs) {
            let [rate, cpu, reads] =
                [0, 1, 2].map(|i| median(runs.iter().map(|run| run[i]).collect()));
            println!("{name},{store},{rate:.0},{ratio:.3},{cpu:.1},{reads:.3}");
        }
    }
}

/// What a thread has: a server and a client of its own, and the sessions of clients that take turns.
struct Clients(Pair, VecDeque<Vec<u8>>);

fn clients(threads: usize, case: Case, policy: &Resumption) -> Vec<Clients> {
    let full = |_| {
        let pair = Pair::with(case, |builder| {
            builder.set_resumption(policy).expect("a policy that works");
            Ok(())
        });
        let sessions = (0..CLIENTS / threads).map(|_| pair.full(uncounted));
        let sessions = sessions.collect();
        Clients(pair, sessions)
    };
    (0..threads).map(full).collect()
}

/// Resumed handshakes a second, with all that is to be written for them; the microseconds of this process for each; and
/// how often Redis was read for one.
fn turn(clients: &mut [Clients], fleet: &FleetStore, redis: &Redis) -> [f64; 3] {
    assert_eq!(fleet.flush(PATIENCE), 0);
    let reads = redis.calls("get");
    let resume = |Clients(pair, sessions): &mut Clients| {
        let (begun, mut count) = (Instant::now(), 0);
        while begun.elapsed() < RUN {
            let session = sessions.pop_front().expect("a session");
            sessions.push_back(pair.resumed(&session, uncounted));
            count += 1;
        }
        count
    };
    // Once: each who waits for that is woken at each write.
    let flush = || assert_eq!(fleet.flush(PATIENCE), 0);
    let (took, counts) = together(clients.iter_mut().collect(), resume, flush);
    let count = f64::from(counts.into_iter().sum::<u32>());
    [
        count / took.elapsed.as_secs_f64(),
        took.worked.as_secs_f64() * 1e6 / count,
        (redis.calls("get") - reads) as f64 / count,
    ]
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

struct Took {
    elapsed: Duration,
    /// The processor's time for this process.
    worked: Duration,
}

/// What threads return that begin together, each with one of these, and what they took with that which comes after.
fn together<A: Send, T: Send>(
    each: Vec<A>,
    work: impl Fn(A) -> T + Sync,
    after: impl FnOnce(),
) -> (Took, Vec<T>) {
    let barrier = Barrier::new(each.len() + 1);
    thread::scope(|scope| {
        let start = |one| {
            let (barrier, work) = (&barrier, &work);
            scope.spawn(move || {
                barrier.wait();
                work(one)
            })
        };
        let threads: Vec<_> = each.into_iter().map(start).collect();
        let (begun, before) = (Instant::now(), worked());
        barrier.wait();
        let ended = threads.into_iter().map(|thread| thread.join());
        let ended = ended.map(|end| end.expect("no panic")).collect();
        after();
        let took = Took {
            elapsed: begun.elapsed(),
            worked: worked() - before,
        };
        (took, ended)
    })
}

/// How long all threads of this process have worked so far. Redis is another process.
#[allow(
    unsafe_code,
    reason = "a clock that the standard library does not read"
)]
fn worked() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes the time to where it may.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
