//! Where a set of connections leads, and how: what stays the same while connections come and go.

use redis::RedisResult;
use tokio::task::JoinHandle;

use super::address::Address;
use super::dial::Dial;
use super::link::Link;
use super::place::{Login, Place};

pub(super) struct Target {
    pub(super) address: Address,
    /// Of the sentinels, if there are some.
    pub(super) sentinel_login: Login,
    pub(super) dial: Dial,
}

impl Target {
    /// A connection to one of its servers, and what ends with it.
    pub(super) async fn link(&self, place: &Place) -> RedisResult<(Link, JoinHandle<()>)> {
        let Address {
            login, database, ..
        } = &self.address;
        Link::open(&self.dial, place, login, *database).await
    }
}
