//! The callbacks that OpenSSL calls: each decodes its pointers, catches panics, asks `Decisions`, and encodes the
//! answer.
//!
//! Two things hold in all of them and are what their `SAFETY` sentences lean on. OpenSSL passes
//! pointers that are live for the duration of the call, of the types declared in its headers. And
//! it calls on the thread that drives the connection, so nothing else touches that `SSL` meanwhile.

use std::ffi::{c_int, c_uchar, c_void};
use std::panic::AssertUnwindSafe;
use std::{ptr, slice};

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::cipher_ctx::CipherCtxRef;
use openssl::ssl::{SslRef, SslSessionRef};
use openssl_sys as sys;

use super::decisions::decisions;
use super::declare::*;
use super::error_queue::shielded;
use super::session_mut::SessionMut;
use super::ticket::{Ticket, TicketContext, Verdict};
use crate::base::catch;

/// `SSL_CTX_sess_set_new_cb`: a session was made that can be resumed by its id.
pub(super) unsafe extern "C" fn new_session(
    ssl: *mut sys::SSL,
    session: *mut sys::SSL_SESSION,
) -> c_int {
    shielded((), || {
        // SAFETY: live and ours alone for the call.
        let ssl = unsafe { SslRef::from_ptr_mut(ssl) };
        // SAFETY: live for the call.
        let session = unsafe { SslSessionRef::from_ptr(session) };
        if let Some(decisions) = decisions() {
            // SAFETY: as above.
            decisions.made(ssl, unsafe { SessionMut::of_callback(session) });
        }
    });
    // We kept no reference to the session.
    0
}

/// `SSL_CTX_sess_set_get_cb`: the client offers a session id or, in TLS 1.3, a stateful ticket.
pub(super) unsafe extern "C" fn get_session(
    ssl: *mut sys::SSL,
    id: *const c_uchar,
    len: c_int,
    copy: *mut c_int,
) -> *mut sys::SSL_SESSION {
    // SAFETY: an output of the callback. 0: OpenSSL takes over our reference.
    unsafe { *copy = 0 };
    let found = shielded(None, || {
        // SAFETY: live and ours alone for the call.
        let ssl = unsafe { SslRef::from_ptr_mut(ssl) };
        // SAFETY: OpenSSL passes that many bytes of the ClientHello.
        let id = unsafe { slice::from_raw_parts(id, usize::try_from(len).ok()?) };
        decisions()?.offered(ssl, id)
    });
    found.map_or(ptr::null_mut(), |session| {
        let pointer = session.as_ptr();
        std::mem::forget(session);
        pointer
    })
}

/// `SSL_CTX_set_tlsext_ticket_key_evp_cb`: a ticket is to be sealed (`enc` 1) or opened (0).
///
/// Answers 1 for yes and 0 for no: no ticket, or a full handshake. Never below, which is fatal.
/// Whether to renew is decided in `decrypt_ticket`.
pub(super) unsafe extern "C" fn ticket_key(
    ssl: *mut sys::SSL,
    name: *mut c_uchar,
    iv: *mut c_uchar,
    cipher: *mut sys::EVP_CIPHER_CTX,
    mac: *mut sys::EVP_MAC_CTX,
    enc: c_int,
) -> c_int {
    let keyed = shielded(None, || {
        // SAFETY: live and ours alone for the call.
        let ssl = unsafe { SslRef::from_ptr_mut(ssl) };
        // SAFETY: a buffer of 16 bytes when sealing, the first 16 bytes of the ticket when opening,
        // which OpenSSL has checked to be there.
        let name = unsafe { &mut *name.cast::<[u8; 16]>() };
        // SAFETY: as above, for the next 16 bytes; `EVP_MAX_IV_LENGTH` is 16.
        let iv = unsafe { &mut *iv.cast::<[u8; 16]>() };
        // SAFETY: live and ours alone for the call.
        let cipher = unsafe { CipherCtxRef::from_ptr_mut(cipher) };
        // SAFETY: live and ours alone for the call.
        let mut ticket = unsafe { TicketContext::of_callback(name, iv, cipher, mac) };
        if enc == 1 {
            decisions()?.seal(ssl, &mut ticket)
        } else {
            decisions()?.open(ssl, &mut ticket)
        }
    });
    c_int::from(keyed.is_some())
}

/// The first half of `SSL_CTX_set_session_ticket_cb`: a ticket is about to be made, for a TLS 1.2
/// session that is to be sealed or for any TLS 1.3 session, sealed or stored.
pub(super) unsafe extern "C" fn generate_ticket(ssl: *mut sys::SSL, _arg: *mut c_void) -> c_int {
    // SAFETY: live and ours alone for the call.
    let ssl = unsafe { SslRef::from_ptr_mut(ssl) };
    let due = catch(AssertUnwindSafe(|| {
        let session = ssl.session().map(ToOwned::to_owned);
        // SAFETY: OpenSSL is about to make a ticket of it.
        let of_callback = |session| unsafe { SessionMut::of_callback(session) };
        let session = session.as_deref().map(of_callback);
        decisions().is_none_or(|decisions| decisions.ticket_due(ssl, session))
    }));
    // 0 is fatal. Not to know is not to let pass.
    c_int::from(due.unwrap_or(false))
}

/// `SSL_CTX_set_allow_early_data_cb`: everything else is right for early data. Answers 1 to accept it, and 0 to go
/// on without.
pub(super) unsafe extern "C" fn allow_early_data(ssl: *mut sys::SSL, _arg: *mut c_void) -> c_int {
    let accept = shielded(false, || {
        // SAFETY: live and ours alone for the call.
        let ssl = unsafe { SslRef::from_ptr_mut(ssl) };
        decisions().is_some_and(|decisions| decisions.early_data(ssl))
    });
    c_int::from(accept)
}

/// The second half of `SSL_CTX_set_session_ticket_cb`: OpenSSL has opened a ticket, or could not.
pub(super) unsafe extern "C" fn decrypt_ticket(
    ssl: *mut sys::SSL,
    session: *mut sys::SSL_SESSION,
    _name: *const c_uchar,
    _name_len: usize,
    status: c_int,
    _arg: *mut c_void,
) -> c_int {
    let verdict = shielded(None, || {
        // SAFETY: live and ours alone for the call.
        let ssl = unsafe { SslRef::from_ptr_mut(ssl) };
        let ticket = match status {
            SSL_TICKET_EMPTY => Ticket::Empty,
            SSL_TICKET_SUCCESS | SSL_TICKET_SUCCESS_RENEW => {
                // SAFETY: with these two OpenSSL passes the session, live for the call.
                let session = unsafe { SslSessionRef::from_ptr(session) };
                // SAFETY: it has just been opened, and is ours alone for the call.
                Ticket::Opened(unsafe { SessionMut::of_callback(session) })
            }
            _ => Ticket::Unreadable,
        };
        decisions()?.decide(ssl, ticket)
    });
    match verdict {
        // Not IGNORE: TLS 1.3 would then send no new ticket, and TLS 1.2 would go on to look the
        // session id up.
        None | Some(Verdict::Decline) => SSL_TICKET_RETURN_IGNORE_RENEW,
        Some(Verdict::Use) => SSL_TICKET_RETURN_USE,
        Some(Verdict::Renew) => SSL_TICKET_RETURN_USE_RENEW,
    }
}
