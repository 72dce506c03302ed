//! The one wrapper for bytes that must not outlive their use.

use std::fmt;

use super::memory::cleanse;

/// Secret bytes: wiped with `OPENSSL_cleanse` when dropped, never printed.
///
/// A boxed slice, because it neither moves its bytes nor reallocates: there is one copy to wipe.
pub(crate) struct Secret(Box<[u8]>);

impl Secret {
    pub(crate) fn zeroed(len: usize) -> Self {
        Self(vec![0; len].into_boxed_slice())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn as_mut_bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

impl Clone for Secret {
    fn clone(&self) -> Self {
        Self::from(self.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        cleanse(&mut self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_the_length_and_nothing_else() {
        let secret = Secret::from([0xab; 3].as_slice());
        assert_eq!(format!("{secret:?}"), "Secret(3 bytes)");
    }
}
