use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{KeySet, TicketKey, TicketKeys};

/// A clock that jumped back by more than this makes the ring ask for keys again: "ask again at"
/// may then be far off. Less is the difference between the clocks of two threads.
const CLOCK_JUMP: Duration = Duration::from_secs(60);

/// What a key is in the ring at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Seals and opens.
    Active,
    /// Opens only.
    Retired,
}

/// The keys in use: a snapshot that is replaced, never changed, so that handshakes share it
/// without a lock.
pub(super) struct Ring {
    active: Arc<TicketKey>,
    active_since: SystemTime,
    /// Keys of the source that only open.
    opens: Vec<Arc<TicketKey>>,
    /// Keys that were active in this ring, newest first, and when their last ticket ends.
    retired: Vec<(Arc<TicketKey>, SystemTime)>,
    load_again: SystemTime,
    /// When the source was asked last.
    asked: SystemTime,
    /// Whether the source makes a new key whenever it is asked.
    rotates: bool,
}

impl Ring {
    /// The ring after `previous`, with the keys of `set`; tickets live for `lifetime`.
    pub(super) fn next(
        previous: Option<&Self>,
        set: KeySet,
        now: SystemTime,
        lifetime: Duration,
    ) -> Self {
        let mut retired = Vec::new();
        let mut active_since = now;
        if let Some(previous) = previous {
            if previous.active.name() == set.seals.name() {
                active_since = previous.active_since;
            } else if set.retire_previous {
                retired.push((Arc::clone(&previous.active), now + lifetime));
            }
            if set.retire_previous {
                // Not longer than from now on: the clock may have been ahead when it was set.
                let ends = |until: SystemTime| until.min(now + lifetime);
                let kept = previous.retired_at(now);
                retired.extend(kept.map(|(key, until)| (key, ends(until))));
                retired.truncate(TicketKeys::MAX_RETIRED);
            }
        }
        Self {
            active: set.seals,
            active_since,
            opens: set.opens,
            retired,
            load_again: set.load_again,
            asked: now,
            rotates: set.retire_previous,
        }
    }

    /// The same keys: the source, asked at `asked`, is asked again at `load_again`.
    pub(super) fn postponed(&self, asked: SystemTime, load_again: SystemTime) -> Self {
        Self {
            active: Arc::clone(&self.active),
            active_since: self.active_since,
            opens: self.opens.clone(),
            retired: self.retired.clone(),
            load_again,
            asked,
            rotates: self.rotates,
        }
    }

    /// Without the retired keys whose last ticket has expired.
    pub(super) fn without_expired(&self, now: SystemTime) -> Self {
        Self {
            retired: self.retired_at(now).collect(),
            ..self.postponed(self.asked, self.load_again)
        }
    }

    pub(super) fn rotates(&self) -> bool {
        self.rotates
    }

    pub(super) fn active(&self) -> &Arc<TicketKey> {
        &self.active
    }

    pub(super) fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.active_since).unwrap_or_default()
    }

    pub(super) fn find(&self, name: &[u8; 16]) -> Option<(Arc<TicketKey>, Standing)> {
        if self.active.name() == name {
            return Some((Arc::clone(&self.active), Standing::Active));
        }
        let retired = self.retired.iter().map(|(key, _)| key);
        let key = self
            .opens
            .iter()
            .chain(retired)
            .find(|key| key.name() == name)?;
        Some((Arc::clone(key), Standing::Retired))
    }

    /// Whether there is anything to do before this ring is used at `now`.
    pub(super) fn is_due(&self, now: SystemTime) -> bool {
        self.wants_keys(now) || self.retired.iter().any(|(_, until)| *until <= now)
    }

    /// Whether the source is to be asked at `now`.
    pub(super) fn wants_keys(&self, now: SystemTime) -> bool {
        self.load_again <= now || now + CLOCK_JUMP < self.asked
    }

    #[cfg(test)]
    pub(super) fn retired_count(&self) -> usize {
        self.retired.len()
    }

    fn retired_at(&self, now: SystemTime) -> impl Iterator<Item = (Arc<TicketKey>, SystemTime)> {
        self.retired
            .iter()
            .filter(move |(_, until)| now < *until)
            .cloned()
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let retired: Vec<_> = self.retired.iter().map(|(key, _)| key).collect();
        f.debug_struct("Ring")
            .field("active", &self.active)
            .field("opens", &self.opens)
            .field("retired", &retired)
            .finish_non_exhaustive()
    }
}
