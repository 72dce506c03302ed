//! From the contents of key files to keys.

use std::fmt;

use openssl::base64;

use super::key_dialect::{Container, KeyDialect, Order, has_upcoming};
use crate::ffi::{self, Secret};
use crate::keys::error::KeyError;
use crate::keys::key::TicketKey;

impl KeyDialect {
    /// The keys in these files, each a name for errors and its content. The one that seals comes
    /// first, then, of three or more, the upcoming one, then the others, the newest first.
    pub(in crate::keys) fn parse(
        self,
        files: &[(impl fmt::Display, &[u8])],
    ) -> Result<Vec<TicketKey>, KeyError> {
        let (container, _) = self.layout();
        match files {
            [] => return Err(KeyError::new("there must be a ticket key file")),
            [_, _, ..] if container != Container::OneKey => {
                let count = files.len();
                let wrong = format!("{self} keeps all ticket keys in one file, not in {count}");
                return Err(KeyError::new(wrong));
            }
            _ => {}
        }
        let mut keys = Vec::new();
        for (file, content) in files {
            let found = match container {
                Container::OneKey => self.key(content).map(|key| vec![key]),
                Container::Concatenated => self.concatenated(content),
                Container::Base64Lines => self.lines(content),
            };
            found
                .and_then(|found| {
                    keys.extend(found);
                    // After each file, so that the one to blame is named.
                    self.check(&keys)
                })
                .map_err(|wrong| KeyError::new(format!("ticket key file {file}: {wrong}")))?;
        }
        // The last file, or the first key in the only one: what a server of that make takes for the
        // oldest key.
        if container != Container::Base64Lines && has_upcoming(&keys) {
            keys[1..].rotate_right(1);
        }
        Ok(keys)
    }

    fn concatenated(self, content: &[u8]) -> Result<Vec<TicketKey>, String> {
        let (_, sizes) = self.layout();
        let (size, _) = sizes[0];
        let keys = content.chunks_exact(size);
        if content.is_empty() || !keys.remainder().is_empty() {
            let len = content.len();
            return Err(format!("{len} bytes, but a key of {self} has {size}"));
        }
        keys.rev().map(|key| self.key(key)).collect()
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
        // The file has the oldest first; at its end the one that seals, then the upcoming one.
        keys.reverse();
        if keys.len() > 1 {
            keys.swap(0, 1);
        }
        Ok(keys)
    }

    fn key(self, bytes: &[u8]) -> Result<TicketKey, String> {
        let order = self.order(bytes.len())?;
        let key = TicketKey::of_bytes(bytes);
        Ok(match order {
            Order::AesHmac => key,
            Order::HmacAes => key.with_halves_swapped(),
        })
    }
}

fn decode(line: &[u8]) -> Option<Secret> {
    let text = std::str::from_utf8(line).ok()?;
    // OpenSSL is more lenient than those who write such files.
    let digits = text.trim_end_matches('=');
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || b"+/".contains(&byte);
    if text.len() - digits.len() > 2 || !digits.bytes().all(is_digit) {
        return None;
    }
    let mut bytes = base64::decode_block(text).ok()?;
    let key = Secret::from(bytes.as_slice());
    ffi::cleanse(&mut bytes);
    Some(key)
}
