//! A process that forks once it has a policy, as daemons do, leaves the threads behind.

#![cfg(target_os = "linux")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::common::child::in_child;
use crate::common::programs::eventually;
use crate::common::*;
use openssl_resumption::{
    KeyError, KeySet, KeySource, MemoryStore, Resumption, Session, SessionKey, SessionStore,
    TicketKey, TicketKeys,
};

#[test]
fn keys_rotate_on_in_a_process_that_was_forked_off() {
    in_child("keys_rotate_on_in_a_process_that_was_forked_off", || {
        let keys = TicketKeys::random_every(Duration::from_secs(1));
        rotate_in_a_fork(&keys, || (), || ());
    });
}

/// Which the thread that is left behind was asking.
#[test]
fn keys_rotate_on_although_their_source_was_being_asked() {
    static ASKED: AtomicBool = AtomicBool::new(false);
    // In either process; the first keys are there before.
    static GO_ON: AtomicBool = AtomicBool::new(true);
    struct Slow;
    impl KeySource for Slow {
        fn load(&self, now: SystemTime) -> Result<KeySet, KeyError> {
            while !GO_ON.load(Relaxed) {
                ASKED.store(true, Relaxed);
                thread::yield_now();
            }
            Ok(KeySet::new(TicketKey::random()?, now))
        }
    }
    in_child(
        "keys_rotate_on_although_their_source_was_being_asked",
        || {
            let until_asked = || {
                GO_ON.store(false, Relaxed);
                while !ASKED.load(Relaxed) {
                    thread::yield_now();
                }
            };
            let go_on = || GO_ON.store(true, Relaxed);
            rotate_in_a_fork(&TicketKeys::from_source(Slow), until_asked, go_on);
        },
    );
}

#[expect(unsafe_code, reason = "a fork is")]
fn rotate_in_a_fork(keys: &TicketKeys, before: impl FnOnce(), after: impl FnOnce()) {
    let context = context(&Resumption::stateless(keys.clone()));
    let client = Client::new(Kind::Tls13).unwrap();
    meet(&context, &client, None);

    before();
    // SAFETY: the child calls nothing that needs the threads it has not got.
    let forked = unsafe { libc::fork() };
    after();
    if forked == 0 {
        // Whatever happens, it ends: with what it was asked.
        // SAFETY: sets a timer.
        unsafe { libc::alarm(30) };
        let before = format!("{keys:?}");
        let begun = Instant::now();
        let mut rotated = false;
        while !rotated && begun.elapsed() < Duration::from_secs(10) {
            meet(&context, &client, None);
            thread::sleep(Duration::from_millis(50));
            rotated = format!("{keys:?}") != before;
        }
        // SAFETY: ends the child, without what is left to do for its parent.
        unsafe { libc::_exit(if rotated { 0 } else { 1 }) };
    }
    let mut status = -1;
    // SAFETY: waits for the child, and writes its status to where it may.
    assert_eq!(unsafe { libc::waitpid(forked, &raw mut status, 0) }, forked);
    assert_eq!(status, 0, "no new key in the child");
}

/// The thread that takes it out is left behind, and another is started.
#[test]
#[expect(unsafe_code, reason = "a fork is")]
fn what_has_ended_goes_in_a_process_that_was_forked_off() {
    in_child(
        "what_has_ended_goes_in_a_process_that_was_forked_off",
        || {
            let store = MemoryStore::default();
            let put = |n: u8| {
                let ends = SystemTime::now() + Duration::from_secs(1);
                let ends = ends
                    .duration_since(SystemTime::UNIX_EPOCH)
                    .unwrap()
                    .as_secs();
                let record = [&[1], &ends.to_be_bytes()[..], &[n; 40]].concat();
                let session = Session::from_bytes(&record).unwrap();
                store.put(&SessionKey::from([n; 32]), session).unwrap();
            };
            put(0);
            // SAFETY: the child calls nothing that needs the threads it has not got.
            let forked = unsafe { libc::fork() };
            put(1);
            let gone = || store.usage().unwrap().expired == 2;
            let waited = catch_unwind(AssertUnwindSafe(|| eventually("all is gone", gone)));
            if forked == 0 {
                // SAFETY: ends the child, without what is left to do for its parent.
                unsafe { libc::_exit(i32::from(waited.is_err())) };
            }
            waited.unwrap();
            let mut status = -1;
            // SAFETY: waits for the child, and writes its status to where it may.
            assert_eq!(unsafe { libc::waitpid(forked, &raw mut status, 0) }, forked);
            assert_eq!(status, 0, "still there in the child");
        },
    );
}
