//! What a session must satisfy before it is resumed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openssl::ssl::{SslSessionRef, SslVersion};

use crate::ffi;
use crate::outcome::Reason;

/// What a decoded session says of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claims {
    pub(crate) version: SslVersion,
    pub(crate) expires_at: SystemTime,
    /// Whether it carries a session id context.
    pub(crate) has_context: bool,
}

impl Claims {
    pub(crate) fn of(session: &SslSessionRef) -> Self {
        let ends = session.time().saturating_add(session.timeout());
        let ends = Duration::from_secs(u64::try_from(ends).unwrap_or(0));
        Self {
            version: session.protocol_version(),
            expires_at: UNIX_EPOCH.checked_add(ends).unwrap_or(UNIX_EPOCH),
            has_context: !ffi::id_context(session).is_empty(),
        }
    }
}

/// Whether a session may be resumed in a handshake of `version` at `now`.
///
/// OpenSSL compares session id contexts itself; but where both are empty and the peer is to be
/// verified it fails the connection instead of declining (P6), so such a session never gets there.
pub(crate) fn check(claims: &Claims, version: SslVersion, now: SystemTime) -> Result<(), Reason> {
    if claims.version != version || !claims.has_context {
        return Err(Reason::WrongContext);
    }
    if claims.expires_at <= now {
        return Err(Reason::Expired);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_a_living_session_of_this_version_with_a_context_passes() {
        let now = SystemTime::now();
        let good = Claims {
            version: SslVersion::TLS1_3,
            expires_at: now + Duration::from_secs(1),
            has_context: true,
        };
        let checked = |claims| check(&claims, SslVersion::TLS1_3, now);
        assert_eq!(checked(good), Ok(()));
        assert_eq!(
            checked(Claims {
                expires_at: now,
                ..good
            }),
            Err(Reason::Expired)
        );
        let other = Claims {
            version: SslVersion::TLS1_2,
            ..good
        };
        assert_eq!(checked(other), Err(Reason::WrongContext));
        let bare = Claims {
            has_context: false,
            ..good
        };
        assert_eq!(checked(bare), Err(Reason::WrongContext));
    }
}
