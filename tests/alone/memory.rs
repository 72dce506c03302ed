//! What a full `MemoryStore` takes.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

#[path = "../common/mod.rs"]
mod common;
#[path = "../../examples/support/measure.rs"]
mod measure;

use std::sync::Arc;

use common::*;
use measure::{Last, allocated};
use openssl::sha::sha256;
use openssl_resumption::{MemoryStore, Resumption, SessionKey, SessionStore};

/// nginx counts on 262 bytes for one of its sessions. The only test here: others would allocate too.
#[test]
fn a_million_sessions_take_no_more_than_those_of_nginx() {
    let last = Arc::new(Last::default());
    let context = context(&Resumption::stateful(Arc::clone(&last)));
    meet(&context, &Client::new(Kind::Tls13).unwrap(), None);
    let record = last.record();

    let before = allocated();
    let sessions = 1_000_000;
    let store = MemoryStore::new(sessions, usize::MAX);
    for n in 0..sessions {
        let key = SessionKey::from(sha256(&n.to_be_bytes()));
        store.put(&key, record.clone()).unwrap();
    }
    let usage = store.usage().unwrap();
    assert_eq!(usage.entries + usage.evictions, sessions as u64);
    let each = (allocated() - before) as u64 / usage.entries;
    assert!(each <= 262, "{each} bytes each");
}
