//! The keys that seal tickets: one key, the ring of them, and where they come from.

use std::cell::Cell;
use std::error::Error as StdError;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use parking_lot::{ReentrantMutex, RwLock};

use crate::ffi;
use crate::guard::{DropShield, catch};
use crate::secret::Secret;

mod random;
mod ring;

use random::RandomKeys;
use ring::Ring;
pub(crate) use ring::Standing;

/// How long a ring waits before it asks a source again that gave no keys.
const RETRY: Duration = Duration::from_secs(1);

/// One ticket key: a name that tickets carry in clear, an AES-256-CBC key and an HMAC-SHA-256 key
/// (RFC 5077, section 4). Wiped when dropped; prints its name only.
pub struct TicketKey {
    name: [u8; 16],
    aes: Secret,
    hmac: Secret,
}

impl TicketKey {
    /// A key of the given parts.
    #[must_use]
    pub fn new(name: [u8; 16], aes: &[u8; 32], hmac: &[u8; 32]) -> Self {
        Self {
            name,
            aes: aes.as_slice().into(),
            hmac: hmac.as_slice().into(),
        }
    }

    /// A new key from OpenSSL's random generator.
    ///
    /// # Errors
    ///
    /// The generator failed.
    pub fn random() -> Result<Self, KeyError> {
        let mut name = [0; 16];
        let mut aes = Secret::zeroed(32);
        let mut hmac = Secret::zeroed(32);
        for part in [&mut name, aes.as_mut_bytes(), hmac.as_mut_bytes()] {
            ffi::random(part).map_err(|()| KeyError::new("OpenSSL's random generator failed"))?;
        }
        Ok(Self { name, aes, hmac })
    }

    /// The name that tickets sealed under this key begin with. Not a secret.
    #[must_use]
    pub fn name(&self) -> &[u8; 16] {
        &self.name
    }

    pub(crate) fn aes(&self) -> &[u8] {
        self.aes.as_bytes()
    }

    pub(crate) fn hmac(&self) -> &[u8] {
        self.hmac.as_bytes()
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKey(")?;
        self.name.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        f.write_str(")")
    }
}

/// Where ticket keys come from: the seam for anything that [`TicketKeys`] does not offer itself.
pub trait KeySource: Send + Sync + 'static {
    /// Returns the keys to use from `now` on.
    ///
    /// Called by the first [`set_resumption`](crate::SslContextBuilderExt::set_resumption), and
    /// then on use: by the handshake that is the first after [`load_again`](KeySet::new). It must
    /// therefore not wait for anything, and not call back into the [`TicketKeys`] it serves.
    ///
    /// # Errors
    ///
    /// There are no keys to be had now. The ring goes on with what it has and asks again on its
    /// next use a second later.
    fn load(&self, now: SystemTime) -> Result<KeySet, KeyError>;
}

/// What a [`KeySource`] returns: the key that seals, the keys that open, and when to ask again.
#[derive(Debug)]
pub struct KeySet {
    seals: Arc<TicketKey>,
    opens: Vec<Arc<TicketKey>>,
    load_again: SystemTime,
    retire_previous: bool,
}

impl KeySet {
    /// `seals` seals and opens tickets, `opens` only open them; from `load_again` on the source is
    /// asked anew, which for a time in the past is at every use. A key that is in neither is
    /// forgotten at once.
    #[must_use]
    pub fn new(seals: TicketKey, opens: Vec<TicketKey>, load_again: SystemTime) -> Self {
        Self {
            seals: Arc::new(seals),
            opens: opens.into_iter().map(Arc::new).collect(),
            load_again,
            retire_previous: false,
        }
    }

    /// Lets the ring keep the key that sealed before this set, to open tickets until the last one
    /// it sealed has expired; and lets [`TicketKeys::rotate`] ask for a set at any time.
    ///
    /// For a source that makes a new key each time it is asked.
    #[must_use]
    pub fn retire_previous(mut self) -> Self {
        self.retire_previous = true;
        self
    }
}

/// Why there are no keys: an opaque wrapper around the source's own error.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct KeyError(Box<dyn StdError + Send + Sync>);

impl KeyError {
    /// Wraps the source's own error, or a message.
    #[must_use]
    pub fn new(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self(error.into())
    }
}

/// A handle on a ring of ticket keys; clones are cheap and share the ring.
///
/// Of the keys in the ring one is *active*: it seals and opens. *Retired* keys only open, until the
/// last ticket sealed under them has expired; the next use of the ring wipes them. At most
/// [`MAX_RETIRED`](Self::MAX_RETIRED) are kept.
///
/// Drives `SSL_CTX_set_tlsext_ticket_key_evp_cb`. Tickets are sealed with AES-256-CBC and
/// HMAC-SHA-256, as RFC 5077 recommends in section 4.
#[derive(Clone)]
pub struct TicketKeys {
    shared: Arc<Shared>,
}

struct Shared {
    source: DropShield<Box<dyn KeySource>>,
    ring: RwLock<Option<Arc<Ring>>>,
    /// Held while the ring is replaced, so that of many handshakes one rotates. True while the
    /// source is asked: a source may come back here, on the same thread.
    turning: ReentrantMutex<Cell<bool>>,
    /// The longest lifetime, in seconds, among the policies that use the ring.
    lifetime: AtomicU64,
    failures: AtomicU64,
}

impl TicketKeys {
    /// The time between two keys of [`random`](Self::random): 12 hours.
    pub const DEFAULT_PERIOD: Duration = Duration::from_secs(12 * 60 * 60);

    /// How many retired keys a ring keeps: 256. One more drops the oldest, whose tickets are then
    /// full handshakes.
    pub const MAX_RETIRED: usize = 256;

    /// Random keys that rotate by themselves, a new one every 12 hours.
    ///
    /// The first is made in [`set_resumption`](crate::SslContextBuilderExt::set_resumption), the
    /// others by the first handshake that is due: no thread, no timer. If the random generator
    /// fails, the old key goes on. Keys live in this process only: another process, or this one
    /// after a restart, cannot open the tickets.
    #[must_use]
    pub fn random() -> Self {
        Self::random_every(Self::DEFAULT_PERIOD)
    }

    /// Like [`random`](Self::random), with a new key every `period`: at least a second, at most
    /// what the clock can express (`set_resumption` fails outside).
    ///
    /// With a period below 1/256 of the sessions' lifetime (6 minutes for 24 hours) tickets end
    /// early, because only [`MAX_RETIRED`](Self::MAX_RETIRED) keys are kept.
    #[must_use]
    pub fn random_every(period: Duration) -> Self {
        Self::from_source(RandomKeys::new(period))
    }

    /// Keys from any other source.
    #[must_use]
    pub fn from_source(source: impl KeySource) -> Self {
        Self {
            shared: Arc::new(Shared {
                source: DropShield::new(Box::new(source)),
                ring: RwLock::new(None),
                turning: ReentrantMutex::default(),
                lifetime: AtomicU64::new(0),
                failures: AtomicU64::new(0),
            }),
        }
    }

    /// Makes a new key active now and retires the one before it.
    ///
    /// # Errors
    ///
    /// The source gave no key, or is one that decides on its own when keys change. The ring is then
    /// as it was.
    pub fn rotate(&self) -> Result<(), KeyError> {
        self.rotate_at(SystemTime::now())
    }

    pub(crate) fn rotate_at(&self, now: SystemTime) -> Result<(), KeyError> {
        let turning = self.shared.turning.lock();
        let refusal =
            || KeyError::new("these ticket keys rotate at their source; change them there");
        if self
            .shared
            .ring
            .read()
            .as_ref()
            .is_some_and(|ring| !ring.rotates())
        {
            return Err(refusal());
        }
        let set = self.shared.load(&turning, now)?;
        if !set.retire_previous {
            return Err(refusal());
        }
        self.shared.turn(set, now);
        Ok(())
    }

    /// Sees to it that there is a first key, and that retired keys stay for `lifetime` at least.
    pub(crate) fn prepare(&self, lifetime: Duration, now: SystemTime) -> Result<(), KeyError> {
        if self.shared.ring.read().is_none() {
            let turning = self.shared.turning.lock();
            // Another thread may have been faster.
            if self.shared.ring.read().is_none() {
                let set = self.shared.load(&turning, now)?;
                self.shared.turn(set, now);
            }
        }
        self.shared.lifetime.fetch_max(lifetime.as_secs(), Relaxed);
        Ok(())
    }

    /// The key to seal a ticket with.
    pub(crate) fn sealing(&self, now: SystemTime) -> Option<Arc<TicketKey>> {
        Some(Arc::clone(self.shared.ring_at(now)?.active()))
    }

    /// The key that a ticket names, and its standing in the ring.
    pub(crate) fn opening(
        &self,
        name: &[u8; 16],
        now: SystemTime,
    ) -> Option<(Arc<TicketKey>, Standing)> {
        self.shared.ring_at(now)?.find(name)
    }

    /// For how long the active key has been sealing.
    pub(crate) fn age(&self, now: SystemTime) -> Option<Duration> {
        Some(self.shared.ring.read().as_ref()?.age(now))
    }

    /// How often the source gave no keys.
    pub(crate) fn failures(&self) -> u64 {
        self.shared.failures.load(Relaxed)
    }
}

/// Shows the names of the keys.
impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys")
            .field("ring", &self.shared.ring.read())
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// The ring as it should be at `now`: what is due is done first, by one of the callers.
    fn ring_at(&self, now: SystemTime) -> Option<Arc<Ring>> {
        let ring = self.ring.read().clone()?;
        if !ring.is_due(now) {
            return Some(ring);
        }
        // Otherwise another handshake is at it, or the source is in a handshake of its own. The
        // ring as it is still serves, but for keys that are past their time.
        let Some(turning) = self.turning.try_lock().filter(|asking| !asking.get()) else {
            return Some(ring);
        };
        // That other handshake may have finished in between.
        let ring = self.ring.read().clone()?;
        if ring.wants_keys(now) {
            match self.load(&turning, now) {
                Ok(set) => self.turn(set, now),
                Err(_) => *self.ring.write() = Some(Arc::new(ring.postponed(now, now + RETRY))),
            }
        } else if ring.is_due(now) {
            *self.ring.write() = Some(Arc::new(ring.without_expired(now)));
        }
        self.ring.read().clone()
    }

    /// Asks the source; its panic is its failure.
    fn load(&self, asking: &Cell<bool>, now: SystemTime) -> Result<KeySet, KeyError> {
        let loaded = if asking.replace(true) {
            Err(KeyError::new(
                "a source of ticket keys asked for its own keys",
            ))
        } else {
            let loaded = catch(AssertUnwindSafe(|| self.source.load(now)));
            asking.set(false);
            loaded.unwrap_or_else(|| Err(KeyError::new("the source of the ticket keys panicked")))
        };
        loaded.inspect_err(|_| {
            self.failures.fetch_add(1, Relaxed);
        })
    }

    fn turn(&self, set: KeySet, now: SystemTime) {
        let lifetime = Duration::from_secs(self.lifetime.load(Relaxed));
        let next = Ring::next(self.ring.read().as_deref(), set, now, lifetime);
        *self.ring.write() = Some(Arc::new(next));
    }
}

#[cfg(test)]
mod tests;
