//! What of a connection goes into stamps, and is held against them: when a session is made, when
//! one is looked up, and again after a server name callback may have raised the demand.

use std::time::SystemTime;

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::hash::MessageDigest;
use openssl::ssl::{NameType, SslRef, SslSessionRef, SslVerifyMode};

use crate::connection::Connection;
use crate::ffi;
use crate::outcome::Reason;
use crate::resumption::Resumption;
use crate::stamp::{self, Binding, Claims, Demand, Here, Stamp};

/// What a session must be to be resumed now: the client's offer is being looked up, and neither the
/// server name nor what its callback demands is known but from the ClientHello itself.
pub(crate) fn here(ssl: &SslRef, policy: &Resumption, now: SystemTime) -> Option<Here> {
    let name = ffi::server_name_extension(ssl).map(host_name);
    Some(Here {
        version: ssl.version2()?,
        binding: policy.binding(name),
        demand: demand(ssl),
        lifetime: policy.lifetime_value().as_secs(),
        cutoff: policy.cutoff(),
        certificates: policy.resumes_certificates(),
        now,
    })
}

/// The name in a server name extension (RFC 6066, section 3): a list of one entry, a type and a
/// name. OpenSSL ends the handshake over any other; what it is bound to is then of no account.
fn host_name(extension: &[u8]) -> &[u8] {
    match extension {
        [_, _, 0, _, _, name @ ..] => name,
        other => other,
    }
}

/// What the connection demands of its client at this moment.
pub(crate) fn demand(ssl: &SslRef) -> Demand {
    let verify = ffi::verify_mode(ssl);
    let authority =
        verify
            .contains(SslVerifyMode::PEER)
            .then(|| match ffi::applied(ssl.ssl_context()) {
                Some(applied) => applied.authority(ssl, ffi::ca_set(ssl)),
                None => ffi::authority(ssl),
            });
    Demand { verify, authority }
}

/// Whether the policy resumes this session here.
pub(crate) fn admit(
    policy: &Resumption,
    session: &SslSessionRef,
    here: &Here,
) -> Result<Stamp, Reason> {
    let stamp = stamp::check(&Claims::of(session), here)?;
    let forgotten = policy.forgotten();
    if !forgotten.is_listing() {
        return Ok(stamp);
    }
    let certificate = match ffi::peer_certificate(session) {
        // What cannot be hashed cannot be told from what is forgotten.
        Some(certificate) => match certificate.digest(MessageDigest::sha256()) {
            Ok(digest) => (*digest).try_into().ok(),
            Err(_) => return Err(Reason::Forgotten),
        },
        None => None,
    };
    let forgets = |hash: &[u8; 32]| forgotten.is_forgotten(hash, stamp.time);
    if forgets(&listed(stamp.binding)) || certificate.as_ref().is_some_and(forgets) {
        return Err(Reason::Forgotten);
    }
    Ok(stamp)
}

/// A binding in the list of what is forgotten, among SHA-256 values.
fn listed(binding: Binding) -> [u8; 32] {
    let mut hash = [0; 32];
    hash[..binding.len()].copy_from_slice(&binding);
    hash
}

/// Whether a connection that resumes may go on: what is demanded now, after the server name callback,
/// is met by the session.
///
/// If not it is too late to decline, and the connection must be failed. Its client would come back
/// with the same session, so the sessions with this binding are forgotten: the next connection is a
/// full handshake, and is asked for what this one lacks.
pub(crate) fn may_go_on(ssl: &SslRef, now: SystemTime) -> bool {
    let Some(connection) = ffi::connection(ssl) else {
        return true;
    };
    let Some(stamp) = connection.resuming().filter(|_| ssl.session_reused()) else {
        return true;
    };
    let met = demand(ssl).is_met_by(stamp).is_ok();
    if !met {
        connection.policy().forget(listed(stamp.binding), now);
    }
    met
}

/// Stamps a session that OpenSSL is just making, and sets when it ends.
pub(crate) fn stamp_session(ssl: &SslRef, session: &SslSessionRef) {
    let Some(connection) = ffi::connection(ssl) else {
        return;
    };
    let policy = connection.policy();
    // A resumption hands the stamp on: name and demand were compared with it.
    let inherited = Stamp::from_bytes(ffi::appdata(session)).filter(|_| ssl.session_reused());
    let certificate = ffi::peer_certificate(session);
    let stamp = inherited.unwrap_or_else(|| Stamp {
        time: connection.started(),
        binding: policy.binding(ssl.servername_raw(NameType::HOST_NAME)),
        authority: demand(ssl).authority,
        authenticated: certificate.is_some(),
    });
    let made = u64::try_from(session.time()).unwrap_or(0);
    let certificate_ends = certificate.map(|certificate| unix_time(certificate.not_after()));
    let lifetime = policy.lifetime_value().as_secs();
    let timeout = stamp.timeout(made, lifetime, certificate_ends);
    // What has ended already says so in the stamp: OpenSSL leaves a timeout of 0 out when it writes
    // a session and reads 3 in its place, and fails the connection whose ticket grows by that.
    let time = if timeout == 0 { 0 } else { stamp.time };
    ffi::finish_session(session, &Stamp { time, ..stamp }.to_bytes(), timeout.max(1));
}

/// Seconds since the Unix epoch; 0, which is over, for a time that OpenSSL cannot read.
fn unix_time(time: &Asn1TimeRef) -> u64 {
    Asn1Time::from_unix(0)
        .and_then(|epoch| epoch.diff(time))
        .map_or(0, |since| {
            i64::from(since.days) * 86_400 + i64::from(since.secs)
        })
        .try_into()
        .unwrap_or(0)
}

/// Whether sessions of this connection are not to be resumed because its client has a certificate,
/// as far as is known yet.
pub(crate) fn is_refused(ssl: &SslRef) -> bool {
    let policy = ffi::connection(ssl).map(|connection| connection.policy());
    policy.is_some_and(|policy| !policy.resumes_certificates())
        && ssl.session().and_then(ffi::peer_certificate).is_some()
}

/// Whether the client's certificate is too large for the session to be kept in a TLS 1.3 ticket: to
/// seal more than 65,280 bytes is a fatal error to OpenSSL, not a connection without a ticket.
/// (A TLS 1.2 ticket cannot be called off any more when the certificate is known.)
pub(crate) fn is_too_large(ssl: &SslRef) -> bool {
    let policy = ffi::connection(ssl).map(Connection::policy);
    policy.is_some_and(|policy| policy.keys().is_some())
        && ssl
            .session()
            .and_then(ffi::peer_certificate)
            .is_some_and(|certificate| ffi::certificate_len(certificate) > LARGEST_IN_TICKET)
}

/// The largest certificate in a ticket; what else is in a session takes less than 2 KiB.
const LARGEST_IN_TICKET: usize = 0xff00 - 2 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_what_follows_the_list_and_entry_headers() {
        assert_eq!(host_name(b"\0\x04\0\0\x01a"), b"a");
        assert_eq!(host_name(b"\0\x03\0\0\0"), b"");
        assert_eq!(
            host_name(b"\0\x04\x01\0\x01a"),
            b"\0\x04\x01\0\x01a",
            "not a host name"
        );
        assert_eq!(host_name(b""), b"");
    }

    #[test]
    fn certificate_times_become_unix_times() {
        for time in [0, 1, 86_400, 1_800_000_000, 4_102_444_801] {
            let asn1 = Asn1Time::from_unix(time).unwrap();
            assert_eq!(unix_time(&asn1), u64::try_from(time).unwrap());
        }
        let before = Asn1Time::from_str_x509("19500101000000Z").unwrap();
        assert_eq!(unix_time(&before), 0);
    }
}
