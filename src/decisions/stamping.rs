//! Stamps of sessions that are being made, and of those that are resumed.

use openssl::ssl::{NameType, SslRef, SslSessionRef};
use openssl::x509::{X509Ref, X509VerifyResult};

use super::client::Made;
use super::connection::Connection;
use super::demand::{demand, unique};
use crate::ffi::{self, CredentialRef, SessionMut};
use crate::session::{Chain, ClientIs, Stamp};

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
    let inherited = Stamp::with_data(ffi::appdata(session))
        .filter(|_| ssl.session_reused() || connection.outcome().is_some())
        .map(|(stamp, data)| (stamp, data.to_vec()));
    let credential = ffi::credential(session);
    let is_same = connection.client().is_stamped_for(credential);
    let before = inherited.as_ref().map(|(stamp, _)| *stamp);
    let (stamp, data) = match inherited {
        Some(inherited) if is_same => inherited,
        // The client has been asked for a certificate since (RFC 8446, section 4.6.2).
        Some((Stamp { time, .. }, _)) => make(ssl, connection, credential, time),
        None => make(ssl, connection, credential, connection.started()),
    };
    let dated = u64::try_from(session.time()).unwrap_or(0);
    let ends = |certificate: &X509Ref| ffi::shielded(0, || ffi::unix_time(certificate.not_after()));
    let certificate = credential.as_ref().and_then(CredentialRef::certificate);
    let certificate_ends = certificate.map(ends);
    let lifetime = policy.knobs().lifetime.as_secs();
    let timeout = stamp.timeout(dated, lifetime, certificate_ends);
    // What has ended already says so in the stamp: OpenSSL leaves a timeout of 0 out when it writes
    // a session and reads 3 in its place, and fails the connection whose ticket grows by that.
    let ended = timeout == 0;
    let stamp = Stamp { ended, ..stamp };
    connection.client().note_stamped(credential);
    if before != Some(stamp) {
        session.set_appdata(&stamp.to_bytes(&data));
    }
    session.set_timeout(timeout.max(1));
}

/// A full handshake is complete: begins a lineage if no session was made that has one.
pub(super) fn begin_lineage(ssl: &SslRef, connection: &Connection) {
    if connection.client().has_made() {
        return;
    }
    let credential = ssl.session().and_then(ffi::credential);
    make(ssl, connection, credential, connection.started());
    connection.client().note_stamped(credential);
}

/// A stamp for a session of a client that has been verified in this connection, and what the application ties to it: a
/// lineage begins, of a handshake at `time`.
fn make(
    ssl: &SslRef,
    connection: &Connection,
    credential: Option<CredentialRef<'_>>,
    time: u64,
) -> (Stamp, Vec<u8>) {
    let demand = demand(ssl, connection);
    let (client, authority) = match credential {
        None => (ClientIs::Anonymous, demand.authority),
        Some(_) if ssl.verify_result() == X509VerifyResult::OK => {
            (ClientIs::Verified, demand.authority)
        }
        Some(_) => (ClientIs::Unverified, demand.unverified()),
    };
    let chain = match client {
        ClientIs::Verified => ffi::shielded(None, || chain(ssl)),
        ClientIs::Anonymous | ClientIs::Unverified => None,
    };
    let chain = chain.map(|chain| connection.policy().chains().keep(chain));
    let data = connection.policy().data_for(ssl);
    let made = Made {
        id: unique(),
        time,
        data: data.as_slice().into(),
    };
    let stamp = Stamp {
        time,
        binding: connection
            .owner()
            .binding(ssl.servername_raw(NameType::HOST_NAME)),
        authority,
        client,
        lineage: made.id,
        ended: false,
        chain: chain.as_ref().map(|chain| *chain.hash()),
    };
    connection.client().set_chain(chain);
    connection.client().set_made(made, connection.started());
    (stamp, data)
}

/// What the client sent beside its certificate, as far as its verification has used it.
fn chain(ssl: &SslRef) -> Option<Chain> {
    Chain::of(ssl.peer_cert_chain()?, ssl.verified_chain()?)
}

/// Whether the session had ended when it was stamped.
pub(super) fn has_ended(session: &SslSessionRef) -> bool {
    Stamp::from_bytes(ffi::appdata(session)).is_some_and(|stamp| stamp.ended)
}
