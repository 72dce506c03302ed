//! Sessions and ticket keys in a real Redis, with all that can go wrong there: handshakes go on, at
//! worst as full ones and by a bounded time later, and resumption comes back by itself.
//!
//! With `REDIS_SERVER=valkey-server` the same on Valkey.

#![cfg(all(feature = "redis", unix))]

#[path = "../common/mod.rs"]
mod common;

mod acl;
mod address;
mod answers;
mod deadlines;
mod errors;
mod faults;
mod fleet;
mod fork;
#[cfg(target_os = "linux")]
mod guests;
mod keys;
mod load;
mod many;
mod once;
mod promotions;
mod proxy;
mod races;
mod register;
mod register_room;
mod replays;
mod room;
mod rotation;
mod server;
mod sizing;
mod tiered;
mod tls_desync;
mod topology;
mod topology_fixtures;
mod under_load;

use std::time::Duration;

/// The default of `RedisStore`.
const DEADLINE: Duration = Duration::from_millis(50);

/// What the servers seal under.
const SECRET: [u8; 32] = [0x5e; 32];
