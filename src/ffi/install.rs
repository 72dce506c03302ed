//! The callbacks of a context: setting them, and finding out whether they are still ours.

use std::ptr;

use foreign_types::ForeignTypeRef;
use openssl::error::ErrorStack;
use openssl::ssl::{SslContextBuilder, SslRef, SslSessionCacheMode};
use openssl_sys as sys;

use super::connection::has_option;
use super::context::Settings;
use super::decisions::{Decisions, set_decisions};
use super::declare::*;
use super::trampolines::{
    allow_early_data, decrypt_ticket, generate_ticket, get_session, new_session, ticket_key,
};
use super::{info, message, ticket};

/// What is asked of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    /// The keys of tickets.
    pub(crate) keys: bool,
    /// Which of two kinds of tickets is for whom, which a ClientHello tells.
    pub(crate) hellos: bool,
}

/// Makes what the callbacks need, so that nothing fails once something has been set.
pub(crate) fn prepare(asked: Asked) -> Result<(), ErrorStack> {
    info::prepare()?;
    if asked.keys {
        ticket::prepare()?;
    }
    Ok(())
}

/// Sets the callbacks, which ask `decisions`. [`prepare`] comes first.
pub(crate) fn install(
    builder: &mut SslContextBuilder,
    settings: &Settings,
    asked: Asked,
    decisions: &'static dyn Decisions,
) {
    set_decisions(decisions);
    info::install(builder);
    if asked.hellos {
        message::install(builder);
    }
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
    let (generate, decrypt) = (Some(generate_ticket as _), Some(decrypt_ticket as _));
    // SAFETY: as above; the argument is never looked at.
    unsafe { SSL_CTX_set_session_ticket_cb(context, generate, decrypt, ptr::null_mut()) };
    // SAFETY: as above; the argument is never looked at.
    unsafe { SSL_CTX_set_allow_early_data_cb(context, Some(allow_early_data), ptr::null_mut()) };
}

/// Of the settings of a mode, those that a connection begins with or its context has.
pub(crate) fn settings_of(ssl: &SslRef) -> Settings {
    let context = ssl.ssl_context().as_ptr();
    // SAFETY: this control reads a field of a live context.
    let cache_mode =
        unsafe { sys::SSL_CTX_ctrl(context, SSL_CTRL_GET_SESS_CACHE_MODE, 0, ptr::null_mut()) };
    Settings {
        no_ticket: has_option(ssl, sys::SSL_OP_NO_TICKET),
        cache_mode: SslSessionCacheMode::from_bits_retain(cache_mode),
        num_tickets: ssl.num_tickets(),
        session_callbacks: has_session_callbacks(ssl, true),
    }
}

/// Whether the connection's context has the session callbacks that `install` sets: ours, or none.
pub(crate) fn has_session_callbacks(ssl: &SslRef, ours: bool) -> bool {
    let context = ssl.ssl_context().as_ptr();
    // SAFETY: reads a field of a live context.
    let new = unsafe { SSL_CTX_sess_get_new_cb(context) };
    // SAFETY: as above.
    let get = unsafe { SSL_CTX_sess_get_get_cb(context) };
    if ours {
        new.is_some_and(|f| ptr::fn_addr_eq(f, new_session as NewSessionCallback))
            && get.is_some_and(|f| ptr::fn_addr_eq(f, get_session as GetSessionCallback))
    } else {
        new.is_none() && get.is_none()
    }
}
