//! A session as a store keeps it: a record, whose public name is `Session`.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::StoreError;
use crate::ffi::Secret;

/// A stored session: opaque, versioned, wiped when dropped, never printed.
///
/// As bytes it is one version byte (1), the expiry in seconds since the Unix epoch (8 bytes, big-endian) and a payload,
/// which is a checksum, the DER of an `SSL_SESSION` without its id and timeout, and that of the certificates that its
/// client sent beside its own, or what a store over a store made of them. A record with any byte changed, its expiry
/// included, is as good as none; a store may drop a session earlier. **The bytes hold the secrets of live
/// connections**: seal them before they leave the process; [`Sealed`](crate::Sealed) does.
#[derive(Clone)]
pub struct Session(Secret);

const VERSION: u8 = 1;

/// The length of version and expiry, which go before the payload.
pub(crate) const HEADER: usize = 9;

impl Session {
    pub(crate) fn new(expires_at: SystemTime, payload: &[u8]) -> Self {
        let mut record = Secret::zeroed(HEADER + payload.len());
        record.as_mut_bytes()[HEADER..].copy_from_slice(payload);
        Self::with_header(expires_at, record)
    }

    /// A session whose payload stands after `HEADER` bytes, which are written here.
    pub(crate) fn with_header(expires_at: SystemTime, mut record: Secret) -> Self {
        let since = expires_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let header = &mut record.as_mut_bytes()[..HEADER];
        header[0] = VERSION;
        header[1..].copy_from_slice(&since.as_secs().to_be_bytes());
        Self(record)
    }

    /// Reads what [`as_bytes`](Self::as_bytes) wrote.
    ///
    /// # Errors
    ///
    /// The bytes are shorter than a header, of another version, or of an expiry that this system
    /// cannot express. The payload is looked at only when the session is resumed.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        match bytes.first_chunk::<HEADER>() {
            None => Err(StoreError::new(format!(
                "not a session: {} bytes, fewer than the header of {HEADER}",
                bytes.len()
            ))),
            Some([VERSION, seconds @ ..]) if at_unix_seconds(*seconds).is_some() => {
                Ok(Self(bytes.into()))
            }
            Some([VERSION, ..]) => Err(StoreError::new(
                "not a session: its expiry is beyond what this system can express",
            )),
            Some([version, ..]) => Err(StoreError::new(format!(
                "a session of version {version}, but only version {VERSION} is known here"
            ))),
        }
    }

    /// The session as bytes: a secret.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// When the session ends. A store may drop it from then on.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        self.as_bytes()
            .first_chunk::<HEADER>()
            .and_then(|[_, seconds @ ..]| at_unix_seconds(*seconds))
            .unwrap_or(UNIX_EPOCH)
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.as_bytes()[HEADER..]
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("expires_at", &self.expires_at())
            .field("len", &self.as_bytes().len())
            .finish_non_exhaustive()
    }
}

fn at_unix_seconds(seconds: [u8; 8]) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(u64::from_be_bytes(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_survives_its_bytes() {
        let expires_at = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let session = Session::new(expires_at, b"der");
        let read = Session::from_bytes(session.as_bytes()).unwrap();
        assert_eq!(read.expires_at(), expires_at);
        assert_eq!(read.payload(), b"der");
    }

    #[test]
    fn bytes_that_are_no_session_are_refused_with_the_reason() {
        let refusal = |bytes: &[u8]| Session::from_bytes(bytes).unwrap_err().to_string();
        assert!(refusal(b"").contains("0 bytes"));
        assert!(refusal(&[1; 8]).contains("8 bytes"));
        assert!(refusal(&[2, 0, 0, 0, 0, 0, 0, 0, 0]).contains("version 2"));
        assert!(refusal(&[1, 255, 255, 255, 255, 255, 255, 255, 255]).contains("expiry"));
    }

    #[test]
    fn debug_shows_no_session_bytes() {
        let session = Session::new(SystemTime::now(), b"\xde\xad\xbe\xef");
        let shown = format!("{session:?}");
        assert!(
            !shown.contains("222, 173") && !shown.contains("dead"),
            "{shown}"
        );
    }
}
