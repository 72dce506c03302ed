//! Tickets that are asked for when their session has ended, and are not sent.

use openssl::ssl::{SslRef, SslVersion};
use openssl_sys as sys;

use super::connection::Connection;
use super::stamping::has_ended;
use crate::ffi;

/// A stateful TLS 1.3 ticket of a session that has ended: OpenSSL has no way to call it off, but one for tickets
/// that cannot be sealed. So it is to be sealed, and `stateless::seal`, which has no key for it, makes the option
/// what it was.
pub(super) fn withhold_ended(ssl: &mut SslRef) {
    let is_ended = |session| {
        has_ended(session)
            // More cannot be sealed, which would be fatal.
            && ffi::session_to_der(session, 0, 0).is_some_and(|der| der.as_bytes().len() <= 0xff00)
    };
    if ssl.version2() == Some(SslVersion::TLS1_3)
        && ffi::has_option(ssl, sys::SSL_OP_NO_TICKET)
        && Connection::of(ssl).is_some_and(|connection| connection.owner().overridden().is_none())
        && ffi::can_withhold_tickets()
        && !ffi::has_replay_protection(ssl)
        && ssl.session().is_some_and(is_ended)
    {
        ffi::set_no_ticket(ssl, false);
        if let Some(connection) = Connection::of_mut(ssl) {
            connection.tickets_mut().withhold();
        }
    }
}

/// Whether the ticket that is to be sealed could resume nowhere, and can be withheld. In TLS 1.2 it is empty then.
pub(super) fn is_withheld(ssl: &SslRef) -> bool {
    let is_tls13 = || ssl.version2() == Some(SslVersion::TLS1_3);
    ssl.session().is_some_and(has_ended) && (ffi::can_withhold_tickets() || !is_tls13())
}
