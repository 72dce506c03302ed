//! Where ticket keys come from.

use std::sync::Arc;
use std::time::SystemTime;

use super::error::KeyError;
use super::key::TicketKey;

/// Where ticket keys come from: the seam for anything that [`TicketKeys`](crate::TicketKeys) does
/// not offer itself.
///
/// No handshake calls a source or waits for one: a thread of the ring does, beside
/// [`set_resumption`](crate::SslContextBuilderExt::set_resumption) for the first keys. It may
/// therefore take its time; the ring goes on with the keys it has. That thread blocks all signals, and so do
/// threads and processes that are started in it, unless they change that.
pub trait KeySource: Send + Sync + 'static {
    /// Returns the keys to use from `now` on, upcoming ones among them: every key that the ring is
    /// to hold, for one that is not in the set is forgotten at once.
    ///
    /// Called when the set before says so ([`KeySet::new`]), when the clock was put back by more
    /// than a minute, when a policy with a longer lifetime is applied, and after
    /// [`rotate`](Self::rotate). Names must differ: of two keys with one name the second never opens.
    ///
    /// # Errors
    ///
    /// There are no keys to be had now. The ring goes on with those it has, for as long as they may
    /// seal ([`KeySet::seals_until`]) and open, shows the error in
    /// [`TicketKeys::last_error`](crate::TicketKeys::last_error), and asks again a second later.
    fn load(&self, now: SystemTime) -> Result<KeySet, KeyError>;

    /// Makes a new key, the one that seals in what [`load`](Self::load) returns next. For
    /// [`TicketKeys::rotate`](crate::TicketKeys::rotate) and
    /// [`revoke_all`](crate::TicketKeys::revoke_all).
    ///
    /// # Errors
    ///
    /// By default always: the keys change at their source only.
    fn rotate(&self, now: SystemTime) -> Result<(), KeyError> {
        let _ = now;
        Err(KeyError::new(
            "these ticket keys change at their source; change them there",
        ))
    }
}

/// What a [`KeySource`] returns: the key that seals, the keys that open, and when to ask again.
#[derive(Debug, Clone)]
pub struct KeySet {
    pub(super) seals: Arc<TicketKey>,
    /// Each seals from its time on, in any order.
    pub(super) upcoming: Vec<(Arc<TicketKey>, SystemTime)>,
    /// Each has sealed until its time, if it is known.
    pub(super) opens: Vec<(Arc<TicketKey>, Option<SystemTime>)>,
    pub(super) load_again: SystemTime,
    pub(super) seals_until: Option<SystemTime>,
    pub(super) warning: Option<String>,
}

impl KeySet {
    /// `seals` seals and opens tickets. From `load_again` on the source is asked anew, but not
    /// before a second is over.
    #[must_use]
    pub fn new(seals: impl Into<Arc<TicketKey>>, load_again: SystemTime) -> Self {
        Self {
            seals: seals.into(),
            upcoming: Vec::new(),
            opens: Vec::new(),
            load_again,
            seals_until: None,
            warning: None,
        }
    }

    /// Adds a key that opens tickets for as long as the source names it.
    #[must_use]
    pub fn opens(mut self, key: impl Into<Arc<TicketKey>>) -> Self {
        self.opens.push((key.into(), None));
        self
    }

    /// Adds a key that has sealed until this time, on any host: it opens until the last ticket
    /// sealed under it has expired, and is then wiped.
    #[must_use]
    pub fn retired(mut self, key: impl Into<Arc<TicketKey>>, sealed_until: SystemTime) -> Self {
        self.opens.push((key.into(), Some(sealed_until)));
        self
    }

    /// Adds a key that opens tickets now and seals from this time on; the one that sealed before it
    /// is then retired. So hosts whose clocks differ change keys without loss.
    #[must_use]
    pub fn upcoming(mut self, key: impl Into<Arc<TicketKey>>, seals_from: SystemTime) -> Self {
        self.upcoming.push((key.into(), seals_from));
        self
    }

    /// When the last of the keys stops sealing if the source has given no others by then:
    /// handshakes are full from then on, and [`TicketStats::unsealed`](crate::TicketStats::unsealed)
    /// counts the tickets that were not sent. Without, it goes on for ever.
    #[must_use]
    pub fn seals_until(mut self, time: SystemTime) -> Self {
        self.seals_until = Some(time);
        self
    }

    /// Adds what an operator should see in
    /// [`TicketKeys::last_warning`](crate::TicketKeys::last_warning).
    #[must_use]
    pub fn warning(mut self, warning: impl Into<String>) -> Self {
        self.warning = Some(warning.into());
        self
    }
}
