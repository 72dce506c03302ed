//! Sessions, as they are read, written as DER, and copied.

use std::ffi::{CStr, c_long};
use std::{ptr, slice};

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::ssl::{SslCipherRef, SslSession, SslSessionRef};
use openssl_sys as sys;

use super::declare::*;
use super::secret::Secret;
use super::session_mut::OwnedSession;

/// The DER of a session, between so many bytes of zero for what goes before and after it.
pub(crate) fn session_to_der(
    session: &SslSessionRef,
    before: usize,
    after: usize,
) -> Option<Secret> {
    // SAFETY: without an output OpenSSL only computes the length.
    let len = unsafe { sys::i2d_SSL_SESSION(session.as_ptr(), ptr::null_mut()) };
    let mut der = Secret::zeroed(before + usize::try_from(len).ok()? + after);
    let mut end = der.as_mut_bytes()[before..].as_mut_ptr();
    // SAFETY: `end` points to as many writable bytes as OpenSSL just said that it writes.
    let written = unsafe { sys::i2d_SSL_SESSION(session.as_ptr(), &mut end) };
    (written == len && len > 0).then_some(der)
}

/// Decodes the DER of a session; `None` unless it is one from the first byte to the last.
pub(crate) fn session_from_der(der: &[u8]) -> Option<OwnedSession> {
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
    let session = OwnedSession::new(session);
    ptr::eq(end, der.as_ptr_range().end).then_some(session)
}

/// Whether a copy of any session is one for itself: it would share data of the user's, and before OpenSSL 3.0.14
/// that of a session in OpenSSL's cache counts as being in the cache too.
pub(crate) fn copy_stands_alone(session: &SslSessionRef) -> bool {
    openssl::version::number() >= 0x3000_00e0 && !has_ex_data(session)
}

/// A copy of a session; both may be used at the same time. What it copies by reference, the peer's
/// certificates, OpenSSL counts and locks itself.
pub(crate) fn copy_session(session: &SslSessionRef) -> Option<OwnedSession> {
    // SAFETY: reads a live session, which nobody writes to while it is borrowed here: it is
    // kept decoded, or OpenSSL is in a callback for it.
    let copy = unsafe { SSL_SESSION_dup(session.as_ptr()) };
    // SAFETY: if there is a copy, OpenSSL has just handed over the only reference to it.
    let copy = (!copy.is_null()).then(|| unsafe { SslSession::from_ptr(copy) });
    copy.map(OwnedSession::new)
}

/// Whether a TLS 1.3 session has what a ticket was given to disguise its age: it was made in a handshake, and is
/// no external pre-shared key that was made of bytes.
pub(crate) fn has_ticket_age(session: &SslSessionRef) -> bool {
    const TICK_AGE_ADD: u8 = 0xa0 | 14;
    let Some(der) = session_to_der(session, 0, 0) else {
        return true;
    };
    let (_, mut fields, _) = tlv(der.as_bytes()).unwrap_or_default();
    while let Some((tag, _, rest)) = tlv(fields) {
        if tag == TICK_AGE_ADD {
            return true;
        }
        fields = rest;
    }
    false
}

/// The element that DER begins with, whole, and what follows it.
pub(crate) fn first_element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (.., rest) = tlv(der)?;
    Some(der.split_at(der.len() - rest.len()))
}

/// The tag and the content of the element that DER begins with, and what follows it.
fn tlv(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    let (len, rest) = match usize::from(first) {
        short @ ..0x80 => (short, rest),
        long => {
            let (bytes, rest) = rest.split_at_checked(long - 0x80)?;
            if bytes.len() > 4 {
                return None;
            }
            let len = bytes
                .iter()
                .fold(0, |len, byte| len << 8 | usize::from(*byte));
            (len, rest)
        }
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

/// Whether somebody has tied data of theirs to a session. The indices are those of the process: as
/// many as libraries register.
pub(crate) fn has_ex_data(session: &SslSessionRef) -> bool {
    (0..32).any(|index| {
        // SAFETY: reads a live session; null for what is not there, a wrong index too.
        let data = unsafe { SSL_SESSION_get_ex_data(session.as_ptr(), index) };
        !data.is_null()
    })
}

/// The session id context that a session was made in; may be empty.
pub(crate) fn id_context(session: &SslSessionRef) -> &[u8] {
    let mut len = 0;
    // SAFETY: a reference to a session is live, and `len` is writable.
    let context = unsafe { SSL_SESSION_get0_id_context(session.as_ptr(), &mut len) };
    // SAFETY: OpenSSL returns that many bytes inside the session, which the result borrows.
    unsafe { slice::from_raw_parts(context, len as usize) }
}

/// The ticket application data of a session: our stamp, if we made the session.
pub(crate) fn appdata(session: &SslSessionRef) -> &[u8] {
    let (mut data, mut len) = (ptr::null_mut(), 0);
    // SAFETY: a reference to a session is live, and both outputs are writable.
    unsafe { SSL_SESSION_get0_ticket_appdata(session.as_ptr(), &mut data, &mut len) };
    if data.is_null() {
        return &[];
    }
    // SAFETY: OpenSSL returns that many bytes inside the session, which the result borrows.
    unsafe { slice::from_raw_parts(data.cast(), len) }
}

/// The server name in a session: what `SSL_get_servername` says when a TLS 1.2 session is resumed.
pub(crate) fn hostname(session: &SslSessionRef) -> Option<&[u8]> {
    // SAFETY: reads a field of a live session.
    let name = unsafe { SSL_SESSION_get0_hostname(session.as_ptr()) };
    // SAFETY: if there is one it is a string that lives in the session, which the result borrows.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_bytes())
}

/// The cipher of a session.
pub(crate) fn session_cipher(session: &SslSessionRef) -> Option<&'static SslCipherRef> {
    // SAFETY: reads a field of a live session.
    let cipher = unsafe { SSL_SESSION_get0_cipher(session.as_ptr()) };
    // SAFETY: null, or an entry of OpenSSL's table of ciphers, which is never freed.
    (!cipher.is_null()).then(|| unsafe { SslCipherRef::from_ptr(cipher.cast_mut()) })
}

/// The max_fragment_length of a session, as the extension has it (RFC 6066, section 4); 0 if it has none.
pub(crate) fn max_fragment_length(session: &SslSessionRef) -> u8 {
    // SAFETY: reads a field of a live session.
    unsafe { SSL_SESSION_get_max_fragment_length(session.as_ptr()) }
}
