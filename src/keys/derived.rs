//! Keys that hosts derive from a secret and the time.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{KeyError, KeySet, KeySource, TicketKey, TicketKeys};
use crate::hkdf;
use crate::resumption::Resumption;
use crate::secret::Secret;
use crate::stamp::unix_seconds;

const SALT: &[u8] = b"openssl-resumption ticket key 1";

/// OpenSSL's HKDF takes no more than 1 KiB of info.
const MAX_LABEL: usize = 255;

/// The keys of the periods around now, of each secret.
pub(super) struct DerivedKeys {
    label: Vec<u8>,
    secrets: Vec<Secret>,
    period: Duration,
}

impl DerivedKeys {
    pub(super) fn new<S: AsRef<[u8]>>(
        label: &[u8],
        secrets: impl IntoIterator<Item = S>,
        period: Duration,
    ) -> Self {
        let secrets = secrets.into_iter();
        Self {
            label: label.to_vec(),
            secrets: secrets.map(|secret| secret.as_ref().into()).collect(),
            period,
        }
    }

    /// What is wrong with the arguments.
    fn check(&self) -> Result<(), String> {
        if self.label.len() > MAX_LABEL {
            let len = self.label.len();
            return Err(format!("the label may have {MAX_LABEL} bytes, not {len}"));
        }
        hkdf::check(&self.secrets)?;
        if self.period.is_zero() || self.period.subsec_nanos() != 0 {
            return Err(format!(
                "the period must be of whole seconds and not empty, not {:?}",
                self.period
            ));
        }
        Ok(())
    }

    /// When a period begins.
    fn start(&self, number: u64) -> Option<SystemTime> {
        let since = number.checked_mul(self.period.as_secs())?;
        UNIX_EPOCH.checked_add(Duration::from_secs(since))
    }

    /// The key of a secret for the period of this number; `TicketKeys::derived` says how.
    fn key(&self, secret: &Secret, number: u64) -> Result<Arc<TicketKey>, KeyError> {
        let (period, number) = (self.period.as_secs().to_be_bytes(), number.to_be_bytes());
        let info = [self.label.as_slice(), &period, &number].concat();
        let output = hkdf::derive(secret, SALT, &info, 80).map_err(KeyError::new)?;
        let (name, keys) = output.as_bytes().split_first_chunk().expect("80 bytes");
        let (aes, hmac) = keys.split_at(32);
        Ok(Arc::new(TicketKey::of_parts(*name, aes, hmac)))
    }
}

impl KeySource for DerivedKeys {
    fn load(&self, now: SystemTime) -> Result<KeySet, KeyError> {
        self.check()
            .map_err(|wrong| KeyError::new(format!("TicketKeys::derived: {wrong}")))?;
        let out_of_range = || KeyError::new("TicketKeys::derived: the clock cannot be right");
        let start = |number: u64| self.start(number).ok_or_else(out_of_range);
        let period = self.period.as_secs();
        let current = unix_seconds(now) / period;
        // Twice in a period, so that there are always the keys of half a period ahead at least,
        // however late this is called.
        let middle = start(current)? + self.period / 2;
        let (ahead, load_again) = match now < middle {
            true => (1, middle),
            false => (2, start(current + 1)?),
        };

        let (first, others) = self.secrets.split_first().expect("checked");
        let mut set = KeySet::new(self.key(first, current)?, load_again)
            .seals_until(start(current + ahead + 1)?);
        for number in current + 1..=current + ahead {
            set = set.upcoming(self.key(first, number)?, start(number)?);
        }
        for secret in others {
            for number in current..=current + ahead {
                set = set.opens(self.key(secret, number)?);
            }
        }
        // Of no ticket that was sealed earlier is there any life left.
        let periods = Resumption::MAX_LIFETIME.as_secs().div_ceil(period);
        let kept = u64::try_from(TicketKeys::MAX_RETIRED / self.secrets.len()).unwrap_or(u64::MAX);
        for number in (current.saturating_sub(periods.min(kept))..current).rev() {
            for secret in &self.secrets {
                set = set.retired(self.key(secret, number)?, start(number + 1)?);
            }
        }
        Ok(set)
    }
}
