//! From keys to the contents of key files.

use std::fmt;

use openssl::base64;

use super::key_dialect::{Container, KeyDialect, Order, has_upcoming};
use crate::ffi::{self, Secret};
use crate::keys::error::KeyError;
use crate::keys::key::TicketKey;

/// The content of a ticket key file, from [`KeyDialect::format`]: a secret, so wiped when dropped
/// and printed as its length only.
///
/// Write it into a file that nobody else can read from its first moment on; `fs::write` makes one
/// that all can. The example `ticket_keys` shows how.
pub struct KeyFile(Secret);

impl AsRef<[u8]> for KeyFile {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyFile({} bytes)", self.as_ref().len())
    }
}

impl KeyDialect {
    /// The contents of files with these keys, which are in the order of [`read`](Self::read): a
    /// file for each key or one for all, as the dialect has it. They keep their roles: of three
    /// keys or more the upcoming one is it in the files of any dialect.
    ///
    /// # Errors
    ///
    /// [`read`](Self::read) would not take them: the dialect has no keys of this size, or needs
    /// more of them (`HaProxy`: three), or two have the same name, or one is of zeros.
    pub fn format(self, keys: &[TicketKey]) -> Result<Vec<KeyFile>, KeyError> {
        self.check(keys).map_err(KeyError::new)?;
        let (container, _) = self.layout();
        let is_last = container != Container::Base64Lines && has_upcoming(keys);
        let keys = keys.iter().map(|key| self.bytes(key));
        let mut keys = keys.collect::<Result<Vec<_>, _>>().map_err(KeyError::new)?;
        if is_last {
            // The upcoming key, which is the second here.
            keys[1..].rotate_left(1);
        }
        match container {
            Container::OneKey => return Ok(keys.into_iter().map(KeyFile).collect()),
            Container::Concatenated => keys.reverse(),
            Container::Base64Lines => {
                keys.swap(0, 1);
                keys.reverse();
                keys = keys.iter().map(line).collect();
            }
        }
        let keys: Vec<_> = keys.iter().map(Secret::as_bytes).collect();
        Ok(vec![KeyFile(concat(&keys))])
    }

    fn bytes(self, key: &TicketKey) -> Result<Secret, String> {
        let (aes, hmac) = (key.aes(), key.hmac());
        Ok(match self.order(16 + aes.len() + hmac.len())? {
            Order::AesHmac => concat(&[key.name(), aes, hmac]),
            Order::HmacAes => concat(&[key.name(), hmac, aes]),
        })
    }
}

fn line(key: &Secret) -> Secret {
    let mut text = base64::encode_block(key.as_bytes()).into_bytes();
    let line = concat(&[&text, b"\n"]);
    ffi::cleanse(&mut text);
    line
}

/// The parts in one piece. Not `concat` of the standard library, whose result is not wiped.
fn concat(parts: &[&[u8]]) -> Secret {
    let mut all = Secret::zeroed(parts.iter().map(|part| part.len()).sum());
    let mut rest = all.as_mut_bytes();
    for part in parts {
        let (here, after) = rest.split_at_mut(part.len());
        here.copy_from_slice(part);
        rest = after;
    }
    all
}
