//! One ticket key.

use std::fmt;

use super::error::KeyError;
use crate::base::hex;
use crate::ffi::Secret;
use crate::secret::random;

/// One ticket key: a name that tickets carry in clear, an AES-256-CBC key and an HMAC-SHA-256 key
/// (RFC 5077, section 4). Wiped when dropped; prints its name only.
pub struct TicketKey {
    name: [u8; 16],
    /// 32 bytes; 16 in a key file of 48 bytes, which stands for AES-128-CBC.
    aes: Secret,
    hmac: Secret,
}

impl TicketKey {
    /// A key of the given parts.
    #[must_use]
    pub fn new(name: [u8; 16], aes: &[u8; 32], hmac: &[u8; 32]) -> Self {
        Self::of_parts(name, aes, hmac)
    }

    /// A key of two halves, both of 32 or both of 16 bytes.
    pub(super) fn of_parts(name: [u8; 16], aes: &[u8], hmac: &[u8]) -> Self {
        debug_assert!(matches!(aes.len(), 16 | 32) && aes.len() == hmac.len());
        Self {
            name,
            aes: aes.into(),
            hmac: hmac.into(),
        }
    }

    /// A key of 48 or 80 bytes: name, AES key and HMAC key.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        let (name, halves) = bytes.split_first_chunk().expect("48 or 80 bytes");
        let (aes, hmac) = halves.split_at(halves.len() / 2);
        Self::of_parts(*name, aes, hmac)
    }

    /// For who writes the HMAC key first.
    pub(super) fn with_halves_swapped(self) -> Self {
        Self {
            name: self.name,
            aes: self.hmac,
            hmac: self.aes,
        }
    }

    /// What [`of_bytes`](Self::of_bytes) makes a key of.
    #[cfg(feature = "redis")]
    pub(super) fn to_bytes(&self) -> Secret {
        let mut bytes = Secret::zeroed(16 + 2 * self.aes().len());
        let (name, halves) = bytes.as_mut_bytes().split_at_mut(16);
        let (aes, hmac) = halves.split_at_mut(self.aes().len());
        name.copy_from_slice(&self.name);
        aes.copy_from_slice(self.aes());
        hmac.copy_from_slice(self.hmac());
        bytes
    }

    /// A new key from OpenSSL's random generator.
    ///
    /// # Errors
    ///
    /// The generator failed.
    pub fn random() -> Result<Self, KeyError> {
        Self::random_of(32)
    }

    /// A new key whose halves have this many bytes.
    pub(super) fn random_of(half: usize) -> Result<Self, KeyError> {
        let mut name = [0; 16];
        let mut aes = Secret::zeroed(half);
        let mut hmac = Secret::zeroed(half);
        for part in [&mut name, aes.as_mut_bytes(), hmac.as_mut_bytes()] {
            random(part).map_err(|()| KeyError::new("OpenSSL's random generator failed"))?;
        }
        Ok(Self { name, aes, hmac })
    }

    /// The name that tickets sealed under this key begin with. Not a secret.
    #[must_use]
    pub fn name(&self) -> &[u8; 16] {
        &self.name
    }

    pub(crate) fn aes(&self) -> &[u8] {
        self.aes.as_bytes()
    }

    pub(crate) fn hmac(&self) -> &[u8] {
        self.hmac.as_bytes()
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketKey({})", hex(&self.name))
    }
}
