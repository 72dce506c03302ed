//! Counts instructions of one function of a benchmark, which runs itself under valgrind.

use std::env;
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The instructions of all calls of the function that the pattern names, when this program is run with these
/// arguments.
pub(crate) fn count(function: &str, args: &[&str]) -> u64 {
    // Some counts run at the same time.
    static COUNTS: AtomicUsize = AtomicUsize::new(0);
    let number = COUNTS.fetch_add(1, Relaxed);
    let out = env::temp_dir().join(format!("callgrind.{}.{number}", std::process::id()));
    let done = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind"])
        .arg(format!("--toggle-collect={function}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(env::current_exe().expect("this program"))
        .args(args)
        .status()
        .expect("valgrind; on Debian: apt install valgrind");
    assert!(done.success(), "{args:?}: {done}");
    let profile = fs::read_to_string(&out).expect("what callgrind wrote");
    fs::remove_file(&out).expect("the file just read");
    let total = profile
        .lines()
        .find_map(|line| line.strip_prefix("totals: "));
    let total: u64 = total.and_then(|n| n.trim().parse().ok()).expect("a total");
    assert!(total > 0, "nothing was counted");
    total
}
