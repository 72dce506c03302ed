//! The end of a store, and of a process.

use std::time::{Duration, Instant};

use openssl_resumption::{SessionStore, WriteBehind};

use super::found;
use super::held::*;

#[test]
fn dropping_the_store_does_what_waits_and_ends_the_threads() {
    let held = Held::default();
    let ends = held.ends();
    let store = WriteBehind::new(held.clone()).workers(1);
    for n in 0..100 {
        store.put(&key(n), session(n)).unwrap();
    }
    drop(store);
    assert_eq!(held.state().sessions.len(), 100);
    assert_eq!(held.owners(), 1);
    ends.recv_timeout(LONG).unwrap();
}

#[test]
fn an_idle_store_is_dropped_at_once() {
    let held = Held::default();
    let ends = held.ends();
    drop(WriteBehind::new(held.clone()));
    let store = WriteBehind::new(held.clone());
    store.put(&key(0), session(0)).unwrap();
    assert_eq!(store.flush(LONG), 0);
    let begun = Instant::now();
    drop(store);
    assert!(
        begun.elapsed() < Duration::from_millis(500),
        "or the machine is too busy"
    );
    assert_eq!(held.owners(), 1);
    ends.recv_timeout(LONG).unwrap();
}

#[test]
fn dropping_it_over_a_store_that_hangs_takes_no_more_than_a_second() {
    let held = Held::default();
    let ends = held.ends();
    let store = WriteBehind::new(held.clone()).workers(2);
    held.hold(Stop::Before);
    for n in 0..5 {
        store.put(&key(n), session(n)).unwrap();
    }
    held.wait_stopped(2);
    let begun = Instant::now();
    drop(store);
    let took = begun.elapsed();
    assert!(
        took < Duration::from_secs(1),
        "{took:?}, or the machine is too busy"
    );

    // Its threads end with the calls that hang, and let go of the inner store.
    assert_eq!(held.owners(), 2);
    held.release();
    ends.recv_timeout(LONG).unwrap();
    ends.recv_timeout(LONG).unwrap();
    assert_eq!(held.owners(), 1);
    assert_eq!(held.state().sessions.len(), 2, "what waited was dropped");
}

/// How many threads of this name wait for something.
#[cfg(target_os = "linux")]
fn asleep(name: &str) -> usize {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let is_asleep = |thread: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(thread.path().join("stat"));
        stat.is_ok_and(|stat| stat.contains(&format!(" ({name}) S ")))
    };
    threads.map(is_asleep).filter(|asleep| *asleep).count()
}

#[cfg(target_os = "linux")]
#[test]
#[expect(unsafe_code, reason = "a fork is")]
fn a_process_that_was_forked_off_writes_on_and_leaves_what_waits_to_its_parent() {
    let name = "ends::a_process_that_was_forked_off_writes_on_and_leaves_what_waits_to_its_parent";
    crate::common::child::in_child(name, || {
        let held = Held::default();
        let store = WriteBehind::new(held.clone()).workers(2);
        // One thread hangs in a write when the process forks, another is idle, one write waits.
        held.hold(Stop::Before);
        store.put(&key(0), session(0)).unwrap();
        held.wait_stopped(1);
        store.put(&key(0), session(1)).unwrap();
        let begun = Instant::now();
        while asleep("session-writes") < 2 {
            assert!(
                begun.elapsed() < LONG,
                "there are no two threads, or the machine is too busy"
            );
            std::thread::yield_now();
        }

        // SAFETY: the child calls nothing that needs the threads it has not got.
        let forked = unsafe { libc::fork() };
        if forked == 0 {
            // Whatever happens, it ends: with what it was asked.
            // SAFETY: sets a timer.
            unsafe { libc::alarm(30) };
            held.release();
            let left = found(store.take(&key(0)));
            let empty = store.flush(Duration::ZERO) == 0;
            store.put(&key(1), session(2)).unwrap();
            let written = store.flush(LONG) == 0 && found(held.get(&key(1))) == Some(2);
            let begun = Instant::now();
            drop(store);
            let ended = begun.elapsed() < Duration::from_millis(500);
            let well = left.is_none() && empty && written && ended;
            // SAFETY: ends the child, without what is left to do for its parent.
            unsafe { libc::_exit(if well { 0 } else { 1 }) };
        }
        let mut status = -1;
        // SAFETY: waits for the child, and writes its status to where it may.
        assert_eq!(unsafe { libc::waitpid(forked, &raw mut status, 0) }, forked);
        assert_eq!(status, 0, "the child's store, or the machine is too busy");
        assert_eq!(found(store.take(&key(0))), Some(1));
        held.release();
    });
}
