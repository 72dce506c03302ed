//! The handle on a ring of keys.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use super::derived::DerivedKeys;
use super::dialect::KeyDialect;
use super::epochs::DEFAULT_PERIOD;
use super::error::KeyError;
use super::files::FileKeys;
use super::key::TicketKey;
use super::random::RandomKeys;
use super::ring::{MAX_RETIRED, Revoked, Ring, Standing};
use super::shared::Shared;
use super::source::KeySource;

/// A handle on a ring of ticket keys; clones are cheap and share the ring.
///
/// Of the keys in the ring one is *active*: it seals and opens. *Upcoming* keys open, and will
/// seal. *Retired* keys only open, until the last ticket sealed under them has expired; then they
/// are wiped.
///
/// A thread of the ring asks the source of its keys for new ones, so that no handshake waits for
/// that; it begins with the first [`set_resumption`](crate::SslContextBuilderExt::set_resumption)
/// and ends with the last clone. What goes wrong there is in [`last_error`](Self::last_error).
///
/// Drives `SSL_CTX_set_tlsext_ticket_key_evp_cb`. Tickets are sealed with AES-256-CBC and
/// HMAC-SHA-256, as RFC 5077 recommends in section 4; with AES-128-CBC under a key from a file of
/// 48 bytes.
#[derive(Clone)]
pub struct TicketKeys {
    pub(super) shared: Arc<Shared>,
}

impl TicketKeys {
    /// The time between two keys of [`random`](Self::random), and the epoch of
    /// [`derived`](Self::derived): 12 hours.
    pub const DEFAULT_PERIOD: Duration = DEFAULT_PERIOD;

    /// How many keys that only open a ring holds: 256. Of more, those that its source names last
    /// are left out; their tickets are then full handshakes.
    pub const MAX_RETIRED: usize = MAX_RETIRED;

    /// Random keys that rotate by themselves, a new one every 12 hours.
    ///
    /// Keys live in this process only: another process, or this one after a restart, cannot open
    /// the tickets. If the random generator fails the old key goes on for 12 hours more.
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

    /// Keys that every host derives from a secret and the time: all agree, and exchange nothing. A
    /// new key every 12 hours.
    ///
    /// `label` says what the keys are for, in at most 255 bytes; the same secret gives other keys
    /// under another label. To change the secret without loss take three deployments: `[old, new]`,
    /// then `[new, old]`, then, a lifetime later, `[new]`. The first seals, all open. A secret has
    /// at least 32 bytes, random ones, and at most 1 KiB (`set_resumption` fails outside, and
    /// without any secret).
    ///
    /// The clocks of the hosts may differ by up to half a period, and no resumption is lost: the
    /// next key opens before it seals.
    ///
    /// **Who has the secret can open the tickets of all periods, past and future,** and with them
    /// recorded TLS 1.2 connections. Keys that are random and forgotten protect better what is
    /// recorded.
    ///
    /// So that others can do the same: periods are numbered from the Unix epoch on, number =
    /// ⌊seconds / period in seconds⌋. The key of a period is HKDF-SHA-256 (RFC 5869) with the
    /// secret as input keying material, the salt `openssl-resumption ticket key 1` (31 bytes of
    /// ASCII) and the info: label, then the period in seconds and the number of the period, each as
    /// 8 bytes, most significant first. Of its 80 bytes the first 16 are the name, 32 the AES key
    /// and 32 the HMAC key. The tests in `src/keys/derived.rs` have vectors.
    #[must_use]
    pub fn derived<S: AsRef<[u8]>>(
        label: impl AsRef<[u8]>,
        secrets: impl IntoIterator<Item = S>,
    ) -> Self {
        Self::derived_every(label, secrets, Self::DEFAULT_PERIOD)
    }

    /// Like [`derived`](Self::derived), with a period of whole seconds, at least one
    /// (`set_resumption` fails otherwise); the same on all hosts.
    ///
    /// A ring holds the keys of the last 256 periods, divided by the number of secrets, or of the
    /// last seven days if those are fewer.
    #[must_use]
    pub fn derived_every<S: AsRef<[u8]>>(
        label: impl AsRef<[u8]>,
        secrets: impl IntoIterator<Item = S>,
        period: Duration,
    ) -> Self {
        Self::from_source(DerivedKeys::new(label.as_ref(), secrets, period))
    }

    /// Keys in files as another server has them, so that one pipeline can serve both.
    ///
    /// Which of the keys seals, and whether a file holds one key or several, is as in that server
    /// ([`KeyDialect`]); the others open. Of three keys or more one is to seal next; with fewer a
    /// rotation costs full handshakes until every host has the files.
    ///
    /// The files are read in `set_resumption`, which fails if they are not as they should be, and
    /// then every 3 seconds. A change is taken over as a whole, when it has been seen twice, so
    /// within 10 seconds; a key that is gone from the files is forgotten at once. Files that cannot
    /// be read or are not right (torn, truncated, of a wrong size, with a key of zeros or two of one
    /// name) change nothing but [`last_error`](Self::last_error): the keys before go on. Files that
    /// others have access to are used; [`last_warning`](Self::last_warning) says so.
    ///
    /// Replace files by renaming a new one onto them. A file has at most 64 KiB. The process must be
    /// able to read them as the user that it runs as, not only while it starts.
    ///
    /// Tickets do not cross from one product to another, whatever keys they share: a ticket of
    /// nginx opens here, but has no stamp of this library in it, and ours has another session id
    /// context than nginx asks for. Either is a full handshake
    /// ([`Reason::NoStamp`](crate::Reason::NoStamp) here).
    #[must_use]
    pub fn from_files<P: Into<PathBuf>>(
        dialect: KeyDialect,
        paths: impl IntoIterator<Item = P>,
    ) -> Self {
        Self::from_source(FileKeys::new(dialect, paths))
    }

    /// Keys from any other source.
    #[must_use]
    pub fn from_source(source: impl KeySource) -> Self {
        Self {
            shared: Shared::new(source),
        }
    }

    /// Makes a new key active now and retires the one before it.
    ///
    /// # Errors
    ///
    /// The source gave no key, or is one that decides on its own when keys change: derived keys,
    /// files. The ring is then as it was.
    pub fn rotate(&self) -> Result<(), KeyError> {
        self.rotate_at(SystemTime::now())
    }

    pub(super) fn rotate_at(&self, now: SystemTime) -> Result<(), KeyError> {
        let asking = self.shared.turning.asking();
        let asking = asking.lock();
        self.shared.ask(&asking, |source| source.rotate(now))?;
        let set = self.shared.load(&asking, now)?;
        self.shared.turn(set, now);
        Ok(())
    }

    /// Makes every ticket sealed so far worthless, with all keys that the ring holds, upcoming ones
    /// too: for when they may have been stolen.
    ///
    /// Random keys go on with a new one at once. Other sources may name the revoked keys for as
    /// long as they like, they are not used again by this ring: no tickets are sent until all files
    /// are made anew (a rotation would let a revoked key seal), or for up to three periods with
    /// [`derived`](Self::derived) keys, where a stolen secret must be changed for a new one anyway.
    /// Nor are any sent while a clock that was put back shows a time before this.
    ///
    /// The keys end before this returns. It may wait for the source all the same, to have new ones;
    /// before the first `set_resumption` it asks for the keys first, and if there are none to be had
    /// then, they are not revoked when they come.
    ///
    /// Call it on every host, and take the keys out of the files: a ring made later knows nothing
    /// of it. [`Resumption::forget_all`](crate::Resumption::forget_all) ends sessions and keeps
    /// keys.
    pub fn revoke_all(&self) {
        self.revoke_all_at(SystemTime::now());
    }

    pub(super) fn revoke_all_at(&self, now: SystemTime) {
        // At once, whatever the source is doing.
        let revoke = |ring: Option<&Ring>, revoked: &mut Revoked| {
            revoked.add(ring?);
            Some(Ring::empty(now))
        };
        self.shared.replace(revoke);
        let asking = self.shared.turning.asking();
        let asking = asking.lock();
        if self.shared.ring.read().is_none() {
            // What is asked for first later is what there is now.
            if let Ok(set) = self.shared.load(&asking, now) {
                self.shared.turn(set, now);
                self.shared.replace(revoke);
            }
        }
        // Most sources cannot. They will name keys of this time again.
        if self
            .shared
            .ask(&asking, |source| source.rotate(now))
            .is_err()
        {
            self.shared.replace(|_, revoked| {
                revoked.add_all_before(now);
                None
            });
        }
        self.shared.reload(&asking, now);
    }

    /// Why the source gave no keys when it was asked last; `None` if it gave some.
    ///
    /// The keys before go on meanwhile, for as long as they may.
    #[must_use]
    pub fn last_error(&self) -> Option<KeyError> {
        self.shared.said.lock().error.clone()
    }

    /// What is to be said against the keys that the source gave last, which are used all the same:
    /// a file that others can read.
    #[must_use]
    pub fn last_warning(&self) -> Option<String> {
        self.shared.said.lock().warning.clone()
    }

    /// Sees to it that there are keys, that retired ones stay for `lifetime` at least, and that
    /// somebody looks after them.
    pub(crate) fn prepare(&self, lifetime: Duration, now: SystemTime) -> Result<(), KeyError> {
        self.adopt(lifetime, now)?;
        let refresher = &self.shared.refresher;
        refresher.start(&self.shared.this).map_err(KeyError::new)?;
        refresher.wake(&self.shared.this);
        Ok(())
    }

    pub(super) fn adopt(&self, lifetime: Duration, now: SystemTime) -> Result<(), KeyError> {
        // First, because it decides which keys are still of use.
        let before = self.shared.lifetime.fetch_max(lifetime.as_secs(), Relaxed);
        let is_first = self.load_first(now)?;
        if before < lifetime.as_secs() && !is_first {
            // Keys that had ended may live on.
            self.shared.replace(|ring, _| Some(ring?.due(now)));
        }
        Ok(())
    }

    /// Returns whether there were no keys before.
    pub(super) fn load_first(&self, now: SystemTime) -> Result<bool, KeyError> {
        if self.shared.ring.read().is_some() {
            return Ok(false);
        }
        let asking = self.shared.turning.asking();
        let asking = asking.lock();
        // Another thread may have been faster.
        if self.shared.ring.read().is_some() {
            return Ok(false);
        }
        let set = self.shared.load(&asking, now)?;
        self.shared.turn(set, now);
        Ok(true)
    }

    /// The key to seal a ticket with.
    pub(crate) fn sealing(&self, now: SystemTime) -> Option<Arc<TicketKey>> {
        self.shared.ring_at(now)?.active(now).cloned()
    }

    /// The key that a ticket names, and its standing in the ring.
    pub(crate) fn opening(
        &self,
        name: &[u8; 16],
        now: SystemTime,
    ) -> Option<(Arc<TicketKey>, Standing)> {
        let ring = self.shared.ring_at(now)?;
        let (key, standing) = ring.find(name, now, self.shared.lifetime())?;
        Some((Arc::clone(key), standing))
    }

    /// For how long the active key has been sealing.
    pub(crate) fn age(&self, now: SystemTime) -> Option<Duration> {
        self.shared.ring.read().as_ref()?.age(now)
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

#[cfg(test)]
pub(super) mod tests;
