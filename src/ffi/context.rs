//! Contexts: what a policy sets on one, and what they give their connections.

use std::ffi::c_long;

use foreign_types::ForeignTypeRef;
use openssl::ssl::{SslContextBuilder, SslContextRef, SslSessionCacheMode, SslVerifyMode};
use openssl_sys as sys;

use super::declare::*;

/// What a mode sets on a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) no_ticket: bool,
    pub(crate) cache_mode: SslSessionCacheMode,
    pub(crate) num_tickets: usize,
    pub(crate) session_callbacks: bool,
}

pub(crate) fn as_context(builder: &SslContextBuilder) -> &SslContextRef {
    // SAFETY: the builder owns a live context, and the reference does not outlive the builder's.
    unsafe { SslContextRef::from_ptr(builder.as_ptr()) }
}

pub(crate) fn set_timeout(builder: &mut SslContextBuilder, seconds: u64) {
    let seconds = c_long::try_from(seconds).unwrap_or(c_long::MAX);
    // SAFETY: the builder owns a live context.
    unsafe { SSL_CTX_set_timeout(builder.as_ptr(), seconds) };
}

/// The verify mode that a context gives its connections.
pub(crate) fn verify_mode_of(context: &SslContextRef) -> SslVerifyMode {
    // SAFETY: reads a field of a live context.
    let mode = unsafe { sys::SSL_CTX_get_verify_mode(context.as_ptr()) };
    SslVerifyMode::from_bits_truncate(mode)
}
