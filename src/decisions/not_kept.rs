//! Sessions that are neither stored nor sealed.

use openssl::ssl::SslRef;

use super::connection::Connection;
use super::ticket_kind::is_for_store;
use crate::ffi;

/// Whether sessions of this connection are not to be resumed because of who its client is, as far as is known yet.
pub(super) fn is_refused(ssl: &SslRef, connection: &Connection) -> bool {
    !connection.policy().resumes_certificates() && ssl.session().and_then(ffi::credential).is_some()
}

/// Whether the client's certificate is too large for the session to be kept in a TLS 1.3 ticket: to
/// seal more than 65,280 bytes is a fatal error to OpenSSL, not a connection without a ticket.
/// (A TLS 1.2 ticket cannot be called off any more when the certificate is known.)
pub(super) fn is_too_large(ssl: &SslRef, connection: &Connection) -> bool {
    // What is being resumed has been in a ticket.
    let is_new = || connection.outcome().is_some() || !ssl.session_reused();
    connection.policy().keys().is_some()
        && !is_for_store(ssl, connection)
        && is_new()
        && ssl
            .session()
            .and_then(ffi::peer_certificate)
            .is_some_and(|certificate| ffi::certificate_len(certificate) > LARGEST_IN_TICKET)
}

/// The largest certificate in a ticket; what else is in a session takes less than 3 KiB.
const LARGEST_IN_TICKET: usize = 0xff00 - 3_072;
