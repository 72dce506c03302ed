//! The server's instructions for a resumed TLS 1.3 handshake with a request, counted by callgrind: the request comes
//! as early data, or after the handshake; and how many of them are those of the callback that says whether early data
//! is accepted, in which the register is asked.
//!
//! Lines for `report.py`; arguments are the number of handshakes that are counted together, 30 by default, and the rows
//! to count. `early stateful early 30` does the handshakes of one.

#![allow(missing_docs, reason = "no public interface")]

use std::env;
use std::thread;

use openssl::sha::sha256;
use openssl::ssl::{SslAcceptorBuilder, SslOptions, SslSessionCacheMode};
use openssl_resumption::{
    EarlyData, HelloId, MemoryRegister, MemoryStore, ReplayRegister, Resumption,
    SslContextBuilderExt, TicketKeys,
};

#[path = "support/callgrind.rs"]
mod callgrind;
mod support;

use support::{Case, Kind, Pair, counted, uncounted};

/// *single use* needs no register. OpenSSL's cache has its own protection; OpenSSL's tickets here have none, as nginx's.
const ROWS: [&str; 6] = [
    "internal",
    "tickets",
    "stateful",
    "stateless",
    "hybrid",
    "single use",
];

const WAYS: [&str; 2] = ["late", "early"];

const COUNTED: &str = "*support::counted*";

/// The callback.
const CALLBACK: &str = "*trampolines::allow_early_data*";

/// How many hellos the register has when the handshakes begin.
const BEFORE: u64 = 10_000;

const MAX: u32 = 16 * 1024;

fn main() {
    let args: Vec<_> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let number = |arg: &str| arg.parse::<u64>().expect("a number of handshakes");
    if let [row, way, handshakes] = args[..] {
        if WAYS.contains(&way) {
            return run(row, way, number(handshakes));
        }
    }
    let (handshakes, rows) = match args.split_first() {
        Some((handshakes, rows)) => (number(handshakes), rows.to_vec()),
        None => (30, Vec::new()),
    };
    let chosen = |row: &&str| rows.is_empty() || rows.contains(row);
    println!("server,late,early,callback");
    for row in ROWS.into_iter().filter(chosen) {
        // Load changes times, not counts.
        let [late, early, callback] = thread::scope(|scope| {
            let late = scope.spawn(|| count(COUNTED, row, "late", handshakes) / handshakes);
            let early = scope.spawn(|| count(COUNTED, row, "early", handshakes) / handshakes);
            let callback = scope.spawn(|| callback(row, handshakes));
            [late, early, callback].map(|count| count.join().expect("a count"))
        });
        println!("{row},{late},{early},{callback}");
    }
}

fn count(function: &str, row: &str, way: &str, handshakes: u64) -> u64 {
    callgrind::count(function, &[row, way, &handshakes.to_string()])
}

/// The instructions of the callback in one handshake; OpenSSL alone has none.
fn callback(row: &str, handshakes: u64) -> u64 {
    if ["internal", "tickets"].contains(&row) {
        return 0;
    }
    // The handshakes before those that count call it too.
    let [more, fewer] = [handshakes, 0].map(|number| count(CALLBACK, row, "early", number));
    (more - fewer) / handshakes
}

fn run(row: &str, way: &str, handshakes: u64) {
    let policy = policy(row);
    let pair = Pair::with(Case(Kind::Tls13, false), |builder| {
        match &policy {
            Some(policy) => builder.set_resumption(policy).expect("a policy"),
            None => alone(row, builder)?,
        }
        Ok(())
    });
    let resumed = match way {
        "early" => Pair::asked_early,
        _ => Pair::asked_late,
    };
    // What is done only once, and then what is counted.
    for (number, side) in [(3, uncounted as support::Side), (handshakes, counted)] {
        for _ in 0..number {
            let session = pair.full(uncounted);
            resumed(&pair, &session, side);
        }
    }
    if let Some(policy) = policy {
        let accepted = policy.stats().early_data(EarlyData::Accepted);
        let expected = if way == "early" { handshakes + 3 } else { 0 };
        assert_eq!(accepted, expected);
    }
}

fn policy(row: &str) -> Option<Resumption> {
    let store = MemoryStore::default;
    let policy = match row {
        "stateful" => Resumption::stateful(store()),
        "stateless" => Resumption::stateless(TicketKeys::random()),
        "hybrid" => Resumption::hybrid(store(), TicketKeys::random()),
        "single use" => Resumption::stateful(store()).single_use(true),
        _ => return None,
    };
    let register = MemoryRegister::default().sessions_end_with_process();
    let lives = std::time::Duration::from_secs(3_600);
    for n in 0..BEFORE {
        let hello = HelloId::from(sha256(&n.to_be_bytes()));
        register.register(&hello, lives).expect("no errors");
    }
    Some(policy.early_data(MAX).replay_register(register))
}

/// OpenSSL without this library.
fn alone(row: &str, builder: &mut SslAcceptorBuilder) -> Result<(), openssl::error::ErrorStack> {
    if row == "tickets" {
        // SSL_OP_NO_ANTI_REPLAY, without which sessions with early data are not in tickets.
        builder.set_options(SslOptions::from_bits_retain(1 << 24));
        builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    }
    builder.set_max_early_data(MAX)?;
    builder.set_session_id_context(b"benchmark")
}
