//! How other servers write their ticket keys into files.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use openssl::base64;

use super::{KeyError, TicketKey, TicketKeys, hex};
use crate::ffi;
use crate::secret::Secret;

/// Whose ticket key files they are. The length of a file does not tell: at both 48 and 80 bytes there
/// are two orders, and the wrong one gives keys that open nothing.
///
/// | | a key | a file | which key seals |
/// |---|---|---|---|
/// | `Nginx` | 48: name, AES, HMAC; 80: name, HMAC, AES | one key | the first file |
/// | `HaProxy` | 48 or 80: name, AES, HMAC | base64, three keys or more, a line each, of one size | the last but one; the last is upcoming |
/// | `Apache` | 48: name, HMAC, AES | one key | the first file |
/// | `Envoy`, `OpenSsl` | 80: name, HMAC, AES | one key | the first file |
/// | `Nghttpx` | 48 or 80: name, AES, HMAC | one key | the first file |
/// | `Dnsdist` | 80: name, AES, HMAC | keys one after the other | the last |
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
enum Order {
    AesHmac,
    HmacAes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Container {
    /// One key in a file, as it is; the first file has the one that seals.
    OneKey,
    /// Keys one after the other; the last seals.
    Concatenated,
    /// A key in a line, in base64; the last but one seals.
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

    fn layout(self) -> (Container, &'static [(usize, Order)]) {
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

    /// The keys in these files, each a name for errors and its content. The one that seals comes
    /// first, then the others, the newest first.
    pub(super) fn parse(
        self,
        files: &[(impl fmt::Display, &[u8])],
    ) -> Result<Vec<TicketKey>, KeyError> {
        let (container, _) = self.layout();
        match files {
            [] => return Err(KeyError::new("there must be a ticket key file")),
            [_, _, ..] if container != Container::OneKey => {
                return Err(KeyError::new(format!(
                    "{self} keeps all ticket keys in one file, not in {}",
                    files.len()
                )));
            }
            _ => {}
        }
        let mut keys = Vec::new();
        for (name, content) in files {
            let wrong = |wrong: String| KeyError::new(format!("ticket key file {name}: {wrong}"));
            match container {
                Container::OneKey => keys.push(self.key(content).map_err(wrong)?),
                Container::Concatenated => {
                    let size = self.layout().1[0].0;
                    if content.is_empty() || content.len() % size != 0 {
                        return Err(wrong(self.not_a_size(content.len())));
                    }
                    for key in content.chunks(size) {
                        keys.insert(0, self.key(key).map_err(wrong)?);
                    }
                }
                Container::Base64Lines => keys = self.lines(content).map_err(wrong)?,
            }
        }
        check_all(&keys).map_err(KeyError::new)?;
        Ok(keys)
    }

    fn lines(self, content: &[u8]) -> Result<Vec<TicketKey>, String> {
        let content = content.strip_suffix(b"\n").unwrap_or(content);
        let lines = content.split(|byte| *byte == b'\n').enumerate();
        let keys = lines.map(|(i, line)| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let key = decode(line).ok_or_else(|| "no base64".to_owned());
            let key = key.and_then(|key| self.key(key.as_bytes()));
            key.map_err(|wrong| format!("line {}: {wrong}", i + 1))
        });
        let mut keys = keys.collect::<Result<Vec<_>, _>>()?;
        if keys.len() < 3 {
            let lines = keys.len();
            return Err(format!("{self} needs three keys or more, not {lines}"));
        }
        if keys
            .iter()
            .any(|key| key.aes().len() != keys[0].aes().len())
        {
            return Err(format!("{self} takes keys of one size, not of both"));
        }
        // The file has the oldest first, then the one that seals, then the next.
        keys.reverse();
        keys.swap(0, 1);
        Ok(keys)
    }

    fn key(self, bytes: &[u8]) -> Result<TicketKey, String> {
        let mut sizes = self.layout().1.iter();
        let Some((size, order)) = sizes.find(|(size, _)| *size == bytes.len()) else {
            return Err(self.not_a_size(bytes.len()));
        };
        let (name, halves) = bytes.split_first_chunk().expect("48 or 80 bytes");
        let (one, other) = halves.split_at((size - 16) / 2);
        if [one, other]
            .iter()
            .any(|half| half.iter().all(|byte| *byte == 0))
        {
            return Err("a key of zeros".into());
        }
        Ok(match order {
            Order::AesHmac => TicketKey::of_parts(*name, one, other),
            Order::HmacAes => TicketKey::of_parts(*name, other, one),
        })
    }

    fn not_a_size(self, len: usize) -> String {
        let sizes = self.layout().1.iter().map(|(size, _)| size.to_string());
        let sizes = sizes.collect::<Vec<_>>().join(" or ");
        format!("{len} bytes, but a key of {self} has {sizes}")
    }

    /// The contents of files with these keys, of which the first seals, then the newest first: a
    /// file for each key or one for all, as the dialect has it. They are secrets.
    ///
    /// # Errors
    ///
    /// The dialect has no keys of this size, or needs more of them (`HaProxy`: three), or two have
    /// the same name.
    pub fn format(self, keys: &[TicketKey]) -> Result<Vec<Vec<u8>>, KeyError> {
        check_all(keys).map_err(KeyError::new)?;
        let bytes = |key: &TicketKey| {
            let len = 16 + key.aes().len() + key.hmac().len();
            let mut sizes = self.layout().1.iter();
            let (_, order) = sizes
                .find(|(size, _)| *size == len)
                .ok_or_else(|| KeyError::new(self.not_a_size(len)))?;
            Ok(match order {
                Order::AesHmac => [key.name(), key.aes(), key.hmac()].concat(),
                Order::HmacAes => [key.name(), key.hmac(), key.aes()].concat(),
            })
        };
        let mut all = keys
            .iter()
            .map(bytes)
            .collect::<Result<Vec<_>, KeyError>>()?;
        match self.layout().0 {
            _ if all.is_empty() => Err(KeyError::new("there must be a ticket key")),
            Container::OneKey => Ok(all),
            Container::Concatenated => {
                all.reverse();
                Ok(vec![all.concat()])
            }
            Container::Base64Lines if all.len() < 3 => Err(KeyError::new(format!(
                "{self} needs three keys or more, not {}",
                all.len()
            ))),
            Container::Base64Lines => {
                all.swap(0, 1);
                all.reverse();
                let lines = all.iter().map(|key| base64::encode_block(key) + "\n");
                Ok(vec![lines.collect::<String>().into_bytes()])
            }
        }
    }
}

/// What no set of keys may have.
fn check_all(keys: &[TicketKey]) -> Result<(), String> {
    let most = TicketKeys::MAX_RETIRED + 1;
    if keys.len() > most {
        return Err(format!(
            "{} ticket keys, but a ring holds {most}",
            keys.len()
        ));
    }
    let mut names = HashSet::new();
    match keys.iter().find(|key| !names.insert(key.name())) {
        Some(key) => Err(format!("two ticket keys have the name {}", hex(key.name()))),
        None => Ok(()),
    }
}

fn decode(line: &[u8]) -> Option<Secret> {
    let text = std::str::from_utf8(line).ok()?;
    // OpenSSL is more lenient than those who write such files.
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2
        || !digits
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+/".contains(&b))
    {
        return None;
    }
    let mut bytes = base64::decode_block(text).ok()?;
    let key = Secret::from(bytes.as_slice());
    ffi::cleanse(&mut bytes);
    Some(key)
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
