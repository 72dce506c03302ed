//! The only unsafe code: what `openssl` and `openssl-sys` do not declare, the callbacks that OpenSSL
//! calls, and small safe functions over both.
//!
//! A callback decodes its pointers, asks `stateful` or `stateless` to decide on safe types, and
//! encodes the answer. `shielded` keeps panics in, and the error queue as it was.
//!
//! Two things hold in every callback and are what its `SAFETY` sentences lean on. OpenSSL passes
//! pointers that are live for the duration of the call, of the types declared in its headers. And it
//! calls on the thread that drives the connection, so nothing else touches that `SSL` meanwhile.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_long, c_uchar, c_void};
use std::panic::AssertUnwindSafe;
use std::ptr;
use std::slice;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtxRef;
use openssl::error::ErrorStack;
use openssl::ex_data::Index;
use openssl::ssl::{
    Ssl, SslContext, SslContextBuilder, SslContextRef, SslRef, SslSession, SslSessionRef,
};
use openssl_sys as sys;

use crate::connection::Connection;
use crate::guard::catch;
use crate::keys::TicketKey;
use crate::resumption::{Applied, Settings};
use crate::secret::Secret;
use crate::stateless::{Ticket, Verdict};
use crate::{stateful, stateless};

/// `SSL_CTX_set_info_callback`'s argument.
pub(crate) type InfoCallback = unsafe extern "C" fn(*const sys::SSL, c_int, c_int);

type NewSessionCallback = unsafe extern "C" fn(*mut sys::SSL, *mut sys::SSL_SESSION) -> c_int;
type GetSessionCallback =
    unsafe extern "C" fn(*mut sys::SSL, *const c_uchar, c_int, *mut c_int) -> *mut sys::SSL_SESSION;
type TicketKeyCallback = unsafe extern "C" fn(
    *mut sys::SSL,
    *mut c_uchar,
    *mut c_uchar,
    *mut sys::EVP_CIPHER_CTX,
    *mut sys::EVP_MAC_CTX,
    c_int,
) -> c_int;
type GenerateTicketCallback = unsafe extern "C" fn(*mut sys::SSL, *mut c_void) -> c_int;
type DecryptTicketCallback = unsafe extern "C" fn(
    *mut sys::SSL,
    *mut sys::SSL_SESSION,
    *const c_uchar,
    usize,
    c_int,
    *mut c_void,
) -> c_int;

// From openssl/ssl.h, equal in 3.0 to 4.0.
const SSL_CB_HANDSHAKE_START: c_int = 0x10;
const SSL_CB_HANDSHAKE_DONE: c_int = 0x20;
const SSL_CTRL_GET_SESS_CACHE_MODE: c_int = 45;
const SSL_TICKET_EMPTY: c_int = 3;
const SSL_TICKET_SUCCESS: c_int = 5;
const SSL_TICKET_SUCCESS_RENEW: c_int = 6;
const SSL_TICKET_RETURN_IGNORE_RENEW: c_int = 2;
const SSL_TICKET_RETURN_USE: c_int = 3;
const SSL_TICKET_RETURN_USE_RENEW: c_int = 4;

unsafe extern "C" {
    fn SSL_CTX_set_tlsext_ticket_key_evp_cb(
        ctx: *mut sys::SSL_CTX,
        callback: Option<TicketKeyCallback>,
    ) -> c_int;
    fn SSL_CTX_set_session_ticket_cb(
        ctx: *mut sys::SSL_CTX,
        generate: Option<GenerateTicketCallback>,
        decrypt: Option<DecryptTicketCallback>,
        arg: *mut c_void,
    ) -> c_int;
    fn SSL_CTX_set_info_callback(ctx: *mut sys::SSL_CTX, callback: Option<InfoCallback>);
    fn SSL_CTX_get_info_callback(ctx: *mut sys::SSL_CTX) -> Option<InfoCallback>;
    fn SSL_set_info_callback(ssl: *mut sys::SSL, callback: Option<InfoCallback>);
    fn SSL_CTX_sess_get_new_cb(ctx: *mut sys::SSL_CTX) -> Option<NewSessionCallback>;
    fn SSL_CTX_sess_get_get_cb(ctx: *mut sys::SSL_CTX) -> Option<GetSessionCallback>;
    fn SSL_CTX_set_timeout(ctx: *mut sys::SSL_CTX, seconds: c_long) -> c_long;
    fn SSL_get_options(ssl: *const sys::SSL) -> u64;
    fn SSL_SESSION_get0_id_context(
        session: *const sys::SSL_SESSION,
        len: *mut std::ffi::c_uint,
    ) -> *const c_uchar;
    fn OSSL_PARAM_construct_utf8_string(
        key: *const std::ffi::c_char,
        buf: *mut std::ffi::c_char,
        len: usize,
    ) -> sys::OSSL_PARAM;
    fn OPENSSL_cleanse(ptr: *mut c_void, len: usize);
    fn ERR_set_mark() -> c_int;
    fn ERR_pop_to_mark() -> c_int;
}

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

fn connection_mut(ssl: &mut SslRef) -> Option<&mut Connection> {
    ssl.ex_data_mut(*CONNECTION.get()?)
}

/// The handshake starts: the connection gets its owner, the policy of the context that it has now,
/// before a ClientHello or server name callback can switch it to another.
fn start(ssl: &mut SslRef) -> Option<()> {
    let owner = Arc::clone(applied(ssl.ssl_context())?);
    // A connection that has sent a Finished message already is being renegotiated; its outcome
    // stands. An SSL reused after `SSL_clear` has not.
    if !ssl.is_server() || (connection(ssl).is_some() && ssl.finished(&mut []) > 0) {
        return None;
    }
    owner.notice_override(ssl);
    ssl.set_ex_data(*CONNECTION.get()?, Connection::new(owner));
    // From now on whatever context the connection is switched to.
    // SAFETY: `ssl` is live, and so is a callback: a function.
    unsafe { SSL_set_info_callback(ssl.as_ptr(), Some(info)) };
    Some(())
}

fn done(ssl: &mut SslRef) -> Option<()> {
    let version = ssl.version2()?;
    let reused = ssl.session_reused();
    connection_mut(ssl)?.complete(version, reused);
    Some(())
}

// ---- Callbacks

/// Runs the body of a callback: a panic in it gives `otherwise`, and errors that it leaves in
/// OpenSSL's queue are taken out again. (Marked and popped, not cleared: what was there before is
/// the caller's.)
fn shielded<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    // SAFETY: marks the top of this thread's queue.
    unsafe { ERR_set_mark() };
    let result = catch(AssertUnwindSafe(body)).unwrap_or(otherwise);
    // SAFETY: drops what is above the mark.
    unsafe { ERR_pop_to_mark() };
    result
}

/// `SSL_CTX_set_info_callback`: sees where a handshake starts and where it is done.
unsafe extern "C" fn info(ssl: *const sys::SSL, event: c_int, value: c_int) {
    let before = shielded(None, || {
        // SAFETY: live and ours alone for the call, as the module says. OpenSSL's `const` is only
        // in the signature: it changes the SSL itself around this call.
        let ssl = unsafe { SslRef::from_ptr_mut(ssl.cast_mut()) };
        match event {
            SSL_CB_HANDSHAKE_START => start(ssl),
            SSL_CB_HANDSHAKE_DONE => done(ssl),
            _ => None,
        };
        // OpenSSL would call the one of the context that the connection has now.
        info_callback_but_ours(ssl.ssl_context())
    });
    if let Some(before) = before {
        // SAFETY: what was set as an info callback may be called as one.
        unsafe { before(ssl, event, value) }
    }
}

/// `SSL_CTX_sess_set_new_cb`: a session was made that can be resumed by its id.
unsafe extern "C" fn new_session(ssl: *mut sys::SSL, session: *mut sys::SSL_SESSION) -> c_int {
    shielded((), || {
        // SAFETY: live and ours alone for the call.
        let ssl = unsafe { SslRef::from_ptr_mut(ssl) };
        // SAFETY: live for the call.
        let session = unsafe { SslSessionRef::from_ptr(session) };
        if let Some(connection) = connection(ssl) {
            stateful::new_session(connection.policy(), session);
        }
    });
    // We kept no reference to the session.
    0
}

/// `SSL_CTX_sess_set_get_cb`: the client offers a session id or, in TLS 1.3, a stateful ticket.
unsafe extern "C" fn get_session(
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
        let version = ssl.version2()?;
        stateful::get_session(connection_mut(ssl)?, version, id, SystemTime::now())
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
unsafe extern "C" fn ticket_key(
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
        let connection = connection_mut(ssl)?;
        let aes = AES_256_CBC.get()?;
        if enc == 1 {
            let key = stateless::seal(connection, SystemTime::now())?;
            *name = *key.name();
            random(iv).ok()?;
            cipher
                .encrypt_init(Some(aes), Some(key.aes()), Some(iv))
                .ok()?;
            init_mac(mac, &key)?;
            connection.policy().counters().sealed.add_one();
        } else {
            let key = stateless::open(connection, name, SystemTime::now())?;
            cipher
                .decrypt_init(Some(aes), Some(key.aes()), Some(iv))
                .ok()?;
            init_mac(mac, &key)?;
        }
        Some(())
    });
    c_int::from(keyed.is_some())
}

fn init_mac(mac: *mut sys::EVP_MAC_CTX, key: &TicketKey) -> Option<()> {
    // SAFETY: both strings are static; OpenSSL only reads the second, and takes its length from
    // its terminator.
    let digest = unsafe {
        OSSL_PARAM_construct_utf8_string(c"digest".as_ptr(), c"SHA256".as_ptr().cast_mut(), 0)
    };
    // SAFETY: makes a value.
    let end = unsafe { sys::OSSL_PARAM_construct_end() };
    let params = [digest, end];
    let hmac = key.hmac();
    // SAFETY: `mac` is the live HMAC context that OpenSSL passed to the callback; the key and the
    // terminated array of parameters outlive the call.
    let done = unsafe { sys::EVP_MAC_init(mac, hmac.as_ptr(), hmac.len(), params.as_ptr()) };
    (done == 1).then_some(())
}

/// The second half of `SSL_CTX_set_session_ticket_cb`: OpenSSL has opened a ticket, or could not.
unsafe extern "C" fn decrypt_ticket(
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
                Ticket::Opened(unsafe { SslSessionRef::from_ptr(session) })
            }
            _ => Ticket::Unreadable,
        };
        let version = ssl.version2()?;
        let now = SystemTime::now();
        Some(stateless::decide(
            connection_mut(ssl)?,
            version,
            &ticket,
            now,
        ))
    });
    match verdict {
        // Not IGNORE: TLS 1.3 would then send no new ticket, and TLS 1.2 would go on to look the
        // session id up.
        None | Some(Verdict::Decline) => SSL_TICKET_RETURN_IGNORE_RENEW,
        Some(Verdict::Use) => SSL_TICKET_RETURN_USE,
        Some(Verdict::Renew) => SSL_TICKET_RETURN_USE_RENEW,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Not by a call of the `openssl` crate: when those fail they empty the queue.
    fn leave_an_error() {
        assert!(session_from_der(b"no session").is_none());
    }

    fn errors_left() -> usize {
        ErrorStack::get().errors().len()
    }

    #[test]
    fn the_error_queue_is_left_as_it_was_found() {
        leave_an_error();
        let found = errors_left();
        assert!(found > 0);

        leave_an_error();
        shielded((), leave_an_error);
        assert_eq!(errors_left(), found);

        shielded((), leave_an_error);
        assert_eq!(errors_left(), 0);

        leave_an_error();
        shielded((), || {
            leave_an_error();
            panic!("with an error in the queue");
        });
        assert_eq!(errors_left(), found);
    }
}
