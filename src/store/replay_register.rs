//! The trait of registers: which ClientHellos have been seen.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use openssl::sha::Sha256;

use crate::session::StoreError;

/// Remembers the ClientHellos whose early data was accepted, so that none is accepted twice (RFC 8446, section 8.2).
///
/// An attacker can record the first flight of a client and send it again, to this host or to another. The server detects
/// that only if it remembers each ClientHello for as long as it would accept it
/// ([`clock_skew`](crate::Resumption::clock_skew) says how long). [`MemoryRegister`](crate::MemoryRegister) is for one process,
/// `RedisRegister` (feature `redis`) for several hosts.
///
/// The register is asked in the middle of a handshake, on the thread that drives it, so it must bound its own time. (In
/// `accept_early_async` with `suspend_lookups` it is asked on another thread.) If it
/// answers anything but [`Registered::First`], returns an error or panics, the connection goes on without early data.
///
/// ```
/// use std::collections::HashSet;
/// use std::sync::Mutex;
/// use std::time::Duration;
///
/// use openssl_resumption::{HelloId, ReplayRegister, Registered, StoreError};
///
/// /// A register that forgets nothing.
/// struct Unbounded(Mutex<HashSet<HelloId>>);
///
/// impl ReplayRegister for Unbounded {
///     fn register(&self, hello: &HelloId, _lives: Duration) -> Result<Registered, StoreError> {
///         let mut seen = self.0.lock().map_err(|error| StoreError::new(error.to_string()))?;
///         Ok(if seen.insert(*hello) { Registered::First } else { Registered::Before })
///     }
/// }
/// ```
pub trait ReplayRegister: Send + Sync + 'static {
    /// Records this ClientHello and says whether it was recorded before. The register must remember it for `lives` from now
    /// at least; longer does no harm.
    ///
    /// **Atomic** means: of all calls with the same `hello`, on whatever thread or host, at most one returns
    /// [`Registered::First`] within `lives`. A look-up followed by a write is not atomic. An `INSERT` with a unique index is,
    /// and so is `SET` with `NX`. Every host must see the writes of the others at once: a replica that lags behind is a hole,
    /// and so is an entry that can be evicted when memory is short.
    ///
    /// **What a wrong answer costs**: `First` for a hello that was seen before hands a request to the application twice, an
    /// order is placed twice. `Before` for a new hello costs one round trip. So a register that may have lost what it knew,
    /// because it was just started say, must return [`Registered::WarmingUp`] for the length of `lives`.
    ///
    /// # Errors
    ///
    /// The register cannot tell. Early data is declined.
    fn register(&self, hello: &HelloId, lives: Duration) -> Result<Registered, StoreError>;

    /// Why the call that failed last did so, however long ago, for
    /// [`last_register_error`](crate::Resumption::last_register_error). `None`, the default, if none has failed or
    /// the register does not remember. It must hold no secret.
    fn last_error(&self) -> Option<String> {
        None
    }
}

/// What a register says of a ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Registered {
    /// It is new, and recorded now. Its early data is accepted.
    First,
    /// It was recorded before: this flight is a replay.
    Before,
    /// It was not found, but the register is younger than `lives`, and may have lost it.
    WarmingUp,
    /// There is no room to record it.
    Full,
}

/// A ClientHello, as a register knows it: a SHA-256 over a label, the policy's scope and the client random. The random
/// is covered by the binder of the client's session (RFC 8446, section 4.2.11.2): without its secret nobody can change
/// it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HelloId([u8; 32]);

impl HelloId {
    pub(crate) fn derive(scope: &[u8], random: &[u8; 32]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"openssl-resumption hello 1\0");
        hash.update(random);
        // Last, and so without its length.
        hash.update(scope);
        Self(hash.finish())
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// For registers that keep bytes, and for their tests.
impl From<[u8; 32]> for HelloId {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for HelloId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HelloId(")?;
        self.0[..4].iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        f.write_str("..)")
    }
}

macro_rules! forward {
    ($($pointer:ident),*) => {$(
        impl<R: ReplayRegister + ?Sized> ReplayRegister for $pointer<R> {
            fn register(&self, hello: &HelloId, lives: Duration) -> Result<Registered, StoreError> {
                (**self).register(hello, lives)
            }

            fn last_error(&self) -> Option<String> {
                (**self).last_error()
            }
        }
    )*};
}

forward!(Arc, Box);
