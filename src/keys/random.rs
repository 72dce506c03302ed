//! Keys of this process alone.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::error::KeyError;
use super::key::TicketKey;
use super::source::{KeySet, KeySource};

/// A new random key every `period`.
pub(super) struct RandomKeys {
    period: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The keys so far, newest first, and since when each sealed. Only the ring keeps them alive:
    /// a key that it has dropped is wiped.
    made: Vec<(Weak<TicketKey>, SystemTime)>,
    /// Made, and not yet in the ring.
    fresh: Option<Arc<TicketKey>>,
}

impl RandomKeys {
    pub(super) fn new(period: Duration) -> Self {
        Self {
            period,
            state: Mutex::default(),
        }
    }

    fn after(&self, time: SystemTime, periods: u32) -> Result<SystemTime, KeyError> {
        let period = Some(self.period).filter(|period| *period >= Duration::from_secs(1));
        period
            .and_then(|period| time.checked_add(period.checked_mul(periods)?))
            .ok_or_else(|| {
                KeyError::new(format!(
                    "TicketKeys::random_every needs a period of at least 1 second that the clock \
                     can express, not {:?}",
                    self.period
                ))
            })
    }
}

impl KeySource for RandomKeys {
    fn load(&self, now: SystemTime) -> Result<KeySet, KeyError> {
        self.after(now, 2)?;
        let State { made, fresh } = &mut *self.state.lock();
        made.retain(|(key, _)| key.strong_count() > 0);
        // None of them began in the future: the clock has been put back.
        (made.iter_mut()).for_each(|(_, since)| *since = now.min(*since));
        let current = match made.first() {
            Some((key, since)) if now < self.after(*since, 1)? => key.upgrade(),
            _ => None,
        };
        let key = match (fresh.take(), current) {
            (None, Some(key)) => key,
            (fresh, _) => {
                let key = fresh.map_or_else(|| TicketKey::random().map(Arc::new), Ok)?;
                made.insert(0, (Arc::downgrade(&key), now));
                key
            }
        };
        let since = made[0].1;
        // If there is none to be had then, this one goes on for another period.
        let set = KeySet::new(key, self.after(since, 1)?).seals_until(self.after(since, 2)?);
        let retired = made.windows(2).filter_map(|pair| {
            let [(_, until), (key, _)] = pair else {
                return None;
            };
            Some((key.upgrade()?, *until))
        });
        Ok(retired.fold(set, |set, (key, until)| set.retired(key, until)))
    }

    fn rotate(&self, _: SystemTime) -> Result<(), KeyError> {
        let key = Arc::new(TicketKey::random()?);
        self.state.lock().fresh = Some(key);
        Ok(())
    }
}
