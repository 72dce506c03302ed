//! The dialects, and what is right in each.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use crate::base::hex;
use crate::keys::error::KeyError;
use crate::keys::key::TicketKey;
use crate::keys::ring::MAX_RETIRED;

/// Whose ticket key files they are. The length of a file does not tell: at both 48 and 80 bytes
/// there are two orders, and the wrong one gives keys that open nothing.
///
/// | | a key | a file | seals | upcoming |
/// |---|---|---|---|---|
/// | `Nginx` | 48: name, AES, HMAC; 80: name, HMAC, AES | one key | first file | last file |
/// | `HaProxy` | 48 or 80: name, AES, HMAC | base64, three keys or more, a line each, of one size | last but one | last |
/// | `Apache` | 48: name, HMAC, AES | one key | first file | last file |
/// | `Envoy`, `OpenSsl` | 80: name, HMAC, AES | one key | first file | last file |
/// | `Nghttpx` | 48 or 80: name, AES, HMAC | one key; all files of one size | first file | last file |
/// | `Dnsdist` | 80: name, AES, HMAC | keys one after the other | last | first |
///
/// The upcoming key opens, and seals after the next rotation: so every host has it before any seals
/// with it. There is one where there are three keys or more. HAProxy knows of it; to the other
/// servers it is one of the keys that only open, and which of these it is is the convention of
/// this library. Files that were rotated otherwise may have an old key in its place: put a new one
/// there before the first [`rotate`](Self::rotate).
///
/// The name has 16 bytes. AES and HMAC keys have 32 bytes each in a key of 80 bytes, and 16 in one
/// of 48, which stands for AES-128-CBC. `OpenSsl` is what `SSL_CTX_set_tlsext_ticket_keys` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyDialect {
    /// nginx: `ssl_session_ticket_key`.
    Nginx,
    /// HAProxy: `tls-ticket-keys`.
    HaProxy,
    /// Apache httpd: `SSLSessionTicketKeyFile`.
    Apache,
    /// Envoy: `session_ticket_keys`.
    Envoy,
    /// nghttpx: `tls-ticket-key-file`.
    Nghttpx,
    /// dnsdist: `ticketKeyFile`.
    Dnsdist,
    /// OpenSSL itself: `SSL_CTX_set_tlsext_ticket_keys`.
    OpenSsl,
}

/// What comes after the name.
#[derive(Clone, Copy)]
pub(super) enum Order {
    AesHmac,
    HmacAes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    /// One key in a file, as it is; the first file has the one that seals, the last the upcoming
    /// one.
    OneKey,
    /// Keys one after the other; the last seals, the first is upcoming.
    Concatenated,
    /// A key in a line, in base64; the last but one seals, the last is upcoming.
    Base64Lines,
}

impl KeyDialect {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Nginx,
        Self::HaProxy,
        Self::Apache,
        Self::Envoy,
        Self::Nghttpx,
        Self::Dnsdist,
        Self::OpenSsl,
    ];

    pub(super) fn layout(self) -> (Container, &'static [(usize, Order)]) {
        use Container::{Base64Lines, Concatenated, OneKey};
        use Order::{AesHmac, HmacAes};
        match self {
            Self::Nginx => (OneKey, &[(48, AesHmac), (80, HmacAes)]),
            Self::HaProxy => (Base64Lines, &[(48, AesHmac), (80, AesHmac)]),
            Self::Apache => (OneKey, &[(48, HmacAes)]),
            Self::Envoy | Self::OpenSsl => (OneKey, &[(80, HmacAes)]),
            Self::Nghttpx => (OneKey, &[(48, AesHmac), (80, AesHmac)]),
            Self::Dnsdist => (Concatenated, &[(80, AesHmac)]),
        }
    }

    /// A new random key, of the largest size that the dialect has.
    ///
    /// # Errors
    ///
    /// OpenSSL's random generator failed.
    pub fn random_key(self) -> Result<TicketKey, KeyError> {
        let sizes = self.layout().1.iter().map(|(size, _)| *size);
        TicketKey::random_of((sizes.max().unwrap_or(80) - 16) / 2)
    }

    /// Replaces the oldest of these keys, which are in the order of [`read`](Self::read), by a new
    /// random one of the same size, and puts them into the order that they have from now on.
    ///
    /// Of three keys or more the upcoming one seals from now on, and the new one is upcoming. When
    /// every host has the files before the next rotation, none meets a ticket under a key that it
    /// does not have.
    ///
    /// Of one or two keys none is upcoming: the new one seals at once, and until every host has the
    /// files, those without answer its tickets with full handshakes. A key that is the only one
    /// stays, as the second.
    ///
    /// # Errors
    ///
    /// These are no keys of the dialect, or OpenSSL's random generator failed. The keys are then as
    /// they were.
    pub fn rotate(self, keys: &mut Vec<TicketKey>) -> Result<(), KeyError> {
        self.check(keys).map_err(KeyError::new)?;
        let new = TicketKey::random_of(keys[0].aes().len())?;
        let had_upcoming = has_upcoming(keys);
        if keys.len() > 1 {
            keys.pop();
        }
        keys.insert(0, new);
        if had_upcoming {
            // New, sealing, upcoming: the last of these seals, the new one is upcoming.
            keys[..3].rotate_right(1);
        }
        Ok(())
    }

    /// What every set of keys must have, wherever it comes from and wherever it goes.
    pub(super) fn check(self, keys: &[TicketKey]) -> Result<(), String> {
        let least = if self == Self::HaProxy { 3 } else { 1 };
        let most = MAX_RETIRED + 1;
        let count = keys.len();
        if count < least {
            return Err(format!("{self} needs {least} keys or more, not {count}"));
        }
        if count > most {
            return Err(format!("{count} keys, but a ring holds {most}"));
        }
        let mut names = HashSet::new();
        for key in keys {
            let name = hex(key.name());
            if !names.insert(key.name()) {
                return Err(format!("a second key has the name {name}"));
            }
            if [key.aes(), key.hmac()].iter().any(|half| is_zeros(half)) {
                return Err(format!("the key of the name {name} has a half of zeros"));
            }
            // nginx looks at each file by itself.
            if self != Self::Nginx && key.aes().len() != keys[0].aes().len() {
                return Err(format!("{self} takes keys of one size, not of both"));
            }
        }
        Ok(())
    }

    /// The order of the halves in a key of this size.
    pub(super) fn order(self, len: usize) -> Result<Order, String> {
        let (_, sizes) = self.layout();
        if let Some((_, order)) = sizes.iter().find(|(size, _)| *size == len) {
            return Ok(*order);
        }
        let sizes: Vec<_> = sizes.iter().map(|(size, _)| size.to_string()).collect();
        let sizes = sizes.join(" or ");
        Err(format!("{len} bytes, but a key of {self} has {sizes}"))
    }
}

/// Whether the second of these keys is upcoming.
pub(super) fn has_upcoming(keys: &[TicketKey]) -> bool {
    keys.len() >= 3
}

fn is_zeros(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// The name in lower case, as in `haproxy`.
impl fmt::Display for KeyDialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nginx => "nginx",
            Self::HaProxy => "haproxy",
            Self::Apache => "apache",
            Self::Envoy => "envoy",
            Self::Nghttpx => "nghttpx",
            Self::Dnsdist => "dnsdist",
            Self::OpenSsl => "openssl",
        })
    }
}

/// From the name in lower case.
impl FromStr for KeyDialect {
    type Err = KeyError;

    fn from_str(name: &str) -> Result<Self, KeyError> {
        let mut all = Self::ALL.iter();
        let found = all.find(|dialect| dialect.to_string() == name).copied();
        found.ok_or_else(|| {
            let all: Vec<_> = Self::ALL.iter().map(Self::to_string).collect();
            let all = all.join(", ");
            KeyError::new(format!(
                "{name:?} is none of the dialects of ticket keys: {all}"
            ))
        })
    }
}
