//! Whether a session may be resumed in a handshake.

use std::time::SystemTime;

use openssl::ssl::{SslSessionRef, SslVersion};

use super::stamp::{Binding, Stamp, expires_at};
use crate::base::unix_seconds;
use crate::ffi;
use crate::outcome::Reason;

/// What a decoded session says of itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claims {
    pub(crate) version: SslVersion,
    pub(crate) expires_at: SystemTime,
    /// Whether it carries a session id context.
    pub(crate) has_context: bool,
    /// Whether it carries a client certificate or raw public key.
    pub(crate) has_credential: bool,
    pub(crate) stamp: Option<Stamp>,
}

impl Claims {
    pub(crate) fn of(session: &SslSessionRef) -> Self {
        Self {
            version: session.protocol_version(),
            expires_at: expires_at(session),
            has_context: !ffi::id_context(session).is_empty(),
            has_credential: ffi::credential(session).is_some(),
            stamp: Stamp::from_bytes(ffi::appdata(session)),
        }
    }
}

/// What a session must be to be resumed in the handshake at hand, as far as is known when the
/// client's offer is looked up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Here {
    pub(crate) version: SslVersion,
    pub(crate) binding: Binding,
    /// In seconds.
    pub(crate) lifetime: u64,
    /// Sessions of full handshakes up to this second have been forgotten.
    pub(crate) cutoff: Option<u64>,
    /// Whether sessions with a client certificate or raw public key are resumed.
    pub(crate) certificates: bool,
    pub(crate) now: SystemTime,
}

/// Whether a session may be resumed here, but for what is forgotten by name and for the demand:
/// that may be dear to find out, and is asked of what passes this.
pub(crate) fn check(claims: &Claims, here: &Here) -> Result<Stamp, Reason> {
    if claims.version != here.version {
        return Err(Reason::WrongContext);
    }
    let stamp = claims.stamp.ok_or(Reason::NoStamp)?;
    // OpenSSL compares session id contexts itself; but where both are empty and the peer is to be
    // verified it fails the connection instead of declining.
    if !claims.has_context {
        return Err(Reason::WrongContext);
    }
    let now = unix_seconds(here.now);
    if stamp.ended {
        return Err(Reason::Expired);
    }
    if claims.expires_at <= here.now || stamp.time.saturating_add(here.lifetime) <= now {
        return Err(Reason::Expired);
    }
    // Made while the clock was far ahead, here or on a host that shares store or keys. Less is the
    // difference between clocks.
    if stamp.time > now.saturating_add(here.lifetime) {
        return Err(Reason::Expired);
    }
    if here.cutoff.is_some_and(|cutoff| stamp.time <= cutoff) {
        return Err(Reason::Forgotten);
    }
    if stamp.binding != here.binding {
        return Err(Reason::OtherBinding);
    }
    if claims.has_credential && !here.certificates {
        return Err(Reason::ClientCertificate);
    }
    Ok(stamp)
}
