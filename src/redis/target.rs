//! Where a set of connections leads, and how: what stays the same while connections come and go.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::RedisResult;
use tokio::task::JoinHandle;

use super::address::Address;
use super::dial::{Dial, Turns};
use super::link::Link;
use super::place::{Login, Place};

#[derive(Clone)]
pub(super) struct Target {
    pub(super) address: Address,
    /// Of the sentinels, if there are some.
    pub(super) sentinel_login: Login,
    pub(super) dial: Dial,
    /// How many nodes of a cluster it may have connections to: what names nodes may be hostile.
    pub(super) links: Turns,
    pub(super) failed: Failed,
}

/// The nodes of a cluster that could not be connected to a moment ago. Who is sent to one of these is told so at once, and
/// the questions to other nodes do not wait for it again and again.
#[derive(Default)]
pub(super) struct Failed(Mutex<Vec<Failure>>);

struct Failure {
    place: Place,
    at: Instant,
    why: String,
}

/// For so long nobody tries again.
const MOMENT: Duration = Duration::from_millis(500);

impl Failed {
    pub(super) fn note(&self, place: Place, why: String) {
        let at = Instant::now();
        let mut failed = self.0.lock();
        failed.retain(|failure| failure.at.elapsed() < MOMENT);
        failed.push(Failure { place, at, why });
    }

    /// Why there was no connection to this one.
    pub(super) fn why(&self, place: &Place) -> Option<String> {
        let failed = self.0.lock();
        let mut failed = failed.iter();
        let is_it = |it: &&Failure| it.place == *place && it.at.elapsed() < MOMENT;
        failed.find(is_it).map(|failure| failure.why.clone())
    }
}

/// Another process finds out by itself.
impl Clone for Failed {
    fn clone(&self) -> Self {
        Self::default()
    }
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
