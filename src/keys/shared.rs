//! What the handles on a ring of keys share: the ring, its source, and the thread that looks after it.

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, ReentrantMutex, RwLock};

use super::error::KeyError;
use super::refresher::{Refresh, Refresher};
use super::ring::{Revoked, Ring};
use super::source::{KeySet, KeySource};
use crate::base::{DropShield, catch};

pub(super) struct Shared {
    pub(super) source: DropShield<Box<dyn KeySource>>,
    pub(super) ring: RwLock<Option<Arc<Ring>>>,
    pub(super) turning: Turning,
    /// Held while the ring is replaced.
    pub(super) revoked: Mutex<Revoked>,
    /// The longest lifetime, in seconds, among the policies that use the ring.
    pub(super) lifetime: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) said: Mutex<Said>,
    pub(super) refresher: Refresher,
    pub(super) this: Weak<Self>,
}

/// What is held while the source is asked. True meanwhile: a source may come back here, on the same
/// thread.
type Asking = ReentrantMutex<Cell<bool>>;

/// The one for this process: a fork may come while a thread that it leaves behind holds it.
#[derive(Default)]
pub(super) struct Turning(Mutex<(u32, Arc<Asking>)>);

impl Turning {
    pub(super) fn asking(&self) -> Arc<Asking> {
        let mut current = self.0.lock();
        if current.0 != process::id() {
            *current = (process::id(), Arc::default());
        }
        Arc::clone(&current.1)
    }
}

/// What the source said when it was asked last.
#[derive(Default)]
pub(super) struct Said {
    pub(super) error: Option<KeyError>,
    pub(super) warning: Option<String>,
}

impl Shared {
    pub(super) fn new(source: impl KeySource) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            source: DropShield::new(Box::new(source)),
            ring: RwLock::default(),
            turning: Turning::default(),
            revoked: Mutex::default(),
            lifetime: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            said: Mutex::default(),
            refresher: Refresher::default(),
            this: Weak::clone(this),
        })
    }

    /// The ring; if it is time to ask the source, the thread that does is told.
    pub(super) fn ring_at(&self, now: SystemTime) -> Option<Arc<Ring>> {
        let ring = self.ring.read().clone()?;
        if ring.wants_keys(now) {
            self.refresher.wake(&self.this);
        }
        Some(ring)
    }

    /// Asks the source for the next ring, or asks it again later.
    pub(super) fn reload(&self, asking: &Cell<bool>, now: SystemTime) {
        match self.load(asking, now) {
            Ok(set) => self.turn(set, now),
            Err(_) => self.replace(|ring, _| Some(ring?.postponed(now))),
        }
    }

    pub(super) fn lifetime(&self) -> Duration {
        Duration::from_secs(self.lifetime.load(Relaxed))
    }

    pub(super) fn load(&self, asking: &Cell<bool>, now: SystemTime) -> Result<KeySet, KeyError> {
        let loaded = self.ask(asking, |source| source.load(now));
        let mut said = self.said.lock();
        match &loaded {
            Ok(set) => {
                said.error = None;
                said.warning.clone_from(&set.warning);
            }
            Err(error) => {
                said.error = Some(error.clone());
                self.failures.fetch_add(1, Relaxed);
            }
        }
        loaded
    }

    /// Asks the source; its panic is its failure.
    pub(super) fn ask<T>(
        &self,
        asking: &Cell<bool>,
        what: impl FnOnce(&dyn KeySource) -> Result<T, KeyError>,
    ) -> Result<T, KeyError> {
        if asking.replace(true) {
            return Err(KeyError::new(
                "a source of ticket keys asked for its own keys",
            ));
        }
        let answer = catch(AssertUnwindSafe(|| what(&**self.source)));
        asking.set(false);
        answer.unwrap_or_else(|| Err(KeyError::new("the source of the ticket keys panicked")))
    }

    pub(super) fn turn(&self, set: KeySet, now: SystemTime) {
        let lifetime = self.lifetime();
        self.replace(|ring, revoked| {
            let next = Ring::next(ring, set, revoked, now);
            Some(next.without_expired(now, lifetime).unwrap_or(next))
        });
    }

    pub(super) fn replace(&self, next: impl FnOnce(Option<&Ring>, &mut Revoked) -> Option<Ring>) {
        let mut revoked = self.revoked.lock();
        let ring = self.ring.read().clone();
        if let Some(next) = next(ring.as_deref(), &mut revoked) {
            *self.ring.write() = Some(Arc::new(next));
        }
    }
}

impl Refresh for Shared {
    /// Does what is due at `now`.
    fn refresh(&self, now: SystemTime) {
        let asking = self.turning.asking();
        let asking = asking.lock();
        if self
            .ring
            .read()
            .as_ref()
            .is_some_and(|ring| ring.wants_keys(now))
        {
            self.reload(&asking, now);
        }
        self.replace(|ring, _| ring?.without_expired(now, self.lifetime()));
    }

    /// When there is something to do.
    fn next_event(&self) -> Option<SystemTime> {
        let ring = self.ring.read().clone()?;
        let expiry = ring.next_expiry(self.lifetime());
        expiry.into_iter().chain([ring.load_again()]).min()
    }
}
