//! The trait of registers: which ClientHellos have been seen.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use openssl::sha::Sha256;

use crate::session::StoreError;

/// A register of the ClientHellos whose early data was accepted, so that none is accepted twice (RFC 8446, section 8.2).
///
/// Who records the first flight of a client can send it again, to this host or to another. The server can tell only if
/// it remembers each ClientHello for as long as it would accept it: [`clock_skew`](crate::Resumption::clock_skew) says
/// how long that is. [`MemoryRegister`](crate::MemoryRegister) is for one process, `RedisRegister` (feature `redis`)
/// for several hosts that open one another's tickets or share a store.
///
/// It is asked in the middle of a handshake, on the thread that drives it (in `accept_early_async` with
/// [`suspend_lookups`](crate::Resumption::suspend_lookups) on another), so it bounds its own time. Whatever else it
/// answers than [`Registered::First`], an error or a panic, the connection goes on, without early data.
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
    /// Takes down that this ClientHello was seen, and says whether it was seen before. It is to be remembered for
    /// `lives` from now at least; longer does no harm.
    ///
    /// **Atomic**: of all calls with one `hello`, by whatever thread on whatever host, at most one is answered
    /// [`Registered::First`] within `lives`. To look first and to write then is not atomic; `INSERT` with a unique index is,
    /// and so is `SET` with `NX`. The writes of one host have to be seen by the next one at once: a replica that lags
    /// behind, or an entry that may be dropped when there is no room, is a hole.
    ///
    /// **What a wrong answer costs.** `First` for what was seen before: a request is handed to the application twice,
    /// an order is placed twice. `Before` for what is new: one round trip. So a register that does not know, because
    /// it has just been started and has lost what it knew, say, answers [`Registered::WarmingUp`] for the length of `lives`.
    ///
    /// # Errors
    ///
    /// It is not known whether it was seen. Early data is declined.
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
    /// It was not seen before, and has been taken down now. Its early data is accepted.
    First,
    /// It was seen before.
    Before,
    /// It was not seen as far as the register knows, which may have lost what it knew less than `lives` ago.
    WarmingUp,
    /// There is no room to take it down.
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
