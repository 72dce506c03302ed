//! The info callback: sees where a handshake starts, each of its steps, alerts, and where it is done.

use std::cell::Cell;
use std::ffi::c_int;
use std::panic::AssertUnwindSafe;
use std::ptr;
use std::sync::OnceLock;

use foreign_types::ForeignTypeRef;
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{SslContext, SslContextBuilder, SslContextRef, SslRef, SslVersion};
use openssl_sys as sys;

use super::context::as_context;
use super::decisions::{Alert, decisions};
use super::declare::*;
use super::session_mut::SessionMut;
use crate::base::{catch, get_or_make};

/// The info callback that a context had before ours, which calls it.
static BEFORE: OnceLock<Index<SslContext, Option<InfoCallback>>> = OnceLock::new();

/// Makes the index, before there is a context.
pub(super) fn prepare() -> Result<(), ErrorStack> {
    get_or_make(&BEFORE, SslContext::new_ex_index).map(drop)
}

/// Sets the callback. [`prepare`] comes first.
pub(super) fn install(builder: &mut SslContextBuilder) {
    let before = callback_but_ours(as_context(builder));
    if let Some(index) = BEFORE.get() {
        builder.set_ex_data(*index, before);
    }
    let callback = if before.is_some() { info } else { info_alone };
    // SAFETY: the context is live, and so is the callback: a function.
    unsafe { SSL_CTX_set_info_callback(builder.as_ptr(), Some(callback)) };
}

/// The info callback that a context would have without us.
fn callback_but_ours(context: &SslContextRef) -> Option<InfoCallback> {
    // SAFETY: reads a field of a live context.
    let callback = unsafe { SSL_CTX_get_info_callback(context.as_ptr()) }?;
    // In this order: should the compiler make one function of the two, none is left out.
    if ptr::fn_addr_eq(callback, info as InfoCallback) {
        *context.ex_data(*BEFORE.get()?)?
    } else if ptr::fn_addr_eq(callback, info_alone as InfoCallback) {
        None
    } else {
        Some(callback)
    }
}

/// Has a connection call our info callback from now on, whatever context it is switched to.
pub(crate) fn keep_info_callback(ssl: &mut SslRef) {
    // SAFETY: `ssl` is live, and so is a callback: a function.
    unsafe { SSL_set_info_callback(ssl.as_ptr(), Some(info)) };
}

/// Whether the connection still calls our info callback.
pub(crate) fn has_info_callback(ssl: &SslRef) -> bool {
    // SAFETY: reads a field of a live SSL.
    let callback = unsafe { SSL_get_info_callback(ssl.as_ptr()) };
    callback.is_some_and(|callback| ptr::fn_addr_eq(callback, info as InfoCallback))
}

thread_local! {
    /// The event for which the info callback of somebody else is being called.
    static CHAINING: Cell<(*const sys::SSL, c_int, c_int)> = const { Cell::new((ptr::null(), 0, 0)) };
}

/// `SSL_CTX_set_info_callback`: sees where a handshake starts and where it is done.
unsafe extern "C" fn info(ssl: *const sys::SSL, event: c_int, value: c_int) {
    if CHAINING.get() == (ssl, event, value) {
        // Somebody who took the context's callback from us calls it, as we call theirs.
        return;
    }
    // Steps are many and marks are dear: only what may leave errors in the queue is shielded.
    let before = catch(AssertUnwindSafe(|| {
        let decisions = decisions()?;
        // SAFETY: live and ours alone for the call, as `trampolines` says. OpenSSL's `const` is only
        // in the signature: it changes the SSL itself around this call.
        let ssl = unsafe { SslRef::from_ptr_mut(ssl.cast_mut()) };
        match event {
            SSL_CB_HANDSHAKE_START => decisions.started(ssl),
            SSL_CB_HANDSHAKE_DONE => {
                let session = ssl.session().map(ToOwned::to_owned);
                // SAFETY: OpenSSL is about to make tickets of it, if it is a new one.
                let of_callback = |session| unsafe { SessionMut::of_callback(session) };
                decisions.done(ssl, session.as_deref().map(of_callback));
            }
            SSL_CB_ACCEPT_LOOP => decisions.stepped(ssl),
            SSL_CB_READ_ALERT | SSL_CB_WRITE_ALERT => {
                if let Some(alert) = alert(ssl, event, value) {
                    decisions.alerted(ssl, alert);
                }
            }
            _ => {}
        }
        // OpenSSL would call the one of the context that the connection has now.
        callback_but_ours(ssl.ssl_context())
    }));
    if let Some(before) = before.flatten() {
        let outer = CHAINING.replace((ssl, event, value));
        // SAFETY: what was set as an info callback may be called as one.
        unsafe { before(ssl, event, value) };
        CHAINING.set(outer);
    }
}

/// `info`, where there is no other callback to call: that need not be looked up at each step.
unsafe extern "C" fn info_alone(ssl: *const sys::SSL, event: c_int, value: c_int) {
    // SAFETY: as called.
    unsafe { info(ssl, event, value) }
}

/// `value` is the level and the description of the alert.
fn alert(ssl: &SslRef, event: c_int, value: c_int) -> Option<Alert> {
    match (value >> 8, value & 0xff) {
        // OpenSSL goes on whatever the level says (RFC 8446, section 6.1).
        (_, ALERT_USER_CANCELED) if ssl.version2() == Some(SslVersion::TLS1_3) => None,
        (ALERT_LEVEL_FATAL, _) => Some(Alert::Fatal),
        (_, ALERT_CLOSE_NOTIFY) if event == SSL_CB_WRITE_ALERT => Some(Alert::CloseSent),
        _ => None,
    }
}
