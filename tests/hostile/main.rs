//! Whatever clients and stores come up with: a full handshake, or a failure that only the client at
//! fault sees, and never a session that was not to be resumed.

#[path = "../common/mod.rs"]
mod common;

mod alerts;
mod amplify;
mod bounds;
mod der;
mod elsewhere;
mod ends;
mod hellos;
mod liar;
mod panics;
mod sealed;
mod server;
mod stores;
mod strange;
mod tickets;

use std::time::{SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// Checks `cases` random values.
#[track_caller]
pub(crate) fn for_all<S: Strategy>(cases: u32, values: S, check: impl Fn(S::Value)) {
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let ran = TestRunner::new(config).run(&values, |value| {
        check(value);
        Ok(())
    });
    if let Err(error) = ran {
        panic!("{error}");
    }
}

/// The time in seconds.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}
