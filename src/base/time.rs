//! Time in whole seconds, as sessions and keys count it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest that a session lives: the bound of RFC 8446, section 4.6.1.
pub(crate) const MAX_LIFETIME: Duration = Duration::from_secs(7 * 24 * 60 * 60);

pub(crate) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
