//! The server's instructions for a resumed handshake, counted by callgrind.
//!
//! Each handshake resumes a session that has just been made and was not looked up before. This program runs
//! itself under valgrind, once for each server, and writes lines for `report.py`; an argument is the number of
//! handshakes that are counted together, 100 by default. `instructions tls12 stateful 100` does the handshakes
//! of one server. (gungraun could run it too, but brings a hundred packages and a runner to install.)

#![allow(missing_docs, reason = "no public interface")]

use std::env;
use std::thread;

#[path = "support/callgrind.rs"]
mod callgrind;
mod support;

use support::{CASES, Case, Pair, Variant, counted, uncounted};

fn main() {
    let args: Vec<_> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let number = |arg: &str| arg.parse().expect("a number of handshakes");
    if let [case, variant, handshakes] = args[..] {
        let find = |all: &[Variant]| all.iter().copied().find(|v| v.to_string() == variant);
        let case = CASES
            .into_iter()
            .find(|c| c.to_string() == case)
            .expect("a case");
        let variant = find(&Variant::ALL).expect("a variant");
        return run(variant, case, number(handshakes));
    }
    let handshakes = args.first().map_or(100, |arg| number(arg));
    print!("server");
    CASES.iter().for_each(|case| print!(",{case}"));
    println!();
    for variant in Variant::ALL {
        // All cases at the same time: load changes times, not counts.
        let counts = thread::scope(|scope| {
            let counting = CASES.map(|case| scope.spawn(move || count(variant, case, handshakes)));
            counting.map(|count| count.join().expect("a count"))
        });
        print!("{variant}");
        counts.iter().for_each(|count| print!(",{count}"));
        println!();
    }
}

fn run(variant: Variant, case: Case, handshakes: u64) {
    let pair = Pair::new(variant, case);
    // What is done only once: what OpenSSL fetches, what is hashed of CA sets.
    (0..3).for_each(|_| drop(pair.full_then_resumed(uncounted)));
    (0..handshakes).for_each(|_| drop(pair.full_then_resumed(counted)));
}

/// The instructions of one handshake.
fn count(variant: Variant, case: Case, handshakes: u64) -> u64 {
    let args = [
        case.to_string(),
        variant.to_string(),
        handshakes.to_string(),
    ];
    callgrind::count("*support::counted*", &args.each_ref().map(String::as_str)) / handshakes
}
