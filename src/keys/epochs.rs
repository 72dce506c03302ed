//! When the keys change that all hosts change at once: with the clock.

use std::ops::{Range, RangeInclusive};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::KeyError;
use crate::base::{MAX_LIFETIME, unix_seconds};

/// How long a key seals unless it is told otherwise.
pub(super) const DEFAULT_PERIOD: Duration = Duration::from_secs(12 * 60 * 60);

/// Time in periods, numbered from the Unix epoch on, as it is at some moment.
pub(super) struct Epochs {
    /// In seconds.
    period: u64,
    pub(super) current: u64,
    /// The numbers whose keys are there before they seal: always those of half a period ahead at
    /// least, however late this is asked, because it is asked twice in a period.
    pub(super) upcoming: RangeInclusive<u64>,
    pub(super) load_again: SystemTime,
    /// When the last upcoming one ends.
    pub(super) end: SystemTime,
}

impl Epochs {
    pub(super) fn at(now: SystemTime, period: Duration) -> Result<Self, KeyError> {
        let current = unix_seconds(now) / period.as_secs();
        let mut epochs = Self {
            period: period.as_secs(),
            current,
            upcoming: current + 1..=current + 1,
            load_again: now,
            end: now,
        };
        epochs.load_again = epochs.start(current)? + period / 2;
        if epochs.load_again <= now {
            epochs.upcoming = current + 1..=current + 2;
            epochs.load_again = epochs.start(current + 1)?;
        }
        epochs.end = epochs.start(epochs.upcoming.end() + 1)?;
        Ok(epochs)
    }

    /// When a period begins.
    pub(super) fn start(&self, number: u64) -> Result<SystemTime, KeyError> {
        let since = number.checked_mul(self.period);
        since
            .and_then(|since| UNIX_EPOCH.checked_add(Duration::from_secs(since)))
            .ok_or_else(|| KeyError::new("ticket keys: the clock cannot be right"))
    }

    /// The numbers, at most `most`, under whose keys there may be tickets that are still alive.
    pub(super) fn past(&self, most: usize) -> Range<u64> {
        let periods = MAX_LIFETIME.as_secs().div_ceil(self.period);
        let most = u64::try_from(most).unwrap_or(u64::MAX);
        self.current.saturating_sub(periods.min(most))..self.current
    }

    /// Whether a period is one of whole seconds; or what is wrong with it.
    pub(super) fn check(period: Duration) -> Result<(), String> {
        if period.is_zero() || period.subsec_nanos() != 0 {
            return Err(format!(
                "the period must be of whole seconds and not empty, not {period:?}"
            ));
        }
        Ok(())
    }
}
