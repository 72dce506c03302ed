//! The key of a session in a store.

use std::fmt;

use openssl::sha::Sha256;

/// What a store is asked for: a SHA-256 over a label, the policy's scope, the kind of session
/// (TLS 1.3, or earlier) and the session id.
///
/// A hash, because a session id is a bearer secret in TLS 1.3 and clear text in TLS 1.2: who reads
/// the keys of a store learns no id from them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    pub(crate) fn derive(scope: &[u8], tls13: bool, id: &[u8]) -> Self {
        let mut hash = Sha256::new();
        // In few pieces: each costs, and this is part of every handshake. The length keeps
        // (scope, id) pairs apart that are the same bytes in a row.
        let mut head = *b"session key 1\0?12345678";
        head[14] = u8::from(tls13);
        head[15..].copy_from_slice(&(scope.len() as u64).to_be_bytes());
        hash.update(&head);
        if !scope.is_empty() {
            hash.update(scope);
        }
        hash.update(id);
        Self(hash.finish())
    }

    /// The 32 bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// For stores that keep keys as bytes, and for their tests.
impl From<[u8; 32]> for SessionKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(")?;
        self.0[..4].iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        f.write_str("..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_keys_differ_by_scope_kind_and_id() {
        let keys = [
            SessionKey::derive(b"a", true, b"id"),
            SessionKey::derive(b"b", true, b"id"),
            SessionKey::derive(b"a", false, b"id"),
            SessionKey::derive(b"a", true, b"di"),
            SessionKey::derive(b"ai", true, b"d"),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert!(!keys[..i].contains(key), "{i} is not distinct");
        }
    }
}
