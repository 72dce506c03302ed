//! The only unsafe code: declarations, the callbacks that OpenSSL calls, and here small safe functions
//! over what the `openssl` crate does not offer.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_long};
use std::ptr;
use std::slice;
use std::sync::{Arc, OnceLock};

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::cipher::Cipher;
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslContextRef, SslRef, SslSession, SslSessionRef,
};
use openssl_sys as sys;

use crate::connection::Connection;
use crate::context::{Applied, Settings};
use crate::secret::Secret;

mod callbacks;
mod declare;

use callbacks::{decrypt_ticket, get_session, info, new_session, ticket_key};
pub(crate) use declare::InfoCallback;
use declare::*;

/// Overwrites the bytes in a way that the compiler does not leave out.
pub(crate) fn cleanse(bytes: &mut [u8]) {
    // SAFETY: the slice is writable memory of that length.
    unsafe { OPENSSL_cleanse(bytes.as_mut_ptr().cast(), bytes.len()) }
}

/// Fills `bytes`, at most a few hundred, from OpenSSL's random generator.
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), ()> {
    let len = c_int::try_from(bytes.len()).map_err(drop)?;
    // SAFETY: the slice is writable memory of that length.
    let filled = unsafe { sys::RAND_bytes(bytes.as_mut_ptr(), len) };
    (filled == 1).then_some(()).ok_or(())
}

// ---- Contexts

static APPLIED: OnceLock<Index<SslContext, Arc<Applied>>> = OnceLock::new();
static CONNECTION: OnceLock<Index<Ssl, Connection>> = OnceLock::new();
/// Fetched once: `EVP_CIPHER_fetch` per ticket contends on locks (P33).
static AES_256_CBC: OnceLock<Cipher> = OnceLock::new();

fn get_or_make<T>(
    cell: &OnceLock<T>,
    make: impl FnOnce() -> Result<T, ErrorStack>,
) -> Result<&T, ErrorStack> {
    if cell.get().is_none() {
        // If another thread was faster, what this one made is dropped.
        let _ = cell.set(make()?);
    }
    Ok(cell.get().expect("set above"))
}

/// The policy that was applied to a context.
pub(crate) fn applied(context: &SslContextRef) -> Option<&Arc<Applied>> {
    context.ex_data(*APPLIED.get()?)
}

pub(crate) fn max_early_data(builder: &SslContextBuilder) -> u32 {
    as_context(builder).max_early_data()
}

pub(crate) fn set_timeout(builder: &mut SslContextBuilder, seconds: u64) {
    let seconds = c_long::try_from(seconds).unwrap_or(c_long::MAX);
    // SAFETY: the builder owns a live context.
    unsafe { SSL_CTX_set_timeout(builder.as_ptr(), seconds) };
}

/// Hands a policy to the context and sets the callbacks.
pub(crate) fn install(
    builder: &mut SslContextBuilder,
    settings: &Settings,
    apply: impl FnOnce(Option<InfoCallback>) -> Applied,
) -> Result<(), ErrorStack> {
    let index = *get_or_make(&APPLIED, SslContext::new_ex_index)?;
    get_or_make(&CONNECTION, Ssl::new_ex_index)?;
    get_or_make(&AES_256_CBC, || Cipher::fetch(None, "AES-256-CBC", None))?;

    let info_before = info_callback_but_ours(as_context(builder));
    builder.set_ex_data(index, Arc::new(apply(info_before)));

    let context = builder.as_ptr();
    let session = settings.session_callbacks;
    // SAFETY: `context` is live, and so is a callback: a function.
    unsafe { sys::SSL_CTX_sess_set_new_cb(context, session.then_some(new_session)) };
    // SAFETY: as above.
    unsafe { sys::SSL_CTX_sess_set_get_cb(context, session.then_some(get_session)) };
    // SAFETY: as above.
    unsafe { sys::SSL_CTX_sess_set_remove_cb(context, None) };
    // In all modes: should NO_TICKET be cleared later, tickets are then neither sealed nor opened,
    // where OpenSSL by itself would use a key of its own and ask nobody.
    // SAFETY: as above.
    unsafe { SSL_CTX_set_tlsext_ticket_key_evp_cb(context, Some(ticket_key)) };
    let decrypt: DecryptTicketCallback = decrypt_ticket;
    // SAFETY: as above; the argument is never looked at.
    unsafe { SSL_CTX_set_session_ticket_cb(context, None, Some(decrypt), ptr::null_mut()) };
    // SAFETY: as above.
    unsafe { SSL_CTX_set_info_callback(context, Some(info)) };
    Ok(())
}

/// Whether the context that a connection begins with still has what `install` and `set_resumption`
/// set.
pub(crate) fn has_settings(ssl: &SslRef, settings: &Settings) -> bool {
    let context = ssl.ssl_context().as_ptr();
    // SAFETY: a reference to an SSL is live.
    let options = unsafe { SSL_get_options(ssl.as_ptr()) };
    // SAFETY: this control reads a field of a live context.
    let cache_mode =
        unsafe { sys::SSL_CTX_ctrl(context, SSL_CTRL_GET_SESS_CACHE_MODE, 0, ptr::null_mut()) };
    // SAFETY: reads a field of a live context.
    let new = unsafe { SSL_CTX_sess_get_new_cb(context) };
    // SAFETY: as above.
    let get = unsafe { SSL_CTX_sess_get_get_cb(context) };
    let callbacks = if settings.session_callbacks {
        new.is_some_and(|f| ptr::fn_addr_eq(f, new_session as NewSessionCallback))
            && get.is_some_and(|f| ptr::fn_addr_eq(f, get_session as GetSessionCallback))
    } else {
        new.is_none() && get.is_none()
    };
    let no_ticket = options & sys::SSL_OP_NO_TICKET != 0;
    callbacks
        && no_ticket == settings.no_ticket
        && cache_mode == c_long::from(settings.cache_mode.bits())
        && ssl.num_tickets() == settings.num_tickets
}

fn as_context(builder: &SslContextBuilder) -> &SslContextRef {
    // SAFETY: the builder owns a live context, and the reference does not outlive the builder's.
    unsafe { SslContextRef::from_ptr(builder.as_ptr()) }
}

/// The info callback that a context would have without us.
fn info_callback_but_ours(context: &SslContextRef) -> Option<InfoCallback> {
    // SAFETY: reads a field of a live context.
    let callback = unsafe { SSL_CTX_get_info_callback(context.as_ptr()) }?;
    if ptr::fn_addr_eq(callback, info as InfoCallback) {
        applied(context)?.info_before()
    } else {
        Some(callback)
    }
}

// ---- Sessions

/// The DER of a session.
pub(crate) fn session_to_der(session: &SslSessionRef) -> Option<Secret> {
    // SAFETY: without an output OpenSSL only computes the length.
    let len = unsafe { sys::i2d_SSL_SESSION(session.as_ptr(), ptr::null_mut()) };
    let mut der = Secret::zeroed(usize::try_from(len).ok()?);
    let mut end = der.as_mut_bytes().as_mut_ptr();
    // SAFETY: `end` points to as many writable bytes as OpenSSL just said that it writes.
    let written = unsafe { sys::i2d_SSL_SESSION(session.as_ptr(), &mut end) };
    (written == len && len > 0).then_some(der)
}

/// Decodes the DER of a session; `None` unless it is one from the first byte to the last.
pub(crate) fn session_from_der(der: &[u8]) -> Option<SslSession> {
    let mut end = der.as_ptr();
    let len = c_long::try_from(der.len()).ok()?;
    // SAFETY: `end` points to that many readable bytes; without a session to reuse, OpenSSL makes
    // one.
    let session = unsafe { sys::d2i_SSL_SESSION(ptr::null_mut(), &mut end, len) };
    if session.is_null() {
        return None;
    }
    // SAFETY: OpenSSL has just handed over the only reference to this session.
    let session = unsafe { SslSession::from_ptr(session) };
    ptr::eq(end, der.as_ptr_range().end).then_some(session)
}

/// The session id context that a session was made in; may be empty.
pub(crate) fn id_context(session: &SslSessionRef) -> &[u8] {
    let mut len = 0;
    // SAFETY: a reference to a session is live, and `len` is writable.
    let context = unsafe { SSL_SESSION_get0_id_context(session.as_ptr(), &mut len) };
    // SAFETY: OpenSSL returns that many bytes inside the session, which the result borrows.
    unsafe { slice::from_raw_parts(context, len as usize) }
}

// ---- Connections

/// What a connection carries, if it is one of a context with a policy.
pub(crate) fn connection(ssl: &SslRef) -> Option<&Connection> {
    ssl.ex_data(*CONNECTION.get()?)
}
