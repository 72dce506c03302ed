//! Sessions that may be written to.

use std::ffi::{CStr, c_long, c_uint};
use std::ops::Deref;

use foreign_types::ForeignTypeRef;
use openssl::ssl::{SslSession, SslSessionRef};

use super::declare::*;

/// The longest server name that OpenSSL takes (`TLSEXT_MAXLEN_host_name`).
const LONGEST_NAME: usize = 255;

/// A session that nobody else has: it has just been decoded or copied.
pub(crate) struct OwnedSession(SslSession);

impl OwnedSession {
    pub(super) fn new(only_reference: SslSession) -> Self {
        Self(only_reference)
    }

    pub(crate) fn as_mut(&mut self) -> SessionMut<'_> {
        SessionMut(&self.0)
    }

    /// To be shared from now on.
    pub(crate) fn into_shared(self) -> SslSession {
        self.0
    }
}

impl Deref for OwnedSession {
    type Target = SslSessionRef;

    fn deref(&self) -> &SslSessionRef {
        &self.0
    }
}

/// A session that may be written to: an [`OwnedSession`], or one that OpenSSL is just making or has just opened, for
/// the length of a callback.
///
/// Another thread may have that one only if it shares a TLS 1.3 session whose ticket is being made, to which OpenSSL
/// writes too, or if OpenSSL's cache, which is not to be on, was given it before us; then nothing is made of it.
pub(crate) struct SessionMut<'a>(&'a SslSessionRef);

impl<'a> SessionMut<'a> {
    /// For callbacks, of the session that they are called for.
    ///
    /// # Safety
    ///
    /// OpenSSL is in a callback for this session, for as long as this is there: no other thread reads it meanwhile, but
    /// one that OpenSSL races with as well.
    pub(super) unsafe fn of_callback(session: &'a SslSessionRef) -> Self {
        Self(session)
    }

    pub(crate) fn set_id(&mut self, id: &[u8]) {
        let len = id.len() as c_uint;
        // SAFETY: OpenSSL copies the bytes into the live session, and refuses more than 32.
        unsafe { SSL_SESSION_set1_id(self.0.as_ptr(), id.as_ptr(), len) };
    }

    /// Writes the timeout, in seconds.
    pub(crate) fn set_timeout(&mut self, timeout: u64) {
        let timeout = c_long::try_from(timeout).unwrap_or(c_long::MAX);
        // SAFETY: sets a field of a live session.
        unsafe { SSL_SESSION_set_timeout(self.0.as_ptr(), timeout) };
    }

    /// Writes the ticket application data.
    pub(crate) fn set_appdata(&mut self, appdata: &[u8]) {
        let (data, len) = (appdata.as_ptr().cast(), appdata.len());
        // SAFETY: OpenSSL copies the bytes; without memory for that the session stays without.
        unsafe { SSL_SESSION_set1_ticket_appdata(self.0.as_ptr(), data, len) };
    }

    /// Writes the server name, if it is one: a full handshake with a longer name, or with a zero byte in it, does not
    /// complete.
    pub(crate) fn set_hostname(&mut self, name: &[u8]) {
        // Not a `CString`, which takes an allocation in each handshake of TLS 1.2 that resumes.
        let mut text = [0; LONGEST_NAME + 1];
        let Some(place) = text[..LONGEST_NAME].get_mut(..name.len()) else {
            return;
        };
        place.copy_from_slice(name);
        let Ok(text) = CStr::from_bytes_with_nul(&text[..=name.len()]) else {
            return;
        };
        // SAFETY: OpenSSL copies the string; without memory for that the session stays without.
        unsafe { SSL_SESSION_set1_hostname(self.0.as_ptr(), text.as_ptr()) };
    }
}

impl Deref for SessionMut<'_> {
    type Target = SslSessionRef;

    fn deref(&self) -> &SslSessionRef {
        self.0
    }
}
