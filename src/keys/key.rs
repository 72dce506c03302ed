//! One ticket key.

use std::fmt;

use super::KeyError;
use crate::ffi;
use crate::secret::Secret;

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
            ffi::random(part).map_err(|()| KeyError::new("OpenSSL's random generator failed"))?;
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
        write!(f, "TicketKey({})", super::hex(&self.name))
    }
}
