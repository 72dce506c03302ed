//! The keys in use.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::key::TicketKey;
use super::source::KeySet;

/// A clock that jumped back by more than this makes the ring ask for keys again: "ask again at"
/// may then be far off. Less is the difference between the clocks of two threads.
const CLOCK_JUMP: Duration = Duration::from_secs(60);

/// How many keys that only open a ring holds.
pub(super) const MAX_RETIRED: usize = 256;

/// A source is not asked again sooner than this.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// What a key is in the ring at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Opens only, and will seal.
    Upcoming,
    /// Seals and opens.
    Active,
    /// Opens only.
    Retired,
}

/// What is not to be used again, should the source name it.
#[derive(Default)]
pub(super) struct Revoked {
    names: Vec<[u8; 16]>,
    /// When, if the source may name keys of that time which the ring did not hold any more.
    at: Option<SystemTime>,
}

impl Revoked {
    /// Revokes the keys of a ring.
    pub(super) fn add(&mut self, ring: &Ring) {
        self.names.extend(ring.names());
    }

    /// Revokes all that was before `now`.
    pub(super) fn add_all_before(&mut self, now: SystemTime) {
        self.at = self.at.max(Some(now));
    }

    fn has(&self, key: &TicketKey, sealed_until: Option<SystemTime>, now: SystemTime) -> bool {
        self.names.contains(key.name())
            || self.at.is_some_and(|at| {
                // A clock that was put back makes old keys new.
                now < at || sealed_until.is_some_and(|until| until <= at)
            })
    }
}

/// The keys in use: a snapshot that is replaced, never changed, so that handshakes share it
/// without a lock. Which of its keys is what follows from the time alone.
#[derive(Clone)]
pub(super) struct Ring {
    /// The keys that seal one after the other, each from its time on, and so in that order.
    seals: Vec<(Arc<TicketKey>, SystemTime)>,
    /// When the last of them stops, if ever.
    seals_until: Option<SystemTime>,
    /// The keys that only open, each until the tickets have expired that were sealed by its time.
    opens: Vec<(Arc<TicketKey>, Option<SystemTime>)>,
    /// Since when the key that sealed at that time had been sealing.
    asked: SystemTime,
    since: SystemTime,
    load_again: SystemTime,
}

impl Ring {
    /// The ring after `previous`: the keys of `set` but those that are revoked.
    pub(super) fn next(
        previous: Option<&Self>,
        set: KeySet,
        revoked: &Revoked,
        now: SystemTime,
    ) -> Self {
        let before = previous.and_then(|ring| Some((ring.active(now)?, ring.since(now))));
        let since = match before {
            Some((key, since)) if key.name() == set.seals.name() => since.min(now),
            _ => now,
        };
        let mut seals = set.upcoming;
        seals.sort_by_key(|(_, from)| *from);
        seals.insert(0, (set.seals, UNIX_EPOCH));
        seals.retain(|(key, _)| !revoked.has(key, None, now));
        let mut opens = set.opens;
        // First, so that what is left out stays out whatever is revoked.
        opens.truncate(MAX_RETIRED);
        opens.retain(|(key, until)| !revoked.has(key, *until, now));
        Self {
            seals,
            seals_until: set.seals_until,
            opens,
            asked: now,
            since,
            load_again: set.load_again.max(now + RETRY),
        }
    }

    /// The same keys; the source is to be asked at once.
    pub(super) fn due(&self, now: SystemTime) -> Self {
        Self {
            load_again: now,
            ..self.clone()
        }
    }

    /// A ring without keys.
    pub(super) fn empty(now: SystemTime) -> Self {
        Self {
            seals: Vec::new(),
            seals_until: None,
            opens: Vec::new(),
            asked: now,
            since: now,
            load_again: now + RETRY,
        }
    }

    /// The same keys: the source, asked at `now`, gave no others.
    pub(super) fn postponed(&self, now: SystemTime) -> Self {
        Self {
            asked: now,
            load_again: now + RETRY,
            ..self.clone()
        }
    }

    /// Without the keys whose last ticket has expired; `None` if there are none.
    pub(super) fn without_expired(&self, now: SystemTime, lifetime: Duration) -> Option<Self> {
        if self.next_expiry(lifetime).is_none_or(|next| now < next) {
            return None;
        }
        let open = |until: Option<SystemTime>| opens_until(until, lifetime).is_none_or(|t| now < t);
        let seals = (0..self.seals.len()).filter(|i| open(self.sealed_until(*i)));
        let opens = self.opens.iter().filter(|(_, until)| open(*until));
        Some(Self {
            seals: seals.map(|i| self.seals[i].clone()).collect(),
            opens: opens.cloned().collect(),
            ..self.clone()
        })
    }

    /// When the next key expires.
    pub(super) fn next_expiry(&self, lifetime: Duration) -> Option<SystemTime> {
        let seals = (0..self.seals.len()).map(|i| self.sealed_until(i));
        let opens = self.opens.iter().map(|(_, until)| *until);
        seals
            .chain(opens)
            .filter_map(|until| opens_until(until, lifetime))
            .min()
    }

    /// Whether the source is to be asked at `now`.
    pub(super) fn wants_keys(&self, now: SystemTime) -> bool {
        self.load_again <= now || now + CLOCK_JUMP < self.asked
    }

    pub(super) fn load_again(&self) -> SystemTime {
        self.load_again
    }

    /// The key that seals.
    pub(super) fn active(&self, now: SystemTime) -> Option<&Arc<TicketKey>> {
        Some(&self.seals[self.active_index(now)?].0)
    }

    /// For how long the active key has been sealing.
    pub(super) fn age(&self, now: SystemTime) -> Option<Duration> {
        self.active(now)?;
        Some(now.duration_since(self.since(now)).unwrap_or_default())
    }

    /// The key of this name, if it opens tickets that live for `lifetime`.
    pub(super) fn find(
        &self,
        name: &[u8; 16],
        now: SystemTime,
        lifetime: Duration,
    ) -> Option<(&Arc<TicketKey>, Standing)> {
        let open = |until: Option<SystemTime>| opens_until(until, lifetime).is_none_or(|t| now < t);
        if let Some(i) = self.seals.iter().position(|(key, _)| key.name() == name) {
            let (key, from) = &self.seals[i];
            let standing = match self.active_index(now) {
                Some(active) if active == i => Standing::Active,
                _ if now < *from => Standing::Upcoming,
                _ => Standing::Retired,
            };
            return open(self.sealed_until(i)).then_some((key, standing));
        }
        let (key, until) = self.opens.iter().find(|(key, _)| key.name() == name)?;
        open(*until).then_some((key, Standing::Retired))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &[u8; 16]> {
        let seals = self.seals.iter().map(|(key, _)| key.name());
        seals.chain(self.opens.iter().map(|(key, _)| key.name()))
    }

    fn active_index(&self, now: SystemTime) -> Option<usize> {
        let i = self.seals.iter().rposition(|(_, from)| *from <= now)?;
        self.sealed_until(i)
            .is_none_or(|until| now < until)
            .then_some(i)
    }

    fn since(&self, now: SystemTime) -> SystemTime {
        match self.active_index(now) {
            Some(i) if self.seals[i].1 > UNIX_EPOCH => self.seals[i].1,
            _ => self.since,
        }
    }

    /// When the key seals or has sealed the last time, if it ever stops.
    fn sealed_until(&self, i: usize) -> Option<SystemTime> {
        let next = self.seals.get(i + 1).map(|(_, from)| *from);
        next.or(self.seals_until)
    }
}

/// When the last ticket has expired that was sealed by `until`.
fn opens_until(until: Option<SystemTime>, lifetime: Duration) -> Option<SystemTime> {
    until?.checked_add(lifetime)
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn keys<T>(list: &[(Arc<TicketKey>, T)]) -> Vec<&TicketKey> {
            list.iter().map(|(key, _)| &**key).collect()
        }
        f.debug_struct("Ring")
            .field("seals", &keys(&self.seals))
            .field("opens", &keys(&self.opens))
            .finish_non_exhaustive()
    }
}
