//! Registers of ClientHellos alone: calls a second, of hellos that are new; and what one in Redis takes beside a plain
//! `SET NX PX`. Lines for `report.py`; medians of the runs.
//!
//! Whether Redis answers that a hello is the first or that it is warming up, the script has done the same.

#![allow(missing_docs, reason = "no public interface")]

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use openssl::sha::sha256;
use openssl_resumption::{HelloId, MemoryRegister, RedisStore, Registered, ReplayRegister};
use redis::Connection;

#[path = "../tests/common/mod.rs"]
mod common;
#[allow(dead_code, reason = "tests use the rest")]
#[path = "../tests/redis/server.rs"]
mod server;

use common::programs::eventually;
use server::Redis;

const THREADS: [usize; 2] = [1, 2];

/// As with the default clock skew.
const LIVES: Duration = Duration::from_secs(72);

const SCRIPT: &str = include_str!("../src/store/redis_store/history.lua");

/// Says whether a hello is new.
type Call<'a> = Box<dyn FnMut(&HelloId) -> bool + 'a>;

/// One for each thread.
type Make<'a> = dyn Fn() -> Call<'a> + Sync + 'a;

fn main() {
    println!("register,1 thread,2 threads,us of Redis");
    memory();
    in_redis();
}

/// A million into an empty register, which grows.
fn memory() {
    let hellos = hellos(0, 1_000_000);
    let runs = THREADS.map(|threads| {
        let run = |_| {
            let register = MemoryRegister::new(2 * hellos.len()).sessions_end_with_process();
            rate(&hellos, threads, &|| {
                Box::new(|hello| {
                    register.register(hello, LIVES).expect("no error") == Registered::First
                })
            })
        };
        (0..5).map(run).collect()
    });
    line("**MemoryRegister**", runs, "");
}

/// A few thousand a run, in turn, because the machine changes.
fn in_redis() {
    let redis = Redis::start("register");
    let options = RedisStore::connect(&redis.url()).expect("an address");
    // A busy machine is not to open the circuit.
    let options = options.deadline(Duration::from_secs(10));
    let register = options.replay_register();
    eventually("a connection", || {
        register.register(&HelloId::from([0; 32]), LIVES).is_ok()
    });
    let lives = LIVES.as_millis() as u64;
    let ours = || -> Call<'_> {
        Box::new(|hello| register.register(hello, LIVES).expect("an answer") != Registered::Before)
    };
    let script = || -> Call<'_> {
        let mut connection = connect(&redis);
        Box::new(move |hello| {
            let mut eval = redis::cmd("EVAL");
            eval.arg(SCRIPT)
                .arg(1)
                .arg("seen")
                .arg(lives)
                .arg(half(hello));
            let seen: i64 = eval.query(&mut connection).expect("an answer");
            seen != 0
        })
    };
    let set = || -> Call<'_> {
        let mut connection = connect(&redis);
        Box::new(move |hello| {
            let mut set = redis::cmd("SET");
            set.arg(half(hello)).arg("").arg("NX").arg("PX").arg(lives);
            let set: Option<String> = set.query(&mut connection).expect("an answer");
            set.is_some()
        })
    };
    let makers: [&Make<'_>; 3] = [&ours, &script, &set];
    let mut runs = [(); 3].map(|()| THREADS.map(|_| Vec::new()));
    let mut next = 0;
    for _ in 0..11 {
        for (make, runs) in makers.into_iter().zip(&mut runs) {
            for (threads, runs) in THREADS.into_iter().zip(runs) {
                runs.push(rate(&hellos(next, 4_000), threads, make));
                next += 4_000;
            }
        }
    }
    let [ours, script, set] = runs;
    let [of_eval, of_set] = of_redis(&redis);
    line("**RedisRegister**", ours, &of_eval);
    line("its script on a connection", script, &of_eval);
    line("`SET NX PX` on a connection", set, &of_set);
}

fn connect(redis: &Redis) -> Connection {
    let client = redis::Client::open(redis.url()).expect("an address");
    client.get_connection().expect("a connection")
}

fn half(hello: &HelloId) -> &[u8] {
    &hello.as_bytes()[..16]
}

/// How many microseconds a call takes Redis itself, on its only thread.
fn of_redis(redis: &Redis) -> [String; 2] {
    let mut info = redis::cmd("INFO");
    let info = info.arg("commandstats").query(&mut connect(redis));
    let info: String = info.expect("an answer");
    ["eval", "set"].map(|command| {
        let stats = info.split_once(&format!("cmdstat_{command}:"));
        let each = stats.and_then(|(_, rest)| rest.split_once("usec_per_call="));
        let (_, each) = each.expect("its figures");
        each.split(',').next().expect("a figure").to_owned()
    })
}

/// Medians.
fn line(name: &str, runs: [Vec<u64>; 2], of_redis: &str) {
    let [one, two] = runs.map(|mut runs| {
        runs.sort_unstable();
        runs[runs.len() / 2]
    });
    println!("{name},{one},{two},{of_redis}");
}

fn hellos(first: u64, number: u64) -> Vec<HelloId> {
    (first..first + number)
        .map(|n| sha256(&n.to_be_bytes()).into())
        .collect()
}

/// How many hellos a second so many threads call for together; all are new.
fn rate(hellos: &[HelloId], threads: usize, make: &Make<'_>) -> u64 {
    let barrier = Barrier::new(threads);
    let work = |hellos: &[HelloId]| {
        let mut is_new = make();
        barrier.wait();
        let begun = Instant::now();
        hellos.iter().for_each(|hello| assert!(is_new(hello)));
        (begun, Instant::now())
    };
    let (begun, ended): (Vec<_>, Vec<_>) = thread::scope(|scope| {
        let workers: Vec<_> = hellos
            .chunks(hellos.len().div_ceil(threads))
            .map(|hellos| scope.spawn(|| work(hellos)))
            .collect();
        let times = workers.into_iter().map(|worker| worker.join());
        times.map(|time| time.expect("no panic")).unzip()
    });
    let begun = begun.into_iter().min().expect("a thread");
    let ended = ended.into_iter().max().expect("a thread");
    (hellos.len() as f64 / (ended - begun).as_secs_f64()) as u64
}
