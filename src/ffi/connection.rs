//! Connections: their options and states.

use std::ptr;

use foreign_types::ForeignTypeRef;
use openssl::ssl::SslRef;
use openssl_sys as sys;

use super::declare::*;
use super::memory::random;

/// Whether the connection has this option; OpenSSL copies those of the context that it begins with.
pub(crate) fn has_option(ssl: &SslRef, option: u64) -> bool {
    // SAFETY: reads a field of a live SSL.
    unsafe { SSL_get_options(ssl.as_ptr()) & option != 0 }
}

/// Gives a connection a session id context that no session has or will have.
pub(crate) fn isolate(ssl: &mut SslRef) -> Result<(), ()> {
    let mut unique = [0; 32];
    random(&mut unique)?;
    // SAFETY: OpenSSL copies the bytes into the live SSL.
    let done = unsafe { SSL_set_session_id_context(ssl.as_ptr(), unique.as_ptr(), 32) };
    (done == 1).then_some(()).ok_or(())
}

/// Switches `SSL_OP_NO_TICKET` of a connection on or off.
pub(crate) fn set_no_ticket(ssl: &mut SslRef, on: bool) {
    if on {
        // SAFETY: sets a field of a live SSL.
        unsafe { SSL_set_options(ssl.as_ptr(), sys::SSL_OP_NO_TICKET) };
    } else {
        // SAFETY: as above.
        unsafe { SSL_clear_options(ssl.as_ptr(), sys::SSL_OP_NO_TICKET) };
    }
}

/// Whether a TLS 1.3 ticket that the ticket key callback gives no key for is not sent. Before OpenSSL 3.0.7 it
/// is sent without content, which clients take for an error (openssl#18977).
pub(crate) fn can_withhold_tickets() -> bool {
    openssl::version::number() >= 0x3000_0070
}

/// Whether OpenSSL protects early data against replays: then TLS 1.3 tickets are stateful whatever the options say.
pub(crate) fn has_replay_protection(ssl: &SslRef) -> bool {
    ssl.max_early_data() > 0 && !has_option(ssl, SSL_OP_NO_ANTI_REPLAY)
}

/// Whether no handshake of the connection has begun: not in a renegotiation, nor on the way on after
/// SSL_read_early_data returned.
pub(crate) fn is_before_handshake(ssl: &SslRef) -> bool {
    // SAFETY: reads fields of a live SSL.
    unsafe { SSL_in_before(ssl.as_ptr()) == 1 }
}

/// Takes the session out of an SSL whose handshake has not begun.
pub(crate) fn drop_session(ssl: &mut SslRef) {
    // SAFETY: frees the reference that a live SSL has.
    unsafe { sys::SSL_set_session(ssl.as_ptr(), ptr::null_mut()) };
}

/// Has reading find the connection shut down, so that its handshake fails before any data passes.
pub(crate) fn shut_down(ssl: &mut SslRef) {
    let both = SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN;
    // SAFETY: sets a field of a live SSL.
    unsafe { sys::SSL_set_shutdown(ssl.as_ptr(), both) };
}

/// Whether the settings of the connection let it negotiate TLS 1.3.
pub(crate) fn has_tls13(ssl: &SslRef) -> bool {
    let get = sys::SSL_CTRL_GET_MAX_PROTO_VERSION;
    // SAFETY: this control reads a field of a live SSL; 0 is no limit.
    let max = unsafe { sys::SSL_ctrl(ssl.as_ptr(), get, 0, ptr::null_mut()) };
    (max == 0 || max >= sys::TLS1_3_VERSION.into()) && !has_option(ssl, sys::SSL_OP_NO_TLSv1_3)
}
