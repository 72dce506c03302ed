//! What a connection tells of the full handshake that its session descends from.

use openssl::ssl::SslRef;
use openssl::x509::X509VerifyResult;

use super::client::Made;
use super::connection::Connection;
use crate::ffi::{self, CredentialRef};
use crate::outcome::{Handshake, Source};
use crate::session::{Chain, Lineage, Stamp};

/// `None` while the handshake is unfinished, or if what was resumed is not a session of ours.
pub(crate) fn lineage(ssl: &SslRef) -> Option<Lineage> {
    let connection = Connection::of(ssl)?;
    if connection.outcome()?.handshake == Handshake::Resumed(Source::Other) {
        return None;
    }
    let session = ssl.session()?;
    let credential = ffi::credential(session);
    let chain = connection.client().chain();
    let made = connection.client().made(connection.started());
    let (id, time, data, is_known) = match made {
        Some(Made { id, time, data }) => (id, time, data, true),
        None => {
            let (stamp, data) = Stamp::with_data(ffi::appdata(session))?;
            let is_known = chain.as_deref().map(Chain::hash) == stamp.chain.as_ref();
            (stamp.lineage, stamp.time, data.into(), is_known)
        }
    };
    // The client has given another certificate since, in an exchange that no session came of.
    if !connection.client().is_stamped_for(credential) {
        return Some(Lineage::new(id, time, &[], None));
    }
    let certificate = credential.as_ref().and_then(CredentialRef::certificate);
    let is_verified = ssl.verify_result() == X509VerifyResult::OK;
    let certificate = certificate.filter(|_| is_verified && is_known);
    let chain = certificate.map(|own| Chain::with(own, chain.as_deref()));
    Some(Lineage::new(id, time, &data, chain))
}
