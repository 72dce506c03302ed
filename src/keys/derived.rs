//! Keys that hosts derive from a secret and the time.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::epochs::Epochs;
use super::error::KeyError;
use super::key::TicketKey;
use super::ring::MAX_RETIRED;
use super::source::{KeySet, KeySource};
use crate::ffi::Secret;
use crate::secret::hkdf;

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
            return Err(format!(
                "the label may have at most {MAX_LABEL} bytes, not {len}"
            ));
        }
        hkdf::check(&self.secrets)?;
        Epochs::check(self.period)
    }

    /// The key of a secret for the period of this number; `TicketKeys::derived` says how.
    fn key(&self, secret: &Secret, number: u64) -> Result<Arc<TicketKey>, KeyError> {
        let (period, number) = (self.period.as_secs().to_be_bytes(), number.to_be_bytes());
        let info = [self.label.as_slice(), &period, &number].concat();
        let output = hkdf::derive(secret, SALT, &info, 80).map_err(KeyError::new)?;
        Ok(Arc::new(TicketKey::of_bytes(output.as_bytes())))
    }
}

impl KeySource for DerivedKeys {
    fn load(&self, now: SystemTime) -> Result<KeySet, KeyError> {
        self.check()
            .map_err(|wrong| KeyError::new(format!("TicketKeys::derived: {wrong}")))?;
        let epochs = Epochs::at(now, self.period)?;
        let (first, others) = self.secrets.split_first().expect("checked");
        let seals = self.key(first, epochs.current)?;
        let mut set = KeySet::new(seals, epochs.load_again).seals_until(epochs.end);
        for number in epochs.upcoming.clone() {
            set = set.upcoming(self.key(first, number)?, epochs.start(number)?);
        }
        for secret in others {
            for number in epochs.current..=*epochs.upcoming.end() {
                set = set.opens(self.key(secret, number)?);
            }
        }
        for number in epochs.past(MAX_RETIRED / self.secrets.len()).rev() {
            for secret in &self.secrets {
                set = set.retired(self.key(secret, number)?, epochs.start(number + 1)?);
            }
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hex;
    use crate::keys::epochs::DEFAULT_PERIOD;

    const PERIOD: Duration = DEFAULT_PERIOD;

    /// The bytes 0, 1, 2 and so on, after 255 from 0 again.
    fn secret(len: usize) -> Vec<u8> {
        (0..len).map(|i| i as u8).collect()
    }

    /// Computed with the HKDF of Python's `cryptography`, by what `TicketKeys::derived` says.
    #[test]
    fn the_keys_are_those_of_the_vectors() {
        let long = "x".repeat(255);
        let (hours_12, days_7) = (PERIOD.as_secs(), 7 * 24 * 3_600);
        // The label, the length of the secret, the period in seconds, its number; the name, the AES
        // key and the HMAC key.
        let vectors: [(&str, usize, u64, u64, [&str; 3]); 3] = [
            (
                "",
                32,
                hours_12,
                0,
                [
                    "3170bb774f7b6bcbc2bc966bdc616843",
                    "4083488bcb3ddd96537d91d7a3e9a82abeb022a85b3071b8cb945c34598595ca",
                    "16ad4a344c172b20088c3a424e926924eb054d2d3993af2ee8a4000752612a2f",
                ],
            ),
            (
                "réglage ✓",
                33,
                1,
                1_800_000_000,
                [
                    "792d9f2dff7fd7080713b2aeb6e43003",
                    "5a44476d73413d3806fd257e0839dbed49882f338955d0f0f06afbb31e4d82e7",
                    "a910485ed0ac18e99ae68f65bb74e1e14474b9900c6aeaaf057f7655333f07a7",
                ],
            ),
            (
                &long,
                1_024,
                days_7,
                u64::MAX,
                [
                    "f1a10182ac68cf8ecdd53cd833080a11",
                    "edba2dd196cad7c70046206b565e14cbc68df3d84edc760fb8a6561a1f732d09",
                    "1e57249804314a000dd7d50f0c0f68117da114c7b1408cf1e9bb30d421250fbd",
                ],
            ),
        ];
        for (label, len, period, number, expected) in vectors {
            let period = Duration::from_secs(period);
            let keys = DerivedKeys::new(label.as_bytes(), [secret(len)], period);
            let key = keys.key(&keys.secrets[0], number).unwrap();
            let parts = [key.name(), key.aes(), key.hmac()].map(hex);
            assert_eq!(parts, expected, "{label:?} {len}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_input_is_said() {
        let wrong = |label: usize, secrets: &[usize], period| {
            let secrets = secrets.iter().map(|len| secret(*len));
            let keys = DerivedKeys::new(&vec![b'x'; label], secrets, period);
            keys.load(SystemTime::now()).unwrap_err().to_string()
        };
        let beginning = "TicketKeys::derived: ";
        for (said, expected) in [
            (wrong(0, &[], PERIOD), "there must be a secret"),
            (
                wrong(0, &[31], PERIOD),
                "a secret must have 32 to 1024 bytes; number 1 has 31",
            ),
            (
                wrong(0, &[32, 1_024, 1_025], PERIOD),
                "a secret must have 32 to 1024 bytes; number 3 has 1025",
            ),
            (
                {
                    let keys = DerivedKeys::new(b"", [[0; 32]], PERIOD);
                    keys.load(SystemTime::now()).unwrap_err().to_string()
                },
                "a secret must not be of zeros",
            ),
            (
                wrong(256, &[32], PERIOD),
                "the label may have at most 255 bytes, not 256",
            ),
            (
                wrong(0, &[32], Duration::ZERO),
                "the period must be of whole seconds and not empty, not 0ns",
            ),
            (
                wrong(0, &[32], Duration::from_millis(1_500)),
                "the period must be of whole seconds and not empty, not 1.5s",
            ),
        ] {
            assert_eq!(said, format!("{beginning}{expected}"));
        }
        let widest = DerivedKeys::new(&[b'x'; 255], [secret(32), secret(1_024)], PERIOD);
        assert!(widest.load(SystemTime::now()).is_ok());
    }
}
