//! Stamps of sessions that are being made, and of those that are resumed.

use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::ssl::{NameType, SslRef, SslSessionRef};
use openssl::x509::{X509Ref, X509VerifyResult};

use super::connection::Connection;
use super::demand::demand;
use crate::ffi::{self, CredentialRef, SessionMut};
use crate::session::{ClientIs, Stamp};

/// The stamp of the session that a connection resumes.
pub(super) fn resumed_stamp(ssl: &SslRef) -> Option<Stamp> {
    ssl.session().map(ffi::appdata).and_then(Stamp::from_bytes)
}

/// Stamps a session that OpenSSL is just making, and sets when it ends.
pub(super) fn stamp_session(ssl: &SslRef, session: &mut SessionMut<'_>) {
    let Some(connection) = Connection::of(ssl) else {
        return;
    };
    let policy = connection.policy();
    // A resumption hands the stamp on: name and demand were compared with it. So does a handshake
    // that is complete: what the client was verified with then may have changed since.
    let inherited = Stamp::from_bytes(ffi::appdata(session))
        .filter(|_| ssl.session_reused() || connection.outcome().is_some());
    let credential = ffi::credential(session);
    let made = || {
        let demand = demand(ssl, connection);
        let (client, authority) = match credential {
            None => (ClientIs::Anonymous, demand.authority),
            Some(_) if ssl.verify_result() == X509VerifyResult::OK => {
                (ClientIs::Verified, demand.authority)
            }
            Some(_) => (ClientIs::Unverified, demand.unverified()),
        };
        Stamp {
            time: connection.started(),
            binding: connection
                .owner()
                .binding(ssl.servername_raw(NameType::HOST_NAME)),
            authority,
            client,
        }
    };
    let stamp = match inherited {
        Some(stamp) if connection.client().is_stamped_for(credential) => stamp,
        // The client has been asked for a certificate since (RFC 8446, section 4.6.2).
        Some(Stamp { time, .. }) => Stamp { time, ..made() },
        None => made(),
    };
    let dated = u64::try_from(session.time()).unwrap_or(0);
    let ends = |certificate: &X509Ref| ffi::shielded(0, || unix_time(certificate.not_after()));
    let certificate = credential.as_ref().and_then(CredentialRef::certificate);
    let certificate_ends = certificate.map(ends);
    let lifetime = policy.knobs().lifetime.as_secs();
    let timeout = stamp.timeout(dated, lifetime, certificate_ends);
    // What has ended already says so in the stamp: OpenSSL leaves a timeout of 0 out when it writes
    // a session and reads 3 in its place, and fails the connection whose ticket grows by that.
    let time = if timeout == 0 { 0 } else { stamp.time };
    let stamp = Stamp { time, ..stamp };
    connection.client().note_stamped(credential);
    if inherited != Some(stamp) {
        session.set_appdata(&stamp.to_bytes());
    }
    session.set_timeout(timeout.max(1));
}

/// Whether the session had ended when it was stamped.
pub(super) fn has_ended(session: &SslSessionRef) -> bool {
    Stamp::from_bytes(ffi::appdata(session)).is_some_and(|stamp| stamp.time == 0)
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

#[cfg(test)]
mod tests {
    use super::*;

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
