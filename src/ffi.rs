//! The only unsafe code: declarations, the callbacks that OpenSSL calls, and here small safe
//! functions over what the `openssl` crate does not offer.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_int, c_long, c_uint, c_void};
use std::ptr;
use std::slice;
use std::sync::{Arc, OnceLock};

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::cipher::Cipher;
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{
    SslCipherRef, SslContext, SslContextBuilder, SslContextRef, SslRef, SslSession,
    SslSessionCacheMode, SslSessionRef,
};
use openssl_sys as sys;

use crate::context::{Applied, Settings};
use crate::guest;
use crate::secret::Secret;

mod callbacks;
mod carried;
mod credential;
mod declare;
mod process;
mod verification;

pub(crate) use callbacks::shielded;
use callbacks::{
    allow_early_data, decrypt_ticket, generate_ticket, get_session, info, info_alone, new_session,
    ticket_key,
};
pub(crate) use carried::{connection, connection_mut};
pub(crate) use credential::*;
pub(crate) use declare::InfoCallback;
use declare::*;
pub(crate) use process::*;
pub(crate) use verification::*;

/// Overwrites the bytes in a way that the compiler does not leave out.
pub(crate) fn cleanse(bytes: &mut [u8]) {
    // SAFETY: the slice is writable memory of that length.
    unsafe { OPENSSL_cleanse(bytes.as_mut_ptr().cast(), bytes.len()) }
}

/// Fills `bytes`, at most a few hundred, from OpenSSL's random generator.
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), ()> {
    let len = c_int::try_from(bytes.len()).map_err(drop)?;
    let fill = || {
        // SAFETY: the slice is writable memory of that length.
        unsafe { sys::RAND_bytes(bytes.as_mut_ptr(), len) }
    };
    // A source of keys may ask for one after whatever it waited for.
    let filled = guest::in_openssl(fill);
    (filled == 1).then_some(()).ok_or(())
}

// ---- Contexts

static APPLIED: OnceLock<Index<SslContext, Arc<Applied>>> = OnceLock::new();
/// Fetched once: `EVP_CIPHER_fetch` per ticket contends on locks (openssl#23388).
static AES_256_CBC: OnceLock<Cipher> = OnceLock::new();
/// For keys from files of 48 bytes.
static AES_128_CBC: OnceLock<Cipher> = OnceLock::new();

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
    carried::prepare()?;
    if !settings.no_ticket {
        get_or_make(&AES_256_CBC, || Cipher::fetch(None, "AES-256-CBC", None))?;
        get_or_make(&AES_128_CBC, || Cipher::fetch(None, "AES-128-CBC", None))?;
    }

    let info_before = info_callback_but_ours(as_context(builder));
    let info = if info_before.is_some() {
        info
    } else {
        info_alone
    };
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
    let (generate, decrypt) = (Some(generate_ticket as _), Some(decrypt_ticket as _));
    // SAFETY: as above; the argument is never looked at.
    unsafe { SSL_CTX_set_session_ticket_cb(context, generate, decrypt, ptr::null_mut()) };
    // SAFETY: as above; the argument is never looked at.
    unsafe { SSL_CTX_set_allow_early_data_cb(context, Some(allow_early_data), ptr::null_mut()) };
    // SAFETY: as above.
    unsafe { SSL_CTX_set_info_callback(context, Some(info)) };
    Ok(())
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

/// Whether the connection still calls our info callback.
pub(crate) fn has_info_callback(ssl: &SslRef) -> bool {
    // SAFETY: reads a field of a live SSL.
    let callback = unsafe { SSL_get_info_callback(ssl.as_ptr()) };
    callback.is_some_and(|callback| ptr::fn_addr_eq(callback, info as InfoCallback))
}

/// Whether the connection has this option; OpenSSL copies those of the context that it begins with.
pub(crate) fn has_option(ssl: &SslRef, option: u64) -> bool {
    // SAFETY: reads a field of a live SSL.
    unsafe { SSL_get_options(ssl.as_ptr()) & option != 0 }
}

pub(crate) fn as_context(builder: &SslContextBuilder) -> &SslContextRef {
    // SAFETY: the builder owns a live context, and the reference does not outlive the builder's.
    unsafe { SslContextRef::from_ptr(builder.as_ptr()) }
}

/// The info callback that a context would have without us.
fn info_callback_but_ours(context: &SslContextRef) -> Option<InfoCallback> {
    // SAFETY: reads a field of a live context.
    let callback = unsafe { SSL_CTX_get_info_callback(context.as_ptr()) }?;
    // In this order: should the compiler make one function of the two, none is left out.
    if ptr::fn_addr_eq(callback, info as InfoCallback) {
        applied(context)?.info_before()
    } else if ptr::fn_addr_eq(callback, info_alone as InfoCallback) {
        None
    } else {
        Some(callback)
    }
}

// ---- Sessions

/// The DER of a session, after `room` bytes of zero for what goes before it.
pub(crate) fn session_to_der(session: &SslSessionRef, room: usize) -> Option<Secret> {
    // SAFETY: without an output OpenSSL only computes the length.
    let len = unsafe { sys::i2d_SSL_SESSION(session.as_ptr(), ptr::null_mut()) };
    let mut der = Secret::zeroed(room + usize::try_from(len).ok()?);
    let mut end = der.as_mut_bytes()[room..].as_mut_ptr();
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

/// Writes the id of a session that OpenSSL is just making, or has just decoded or copied. Another thread may
/// have it only if it shares a TLS 1.3 session whose ticket is being made, to which OpenSSL writes too, or if
/// OpenSSL's cache, which is not to be on, was given it before us; `is_usurped` tells.
pub(crate) fn set_session_id(session: &SslSessionRef, id: &[u8]) {
    let len = id.len() as c_uint;
    // SAFETY: OpenSSL copies the bytes into the live session, and refuses more than 32.
    unsafe { SSL_SESSION_set1_id(session.as_ptr(), id.as_ptr(), len) };
}

/// Whether a copy of any session is one for itself: it would share data of the user's, and before OpenSSL 3.0.14
/// that of a session in OpenSSL's cache counts as being in the cache too.
pub(crate) fn copy_stands_alone(session: &SslSessionRef) -> bool {
    openssl::version::number() >= 0x3000_00e0 && !has_ex_data(session)
}

/// A copy of a session; both may be used at the same time. What it copies by reference, the peer's
/// certificates, OpenSSL counts and locks itself.
pub(crate) fn copy_session(session: &SslSessionRef) -> Option<SslSession> {
    // SAFETY: reads a live session, which nobody writes to while it is borrowed here: it is a
    // master, or OpenSSL is in a callback for it.
    let copy = unsafe { SSL_SESSION_dup(session.as_ptr()) };
    // SAFETY: if there is a copy, OpenSSL has just handed over the only reference to it.
    (!copy.is_null()).then(|| unsafe { SslSession::from_ptr(copy) })
}

/// The bytes in use, as the C library's allocator counts them, with its own.
#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
pub(crate) fn allocated() -> usize {
    // SAFETY: reads the counts of the allocator.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}

/// Whether a TLS 1.3 session has what a ticket was given to disguise its age: it was made in a handshake, and is
/// no external pre-shared key that was made of bytes.
pub(crate) fn has_ticket_age(session: &SslSessionRef) -> bool {
    const TICK_AGE_ADD: u8 = 0xa0 | 14;
    let Some(der) = session_to_der(session, 0) else {
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

/// The tag and the content of the element that DER begins with, and what follows it.
fn tlv(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    let (len, rest) = match usize::from(first) {
        short @ ..0x80 => (short, rest),
        long => {
            let (bytes, rest) = rest.split_at_checked(long - 0x80)?;
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

/// Writes the application data of a session that OpenSSL is just making: no other thread has it.
pub(crate) fn set_appdata(session: &SslSessionRef, appdata: &[u8]) {
    let (data, len) = (appdata.as_ptr().cast(), appdata.len());
    // SAFETY: OpenSSL copies the bytes; without memory for that the session stays without.
    unsafe { SSL_SESSION_set1_ticket_appdata(session.as_ptr(), data, len) };
}

/// Writes the timeout, in seconds, of a session that OpenSSL is just making, or has just decoded; see
/// `set_session_id`.
pub(crate) fn set_session_timeout(session: &SslSessionRef, timeout: u64) {
    let timeout = c_long::try_from(timeout).unwrap_or(c_long::MAX);
    // SAFETY: sets a field of a live session.
    unsafe { SSL_SESSION_set_timeout(session.as_ptr(), timeout) };
}

/// The server name in a session: what `SSL_get_servername` says when a TLS 1.2 session is resumed.
pub(crate) fn hostname(session: &SslSessionRef) -> Option<&[u8]> {
    // SAFETY: reads a field of a live session.
    let name = unsafe { SSL_SESSION_get0_hostname(session.as_ptr()) };
    // SAFETY: if there is one it is a string that lives in the session, which the result borrows.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_bytes())
}

/// Writes the server name of a session that OpenSSL has just decoded.
pub(crate) fn set_hostname(session: &SslSessionRef, name: &[u8]) {
    // A full handshake with a zero byte in its name does not complete.
    let Ok(name) = CString::new(name) else { return };
    // SAFETY: OpenSSL copies the string; without memory for that the session stays without.
    unsafe { SSL_SESSION_set1_hostname(session.as_ptr(), name.as_ptr()) };
}

// ---- Connections

/// Gives a connection a session id context that no session has or will have.
pub(crate) fn isolate(ssl: &mut SslRef) -> Result<(), ()> {
    let mut unique = [0; 32];
    random(&mut unique)?;
    // SAFETY: OpenSSL copies the bytes into the live SSL.
    let done = unsafe { SSL_set_session_id_context(ssl.as_ptr(), unique.as_ptr(), 32) };
    (done == 1).then_some(()).ok_or(())
}

/// The server name extension of the ClientHello that is being processed; `SSL_get_servername` knows
/// it only later.
pub(crate) fn server_name_extension(ssl: &SslRef) -> Option<&[u8]> {
    client_hello_extension(ssl, TLSEXT_TYPE_SERVER_NAME)
}

/// The bytes of an extension of the ClientHello that is being processed, or `None` if there is none.
pub(crate) fn client_hello_extension(ssl: &SslRef, number: c_uint) -> Option<&[u8]> {
    let (mut data, mut len) = (ptr::null(), 0);
    // SAFETY: `ssl` is live, and both outputs are writable. Without a ClientHello there is nothing.
    let found =
        unsafe { sys::SSL_client_hello_get0_ext(ssl.as_ptr(), number, &mut data, &mut len) };
    if found != 1 {
        return None;
    }
    if data.is_null() {
        return Some(&[]);
    }
    // SAFETY: OpenSSL returns that many bytes of the ClientHello, which lives as long as `ssl` is
    // borrowed: it is freed by the handshake, which takes `ssl` mutably.
    Some(unsafe { slice::from_raw_parts(data, len) })
}

/// The cipher that has been chosen for the handshake, in TLS 1.3 before sessions are looked up.
pub(crate) fn pending_cipher(ssl: &SslRef) -> Option<&'static SslCipherRef> {
    // SAFETY: reads a field of a live SSL.
    let cipher = unsafe { SSL_get_pending_cipher(ssl.as_ptr()) };
    // SAFETY: null, or an entry of OpenSSL's table of ciphers, which is never freed.
    (!cipher.is_null()).then(|| unsafe { SslCipherRef::from_ptr(cipher.cast_mut()) })
}

/// The ciphers of the ClientHello, two bytes each.
pub(crate) fn offered_ciphers(ssl: &SslRef) -> &[u8] {
    let mut ciphers: *const u8 = ptr::null();
    let to = (&raw mut ciphers).cast::<c_void>();
    // SAFETY: reads a field of a live SSL, and writes the one output, of the type that this command wants.
    let len = unsafe { sys::SSL_ctrl(ssl.as_ptr(), SSL_CTRL_GET_RAW_CIPHERLIST, 0, to) };
    match usize::try_from(len) {
        // SAFETY: OpenSSL returns that many bytes, which it keeps with the SSL until the next ClientHello, which it
        // reads with the SSL borrowed mutably.
        Ok(len) if !ciphers.is_null() => unsafe { slice::from_raw_parts(ciphers, len) },
        _ => &[],
    }
}

/// The cipher of a session.
pub(crate) fn session_cipher(session: &SslSessionRef) -> Option<&'static SslCipherRef> {
    // SAFETY: reads a field of a live session.
    let cipher = unsafe { SSL_SESSION_get0_cipher(session.as_ptr()) };
    // SAFETY: as in `pending_cipher`.
    (!cipher.is_null()).then(|| unsafe { SslCipherRef::from_ptr(cipher.cast_mut()) })
}

/// The max_fragment_length of a session, as the extension has it (RFC 6066, section 4); 0 if it has none.
pub(crate) fn max_fragment_length(session: &SslSessionRef) -> u8 {
    // SAFETY: reads a field of a live session.
    unsafe { SSL_SESSION_get_max_fragment_length(session.as_ptr()) }
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

#[cfg(feature = "tokio")]
pub(crate) use suspend::*;

/// What only an asynchronous accept needs.
#[cfg(feature = "tokio")]
mod suspend {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use openssl::ssl::Ssl;

    use super::*;

    static MAY_SUSPEND: OnceLock<Index<Ssl, AtomicBool>> = OnceLock::new();

    /// Marks a connection whose driver knows what to do when its handshake is suspended.
    pub(crate) fn let_suspend(ssl: &mut SslRef) -> Result<(), ErrorStack> {
        let index = *get_or_make(&MAY_SUSPEND, Ssl::new_ex_index)?;
        ssl.set_ex_data(index, AtomicBool::new(true));
        Ok(())
    }

    /// Its handshake is done; another one, after `SSL_clear`, is somebody else's.
    pub(crate) fn no_longer_suspend(ssl: &SslRef) {
        if let Some(may) = MAY_SUSPEND.get().and_then(|index| ssl.ex_data(*index)) {
            may.store(false, Relaxed);
        }
    }

    pub(crate) fn may_suspend(ssl: &SslRef) -> bool {
        MAY_SUSPEND
            .get()
            .and_then(|index| ssl.ex_data(*index))
            .is_some_and(|may| may.load(Relaxed))
    }

    /// Whether the settings of the connection let it negotiate TLS 1.3.
    pub(crate) fn has_tls13(ssl: &SslRef) -> bool {
        let get = sys::SSL_CTRL_GET_MAX_PROTO_VERSION;
        // SAFETY: this control reads a field of a live SSL; 0 is no limit.
        let max = unsafe { sys::SSL_ctrl(ssl.as_ptr(), get, 0, ptr::null_mut()) };
        (max == 0 || max >= c_long::from(sys::TLS1_3_VERSION))
            && !has_option(ssl, sys::SSL_OP_NO_TLSv1_3)
    }
}
