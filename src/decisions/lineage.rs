//! What a connection tells of the full handshake that its session descends from.

use openssl::ssl::SslRef;
use openssl::x509::X509VerifyResult;

use super::client::Made;
use super::connection::Connection;
use crate::ffi;
use crate::outcome::{Handshake, Source};
use crate::session::{Chain, Lineage, Stamp};

/// `None` while the handshake is unfinished, or if what was resumed is not a session of ours.
pub(crate) fn lineage(ssl: &SslRef) -> Option<Lineage> {
    let connection = Connection::of(ssl)?;
    let outcome = connection.outcome()?;
    let chain = connection.client().chain();
    if let Some(Made { id, time, data }) = connection.client().made(connection.started()) {
        let is_verified = ssl.verify_result() == X509VerifyResult::OK;
        let certificate = ssl.peer_certificate().filter(|_| is_verified);
        let chain = certificate.map(|own| Chain::with(&own, chain.as_deref()));
        return Some(Lineage::new(id, time, &data, chain));
    }
    if outcome.handshake == Handshake::Resumed(Source::Other) {
        return None;
    }
    let session = ssl.session()?;
    let (stamp, data) = Stamp::with_data(ffi::appdata(session))?;
    let certificate = ffi::peer_certificate(session);
    Some(Lineage::of_session(
        &stamp,
        data,
        certificate,
        chain.as_deref(),
    ))
}
