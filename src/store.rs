//! Where stateful sessions live: the trait, and what passes through it.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openssl::sha::Sha256;
use parking_lot::Mutex;

use crate::error::printable;
use crate::secret::Secret;

mod breaker;
#[cfg(test)]
mod faulty;
mod memory;
#[cfg(feature = "redis")]
mod redis_store;
mod sealed;
mod tiered;
mod write_behind;

pub use breaker::CircuitBreaker;
pub use memory::MemoryStore;
#[cfg(feature = "redis")]
pub use redis_store::{FleetStore, RedisOptions, RedisStore};
pub use sealed::Sealed;
pub use tiered::Tiered;
pub use write_behind::WriteBehind;

/// A place for stateful sessions.
///
/// A store knows neither scopes nor session ids, only keys and opaque bytes. It is called in the
/// middle of handshakes, on the thread that drives them (lookups in `accept_async` of the feature
/// `tokio` on another), so it bounds its own time. The library
/// measures each call, counts the slow ones, and turns an error or a panic into a full handshake:
/// "not found" is always a correct answer. Only `put`, `get` and `remove` have to be there.
///
/// [`Sealed`], [`CircuitBreaker`], [`Tiered`] and [`WriteBehind`] are stores over a store. `Arc<S>`
/// and `Box<S>` are stores too: keep a clone of an `Arc` to reach yours later.
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::Mutex;
///
/// use openssl_resumption::{Resumption, Session, SessionKey, SessionStore, StoreError};
///
/// /// A store that never evicts; any error becomes a `StoreError`.
/// struct Unbounded(Mutex<HashMap<SessionKey, Session>>);
///
/// impl SessionStore for Unbounded {
///     fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
///         let mut map = self.0.lock().map_err(|e| StoreError::new(e.to_string()))?;
///         map.insert(*key, session);
///         Ok(())
///     }
///
///     fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
///         let map = self.0.lock().map_err(|e| StoreError::new(e.to_string()))?;
///         Ok(map.get(key).cloned())
///     }
///
///     fn remove(&self, key: &SessionKey) -> Result<(), StoreError> {
///         let mut map = self.0.lock().map_err(|e| StoreError::new(e.to_string()))?;
///         map.remove(key);
///         Ok(())
///     }
/// }
///
/// let policy = Resumption::stateful(Unbounded(Mutex::default()));
/// ```
///
/// The library checks the expiry of what [`get`](Self::get) and [`take`](Self::take) return. A
/// store may therefore return a session that has expired (the connection's
/// [`Reason`](crate::Reason) is then `Expired`) or drop it (`NotFound`).
pub trait SessionStore: Send + Sync + 'static {
    /// Stores `session` under `key`, replacing what was there.
    ///
    /// # Errors
    ///
    /// The session could not be stored. The connection goes on; its client cannot resume later.
    fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError>;

    /// Stores `session` under `key`, as [`put`](Self::put) does, and says that it succeeds the session under `used`,
    /// which the client has just resumed.
    ///
    /// The client needs `used` again only if it does not receive the new session, or for connections that it opens
    /// at the same time. So do not remove `used` at once: let it be the first to go when there is no room, or
    /// shorten its life to a minute, say, as `RedisStore` does. It may be gone already (it is, under
    /// [`single_use`](crate::Resumption::single_use)); that is no error.
    ///
    /// Called instead of `put` for the first session that is stored after a TLS 1.3 resumption. By default it is
    /// `put`, and the used session stays until it ends or is evicted. A store over a store has to hand it on.
    ///
    /// # Errors
    ///
    /// As those of `put`.
    fn put_successor(
        &self,
        key: &SessionKey,
        session: Session,
        used: &SessionKey,
    ) -> Result<(), StoreError> {
        let _ = used;
        self.put(key, session)
    }

    /// Returns the session under `key`, which stays.
    ///
    /// # Errors
    ///
    /// It is not known whether there is one. The connection does a full handshake.
    fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError>;

    /// Removes the session under `key`, if there is one.
    ///
    /// Called after a handshake: on a fatal alert, and under
    /// [`strict`](crate::Resumption::strict) when a connection is freed, on whatever thread.
    ///
    /// # Errors
    ///
    /// The session may still be there.
    fn remove(&self, key: &SessionKey) -> Result<(), StoreError>;

    /// Removes and returns the session under `key`.
    ///
    /// Called for TLS 1.3 under [`single_use`](crate::Resumption::single_use). By default
    /// unsupported; see [`takes_once`](Self::takes_once).
    ///
    /// # Errors
    ///
    /// It is not known whether there is one, or the store cannot take.
    fn take(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
        let _ = key;
        Err(StoreError::unsupported())
    }

    /// Whether [`take`](Self::take) is atomic: of many callers at most one gets the session. By
    /// default false.
    fn takes_once(&self) -> bool {
        false
    }

    /// What the store holds, for [`Stats`](crate::Stats); `None`, the default, if it does not know.
    fn usage(&self) -> Option<Usage> {
        None
    }

    /// Why the call that failed last did so, however long ago, for
    /// [`last_store_error`](crate::Resumption::last_store_error): also one that no handshake waited
    /// for. `None`, the default, if none has failed or the store does not remember. It must hold no
    /// secret.
    fn last_error(&self) -> Option<String> {
        None
    }
}

macro_rules! forward {
    ($($pointer:ident),*) => {$(
        impl<S: SessionStore + ?Sized> SessionStore for $pointer<S> {
            fn put(&self, key: &SessionKey, session: Session) -> Result<(), StoreError> {
                (**self).put(key, session)
            }

            fn put_successor(
                &self,
                key: &SessionKey,
                session: Session,
                used: &SessionKey,
            ) -> Result<(), StoreError> {
                (**self).put_successor(key, session, used)
            }

            fn get(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
                (**self).get(key)
            }

            fn remove(&self, key: &SessionKey) -> Result<(), StoreError> {
                (**self).remove(key)
            }

            fn take(&self, key: &SessionKey) -> Result<Option<Session>, StoreError> {
                (**self).take(key)
            }

            fn takes_once(&self) -> bool {
                (**self).takes_once()
            }

            fn usage(&self) -> Option<Usage> {
                (**self).usage()
            }

            fn last_error(&self) -> Option<String> {
                (**self).last_error()
            }
        }
    )*};
}

forward!(Arc, Box);

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

/// A stored session: opaque, versioned, wiped when dropped, never printed.
///
/// As bytes it is one version byte (1), the expiry in seconds since the Unix epoch (8 bytes,
/// big-endian) and a payload, which is a checksum and the DER of an `SSL_SESSION` without its id and
/// timeout, or what a store over a store made of them. A record with any byte changed, its expiry
/// included, is as good as none; a store may drop a session earlier. **The bytes hold the secrets of live connections**: seal them before
/// they leave the process; [`Sealed`] does.
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

/// What a store holds, as it counts itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Sessions in the store now, among them perhaps some that have ended.
    pub entries: u64,
    /// Bytes in the store now; how they are counted is the store's to say.
    pub bytes: u64,
    /// Sessions dropped so far because the store was full, not because they had ended. A `MemoryStore` does not count
    /// those whose client has got another in their place.
    pub evictions: u64,
    /// Sessions dropped so far because they had ended, by the store itself. Lookups that found one that had are
    /// [`StoreStats::expired`](crate::StoreStats::expired).
    pub expired: u64,
    /// Writes that wait to be done.
    pub queued: u64,
    /// Writes so far that were put off and then lost: the queue was full, or they failed.
    pub lost: u64,
    /// Calls so far that were answered without asking, because the store had failed too often.
    pub refused: u64,
}

/// Why a store could not answer: an opaque wrapper. `Display` and `source` are those of the error in
/// it.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StoreError(Box<dyn StdError + Send + Sync>);

impl StoreError {
    /// Wraps the store's own error, or a message.
    #[must_use]
    pub fn new(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self(error.into())
    }

    /// The store has no such operation.
    #[must_use]
    pub fn unsupported() -> Self {
        Self::new("the store does not support this operation")
    }
}

/// The text of the error that came last.
#[derive(Debug, Default)]
struct LastError(Mutex<Option<String>>);

impl LastError {
    fn note(&self, error: impl fmt::Display) {
        *self.0.lock() = Some(printable(error));
    }

    fn clear(&self) {
        *self.0.lock() = None;
    }

    /// Remembers the error, if it is one.
    fn of<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        result.inspect_err(|error| self.note(error))
    }

    fn get(&self) -> Option<String> {
        self.0.lock().clone()
    }
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
