//! Counts instructions of functions of a benchmark, which runs itself under valgrind.

#![allow(dead_code, reason = "each benchmark uses its own part")]

use std::env;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The instructions of all calls of the function that the pattern names, when this program is run with these
/// arguments.
pub(crate) fn count(function: &str, args: &[&str]) -> u64 {
    let profile = profile(function, args);
    let total = profile
        .lines()
        .find_map(|line| line.strip_prefix("totals: "));
    let total: u64 = total.and_then(|n| n.trim().parse().ok()).expect("a total");
    assert!(total > 0, "nothing was counted");
    total
}

/// The same for several functions in one run, none of which calls another: the pattern names them all, and the names
/// are the parts by which they are told apart.
pub(crate) fn count_each<const N: usize>(
    functions: &str,
    names: [&str; N],
    args: &[&str],
) -> [u64; N] {
    let profile = profile(functions, args);
    let mut counts = [0; N];
    let mut current = None;
    for line in profile.lines() {
        if let Some(function) = line.strip_prefix("fn=") {
            current = names.iter().position(|name| function.contains(name));
        } else if line.starts_with(|c: char| c.is_ascii_digit() || "+-*".contains(c)) {
            // A place in the source and what was spent there: by the function itself, or, after a line that says so, by
            // what it has called.
            let spent = line.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok());
            if let Some(current) = current {
                counts[current] += spent.expect("a number of instructions");
            }
        }
    }
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    counts
}

/// What callgrind writes of a run of this program while the functions that the pattern names are at work.
fn profile(functions: &str, args: &[&str]) -> String {
    // Some counts run at the same time.
    static COUNTS: AtomicUsize = AtomicUsize::new(0);
    let number = COUNTS.fetch_add(1, Relaxed);
    let out = env::temp_dir().join(format!("callgrind.{}.{number}", std::process::id()));
    let done = Command::new("valgrind")
        // Otherwise what was freed before decides how long an allocation searches, which is up to 1 % of a resumption and
        // differs from run to run.
        .env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=100")
        .args(["--quiet", "--tool=callgrind", "--compress-strings=no"])
        .arg(format!("--toggle-collect={functions}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(env::current_exe().expect("this program"))
        .args(args)
        .status()
        .expect("valgrind; on Debian: apt install valgrind");
    assert!(done.success(), "{args:?}: {done}");
    let profile = fs::read_to_string(&out).expect("what callgrind wrote");
    fs::remove_file(&out).expect("the file just read");
    profile
}
