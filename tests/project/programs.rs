//! What the tests need of a system is what the README tells to install, and what `.ci/run` installs.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::common::child::full_name;
use crate::common::programs::{NEEDED, Over, end_within, missing, output, start};

fn file(name: &str) -> String {
    std::fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// What is there to build and to try, not to test.
const TO_BUILD: [&str; 6] = ["git", "cargo", "gcc", "pkg-config", "libssl-dev", "curl"];

#[test]
fn the_readme_tells_to_install_what_the_tests_need() {
    let readme = file("README.md");
    let lines = readme.split("apt-get install ").skip(1);
    let packages: Vec<Vec<&str>> = lines
        .map(|line| line.lines().next().unwrap().split(' ').collect())
        .collect();
    // To build and to try, for the tests, and for the benchmarks.
    let [first, tests, _] = &packages[..] else {
        panic!("{packages:?}");
    };
    let told: BTreeSet<_> = first.iter().chain(tests).copied().collect();
    let needed = NEEDED.iter().map(|(_, package)| *package).chain(TO_BUILD);
    assert_eq!(told, needed.collect());
}

#[test]
fn what_ci_installs_has_all_that_the_tests_need() {
    let Ok(run) = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/.ci/run")) else {
        // The published package has no `.ci`.
        return;
    };
    // What is behind the check, which may name a program as its package is called.
    let needs = run
        .lines()
        .filter_map(|line| line.strip_prefix("need '")?.split_once("' "));
    let installed: BTreeSet<_> = needs
        .flat_map(|(_, packages)| packages.split(' '))
        .collect();
    for (what, package) in NEEDED {
        assert!(installed.contains(package), "{what}: {package}");
    }
}

#[test]
fn a_program_that_is_missing_is_named_with_its_package() {
    assert!(missing("nginx").contains("apt-get install nginx"));
    let start = || drop(start(&mut Command::new("no-such-program")));
    let panic = catch_unwind(start).unwrap_err();
    let said = panic.downcast_ref::<String>().unwrap();
    assert!(said.contains("no-such-program is missing"), "{said}");
}

#[test]
fn what_a_program_says_is_read_to_its_end() {
    let mut echo = Command::new("sh");
    echo.args(["-c", "echo one; sleep 0.1; echo two"]);
    let said = output(start(echo.stdout(Stdio::piped())), "sh");
    assert_eq!(said.stdout, b"one\ntwo\n");
}

/// A test that waits for what never comes.
#[test]
fn a_binary_that_hangs_ends_and_says_so() {
    const CHILD: &str = "OPENSSL_RESUMPTION_HANGS";
    if std::env::var_os(CHILD).is_some() {
        end_within(Duration::from_millis(100));
        loop {
            thread::park();
        }
    }
    let name = "a_binary_that_hangs_ends_and_says_so";
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--exact", &full_name(name), "--nocapture"])
        .env(CHILD, "1");
    child.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = output(start(&mut child), name);
    assert_eq!(output.status.code(), Some(101));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the machine is too busy"), "{said}");
}

/// Each program is started where its absence is told.
#[test]
fn tests_start_programs_in_one_place() {
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/tests");
    let mut folders = vec![std::path::PathBuf::from(tests)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("programs.rs") {
                let code = std::fs::read_to_string(&path).unwrap();
                let stray = code.lines().find(|line| {
                    [".spawn().unwrap", ".output().unwrap", ".status().unwrap"]
                        .iter()
                        .any(|call| line.contains(call))
                });
                assert_eq!(stray, None, "{}", path.display());
            }
        }
    }
}

/// Without the guard this one runs for ever.
#[test]
fn a_test_that_panics_ends_its_threads() {
    let over = Over::default();
    let test = AssertUnwindSafe(|| {
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.is() {
                    thread::yield_now();
                }
            });
            let _until_then = over.when_dropped();
            panic!("as a test does that fails");
        });
    });
    assert!(catch_unwind(test).is_err());
}
