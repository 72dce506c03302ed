//! A process that forks once it has a policy, as daemons do, leaves the threads behind.

#![cfg(target_os = "linux")]

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::child::in_child;
use common::*;
use openssl_resumption::{Resumption, TicketKeys};

#[test]
#[expect(unsafe_code, reason = "a fork is")]
fn keys_rotate_on_in_a_process_that_was_forked_off() {
    in_child("keys_rotate_on_in_a_process_that_was_forked_off", || {
        let keys = TicketKeys::random_every(Duration::from_secs(1));
        let context = context(&Resumption::stateless(keys.clone()));
        let client = Client::new(Kind::Tls13).unwrap();
        meet(&context, &client, None);

        // SAFETY: the child calls nothing that needs the threads it has not got.
        let forked = unsafe { libc::fork() };
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
    });
}
