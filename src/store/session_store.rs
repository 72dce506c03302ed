//! The trait of stores.

use std::sync::Arc;
use std::time::Duration;

use crate::session::{Session, SessionKey, StoreError};

/// A place for stateful sessions.
///
/// A store knows neither scopes nor session ids, only keys and opaque bytes. It is called in the
/// middle of handshakes, on the thread that drives them (lookups in `accept_async` of the feature
/// `tokio` on another), so it bounds its own time. The library
/// measures each call, counts the slow ones, and turns an error or a panic into a full handshake:
/// "not found" is always a correct answer. Only `put`, `get` and `remove` have to be there.
///
/// [`Sealed`](crate::Sealed), [`CircuitBreaker`](crate::CircuitBreaker), [`Tiered`](crate::Tiered) and
/// [`WriteBehind`](crate::WriteBehind) are stores over a store. `Arc<S>`
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

    /// Whether no session that was taken in the last `lives` can be there again.
    ///
    /// Asked when a client offers early data under [`single_use`](crate::Resumption::single_use): its session was just taken,
    /// and if it could be taken again, after a failover say, its early data could be replayed. `false` declines early data.
    /// By default true. `RedisStore` says false for `lives` after Redis was started or a replica was promoted. A store over a
    /// store has to hand it on.
    ///
    /// # Errors
    ///
    /// The store cannot tell. Early data is declined.
    fn remembers_takes(&self, lives: Duration) -> Result<bool, StoreError> {
        let _ = lives;
        Ok(true)
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

            fn remembers_takes(&self, lives: Duration) -> Result<bool, StoreError> {
                (**self).remembers_takes(lives)
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
