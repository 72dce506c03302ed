use std::time::{Duration, SystemTime};

use super::{KeyError, KeySet, KeySource, TicketKey};

/// A new random key each time it is asked, which is every `period`.
pub(super) struct RandomKeys {
    period: Duration,
}

impl RandomKeys {
    pub(super) fn new(period: Duration) -> Self {
        Self { period }
    }
}

impl KeySource for RandomKeys {
    fn load(&self, now: SystemTime) -> Result<KeySet, KeyError> {
        if self.period < Duration::from_secs(1) {
            return Err(KeyError::new(format!(
                "TicketKeys::random_every needs a period of at least 1 second, not {:?}",
                self.period
            )));
        }
        let load_again = now.checked_add(self.period).ok_or_else(|| {
            KeyError::new(format!(
                "TicketKeys::random_every cannot take a period of {:?}",
                self.period
            ))
        })?;
        Ok(KeySet::new(TicketKey::random()?, Vec::new(), load_again).retire_previous())
    }
}
