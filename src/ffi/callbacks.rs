//! The callbacks that OpenSSL calls: each decodes its pointers, asks `stateful` or `stateless` to
//! decide on safe types, and encodes the answer.
//!
//! Two things hold in all of them and are what their `SAFETY` sentences lean on. OpenSSL passes
//! pointers that are live for the duration of the call, of the types declared in its headers. And
//! it calls on the thread that drives the connection, so nothing else touches that `SSL` meanwhile.

use std::cell::Cell;
use std::ffi::{c_int, c_uchar, c_void};
use std::panic::AssertUnwindSafe;
use std::ptr;
use std::slice;
use std::sync::Arc;
use std::time::SystemTime;

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtxRef;
use openssl::error::ErrorStack;
use openssl::ssl::{SslRef, SslSessionRef, SslVersion};
use openssl_sys as sys;

use super::carried::set_connection;
use super::declare::*;
use super::{
    AES_128_CBC, AES_256_CBC, applied, can_withhold_tickets, connection, connection_mut,
    has_info_callback, has_option, id_context, info_callback_but_ours, isolate, random,
    session_to_der, set_no_ticket,
};
use crate::binding;
use crate::connection::Connection;
use crate::guard::catch;
use crate::keys::TicketKey;
use crate::overridden::Setting;
use crate::stateless::{Ticket, Verdict};
use crate::{stateful, stateless};

/// The handshake starts: the connection gets its owner, the policy of the context that it has now,
/// before a ClientHello or server name callback can switch it to another.
fn start(ssl: &mut SslRef) -> Option<()> {
    // An SSL that is used again after `SSL_clear` still calls the callbacks of the context that it
    // was made with, whatever context it was switched to.
    let owner = match connection(ssl) {
        Some(connection) => Arc::clone(connection.owner()),
        None => Arc::clone(applied(ssl.ssl_context())?),
    };
    // A START in the middle of things is a renegotiation, or the way on after SSL_read_early_data
    // returned: the connection is the one it was. An SSL reused after `SSL_clear` is a new one.
    // SAFETY: reads fields of a live SSL.
    let is_new = unsafe { SSL_in_before(ssl.as_ptr()) } == 1;
    if !ssl.is_server() || !is_new {
        return None;
    }
    if let Some(before) = connection(ssl) {
        // `SSL_clear` leaves what we have denied the connection before, and its session, which would be taken
        // for that of this one.
        if let Some(tickets) = before.denied_tickets() {
            ssl.set_num_tickets(tickets).ok()?;
        }
        // SAFETY: takes the session out of a live SSL, whose handshake has not begun.
        unsafe { sys::SSL_set_session(ssl.as_ptr(), ptr::null_mut()) };
    }
    let usurped = owner.usurped_at(ssl);
    if usurped.is_some() || owner.is_in_doubt() {
        shielded(Err(()), || isolate(ssl)).ok()?;
    }
    let mut new = Connection::new(owner, SystemTime::now());
    if let Some(reason) = usurped {
        new.decline(reason);
    }
    set_connection(ssl, new)?;
    let demand = binding::first_demand(ssl);
    connection_mut(ssl)?.set_first_demand(demand);
    // From now on whatever context the connection is switched to.
    // SAFETY: `ssl` is live, and so is a callback: a function.
    unsafe { SSL_set_info_callback(ssl.as_ptr(), Some(info)) };
    Some(())
}

fn done(ssl: &mut SslRef) -> Option<()> {
    // SSL_read_early_data returns, and OpenSSL says DONE, after a HelloRetryRequest and after the
    // server's Finished; the handshake is complete with the client's.
    if ssl.finished(&mut []) == 0 || ssl.peer_finished(&mut []) == 0 {
        return None;
    }
    let version = ssl.version2()?;
    let reused = ssl.session_reused();
    let resumed = binding::resumed_stamp(ssl).filter(|_| reused);
    let first = connection(ssl)?.outcome().is_none();
    if first && !reused {
        binding::note_full_handshake(ssl, connection(ssl)?);
    }
    connection_mut(ssl)?.complete(version, reused, resumed);
    let is_new = first && version == SslVersion::TLS1_3 && resumed.is_none();
    if let Some(session) = ssl.session().filter(|_| is_new) {
        // Now, for all tickets that are still to come.
        binding::stamp_session(ssl, session);
    }
    notice_id_context(ssl);
    Some(())
}

/// Only a session tells what session id context it was made in; a switched context has its own.
fn notice_id_context(ssl: &SslRef) -> Option<()> {
    let owner = connection(ssl)?.owner();
    let current = applied(ssl.ssl_context())?;
    if Arc::ptr_eq(owner, current) && owner.usurped().is_none() {
        owner.notice_id_context(id_context(ssl.session()?));
    }
    Some(())
}

/// An alert was sent or received: `value` is its level and description.
fn alert(ssl: &mut SslRef, event: c_int, value: c_int) -> Option<()> {
    let connection = connection_mut(ssl)?;
    match (value >> 8, value & 0xff) {
        (ALERT_LEVEL_FATAL, _) => shielded((), || connection.fatal_alert()),
        (_, ALERT_CLOSE_NOTIFY) if event == SSL_CB_WRITE_ALERT => connection.close(),
        _ => {}
    }
    Some(())
}

/// The handshake takes a step: among others one after the server name callback has run, and one
/// after the client's certificate has been read.
fn step(ssl: &mut SslRef) {
    let Some(connection) = connection(ssl) else {
        return;
    };
    notice_ticket_callbacks(ssl, connection);
    if connection.keeps_answers() {
        match ssl.state_string() {
            // `TLS_ST_EARLY_DATA` before the rest of the server's flight: a HelloRetryRequest has been sent.
            "TED" => connection.hold_answers(),
            // The server's hello has been written, and in TLS 1.3 something after it.
            "TWEE" => connection.drop_candidates(),
            "TWSH" if ssl.version2() != Some(SslVersion::TLS1_3) => connection.drop_candidates(),
            _ => {}
        }
    }
    let is_failed = connection.is_failed();
    let goes_on = is_failed || {
        // Not to know is not to let pass.
        let check = || binding::may_go_on(ssl, connection);
        catch(AssertUnwindSafe(check)).unwrap_or(false)
    };
    if goes_on {
        if binding::is_refused(ssl, connection) || binding::is_too_large(ssl, connection) {
            deny_tickets(ssl);
        }
        return;
    }
    if let Some(connection) = connection_mut(ssl) {
        connection.fail_closed();
    }
    // Reading finds the connection shut down, so the handshake fails, before any data passes.
    let both = SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN;
    // SAFETY: sets a field of a live SSL.
    unsafe { sys::SSL_set_shutdown(ssl.as_ptr(), both) };
}

/// Before TLS 1.3 tickets are due; an error leaves the client some that will be declined.
fn deny_tickets(ssl: &mut SslRef) {
    let tickets = ssl.num_tickets();
    if tickets == 0 || ssl.set_num_tickets(0).is_err() {
        return;
    }
    if let Some(connection) = connection_mut(ssl) {
        connection.deny_tickets(tickets);
    }
}

/// After a ticket has been made it is known whether OpenSSL called us for it. There is no other way to know
/// whose callbacks a context has.
fn notice_ticket_callbacks(ssl: &SslRef, connection: &Connection) {
    if connection.owner().makes_our_tickets() {
        return;
    }
    // Before TLS 1.3 there is no other ticket than a sealed one; to ask for the state is dear.
    let has_none =
        has_option(ssl, sys::SSL_OP_NO_TICKET) && ssl.version2() != Some(SslVersion::TLS1_3);
    // `TLS_ST_SW_SESSION_TICKET`, whose number differs between versions.
    if has_none || ssl.state_string() != "TWST" {
        return;
    }
    // With early data and OpenSSL's protection against replays TLS 1.3 tickets are stateful.
    let stateful = has_option(ssl, sys::SSL_OP_NO_TICKET)
        || (ssl.max_early_data() > 0 && !has_option(ssl, SSL_OP_NO_ANTI_REPLAY));
    connection.notice_ticket_callbacks(!stateful);
}

/// Notices if the handshake that OpenSSL calls us in was never reported to us: its context, or the
/// connection, has another info callback. Without a `Connection` nothing is stored and nothing resumes.
fn notice_info_callback(ssl: &SslRef) {
    let is_unknown = || connection(ssl).is_none() && ssl.is_server();
    if let Some(applied) = applied(ssl.ssl_context()).filter(|_| is_unknown()) {
        applied.notice(Setting::InfoCallback);
    }
}

/// Marks the top of this thread's error queue. Returns whether it has one: what is in an empty one
/// later is all newer.
fn mark() -> bool {
    // SAFETY: changes the thread's own queue.
    unsafe { ERR_set_mark() != 0 }
}

/// Runs the body of a callback: a panic in it gives `otherwise`, and errors that it leaves in
/// OpenSSL's queue are taken out again. What was there before is the caller's, and stays, also if the
/// body empties the queue, as calls of the `openssl` crate do when they fail.
pub(crate) fn shielded<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    let callers = mark().then(|| {
        let callers = ErrorStack::get();
        callers.put();
        mark();
        callers
    });
    let result = catch(AssertUnwindSafe(body)).unwrap_or(otherwise);
    // SAFETY: drops what is above the mark, or all if it is gone.
    let marked = unsafe { ERR_pop_to_mark() } != 0;
    if let (false, Some(callers)) = (marked, callers) {
        callers.put();
    }
    result
}

thread_local! {
    /// The event for which the info callback of somebody else is being called.
    static CHAINING: Cell<(*const sys::SSL, c_int, c_int)> = const { Cell::new((ptr::null(), 0, 0)) };
}

/// `SSL_CTX_set_info_callback`: sees where a handshake starts and where it is done.
pub(super) unsafe extern "C" fn info(ssl: *const sys::SSL, event: c_int, value: c_int) {
    if CHAINING.get() == (ssl, event, value) {
        // Somebody who took the context's callback from us calls it, as we call theirs.
        return;
    }
    // Steps are many and marks are dear: only what may leave errors in the queue is shielded.
    let before = catch(AssertUnwindSafe(|| {
        // SAFETY: live and ours alone for the call, as the module says. OpenSSL's `const` is only
        // in the signature: it changes the SSL itself around this call.
        let ssl = unsafe { SslRef::from_ptr_mut(ssl.cast_mut()) };
        match event {
            SSL_CB_HANDSHAKE_START => start(ssl).unwrap_or_default(),
            SSL_CB_HANDSHAKE_DONE => done(ssl).unwrap_or_default(),
            SSL_CB_ACCEPT_LOOP => step(ssl),
            SSL_CB_READ_ALERT | SSL_CB_WRITE_ALERT => {
                alert(ssl, event, value).unwrap_or_default();
            }
            _ => {}
        }
        // OpenSSL would call the one of the context that the connection has now.
        info_callback_but_ours(ssl.ssl_context())
    }));
    if let Some(before) = before.flatten() {
        let outer = CHAINING.replace((ssl, event, value));
        // SAFETY: what was set as an info callback may be called as one.
        unsafe { before(ssl, event, value) };
        CHAINING.set(outer);
    }
}

/// `info`, where there is no other callback to call: that need not be looked up at each step.
pub(super) unsafe extern "C" fn info_alone(ssl: *const sys::SSL, event: c_int, value: c_int) {
    // SAFETY: as called.
    unsafe { info(ssl, event, value) }
}

/// `SSL_CTX_sess_set_new_cb`: a session was made that can be resumed by its id.
pub(super) unsafe extern "C" fn new_session(
    ssl: *mut sys::SSL,
    session: *mut sys::SSL_SESSION,
) -> c_int {
    shielded((), || {
        // SAFETY: live and ours alone for the call.
        let ssl = unsafe { SslRef::from_ptr_mut(ssl) };
        notice_info_callback(ssl);
        // SAFETY: live for the call.
        let session = unsafe { SslSessionRef::from_ptr(session) };
        let Some(key) = stateful::new_session(ssl, session) else {
            return;
        };
        if let Some(connection) = connection_mut(ssl) {
            connection.made(key, session.protocol_version() == SslVersion::TLS1_3);
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
        notice_info_callback(ssl);
        // SAFETY: OpenSSL passes that many bytes of the ClientHello.
        let id = unsafe { slice::from_raw_parts(id, usize::try_from(len).ok()?) };
        stateful::get_session(ssl, id, SystemTime::now())
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
        if enc == 1 {
            let key = stateless::seal(ssl, SystemTime::now())?;
            *name = *key.name();
            random(iv).ok()?;
            cipher
                .encrypt_init(Some(cbc(&key)?), Some(key.aes()), Some(iv))
                .ok()?;
            init_mac(mac, &key)?;
            connection(ssl)?.policy().counters().sealed.add_one();
        } else {
            let key = stateless::open(connection_mut(ssl)?, name, iv, SystemTime::now())?;
            cipher
                .decrypt_init(Some(cbc(&key)?), Some(key.aes()), Some(iv))
                .ok()?;
            init_mac(mac, &key)?;
        }
        Some(())
    });
    c_int::from(keyed.is_some())
}

fn cbc(key: &TicketKey) -> Option<&'static Cipher> {
    match key.aes().len() {
        16 => AES_128_CBC.get(),
        _ => AES_256_CBC.get(),
    }
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

/// The first half of `SSL_CTX_set_session_ticket_cb`: a ticket is about to be made, for a TLS 1.2
/// session that is to be sealed or for any TLS 1.3 session, sealed or stored.
pub(super) unsafe extern "C" fn generate_ticket(ssl: *mut sys::SSL, _arg: *mut c_void) -> c_int {
    // SAFETY: live and ours alone for the call.
    let ssl = unsafe { SslRef::from_ptr_mut(ssl) };
    catch(AssertUnwindSafe(|| {
        notice_info_callback(ssl);
        if let Some(connection) = connection_mut(ssl) {
            connection.note_generated();
        }
        if let Some(session) = ssl.session() {
            binding::stamp_session(ssl, session);
        }
        withhold_ended(ssl);
    }));
    // 0 is fatal. A session that was not stamped is not resumed.
    c_int::from(has_second_look(ssl))
}

/// A stateful TLS 1.3 ticket of a session that has ended: OpenSSL has no way to call it off, but one for tickets
/// that cannot be sealed. So it is to be sealed, and `stateless::seal`, which has no key for it, makes the option
/// what it was.
fn withhold_ended(ssl: &mut SslRef) {
    let is_ended = |session| {
        binding::has_ended(session)
            // More cannot be sealed, which would be fatal.
            && session_to_der(session, 0).is_some_and(|der| der.as_bytes().len() <= 0xff00)
    };
    let is_stateful_anyway = || ssl.max_early_data() > 0 && !has_option(ssl, SSL_OP_NO_ANTI_REPLAY);
    if ssl.version2() == Some(SslVersion::TLS1_3)
        && has_option(ssl, sys::SSL_OP_NO_TICKET)
        && connection(ssl).is_some_and(|connection| connection.owner().usurped().is_none())
        && can_withhold_tickets()
        && !is_stateful_anyway()
        && ssl.session().is_some_and(is_ended)
    {
        set_no_ticket(ssl, false);
    }
}

/// Whether a connection that resumes has been looked at again: not if its info callback was replaced after the
/// lookup. That is done now, before any data passes; not to know is not to let pass.
fn has_second_look(ssl: &mut SslRef) -> bool {
    if !ssl.session_reused() || has_info_callback(ssl) {
        return true;
    }
    let looked = catch(AssertUnwindSafe(|| {
        connection(ssl).is_none_or(|connection| {
            connection.owner().notice(Setting::InfoCallback);
            binding::may_go_on(ssl, connection)
        })
    }));
    let goes_on = looked.unwrap_or(false);
    if goes_on {
        return true;
    }
    if let Some(connection) = connection_mut(ssl) {
        connection.fail_closed();
    }
    false
}

/// `SSL_CTX_set_allow_early_data_cb`: everything else is right for early data. It could be
/// replayed, so it is declined, and the connection goes on without.
pub(super) unsafe extern "C" fn allow_early_data(ssl: *mut sys::SSL, _arg: *mut c_void) -> c_int {
    shielded((), || {
        // SAFETY: live and ours alone for the call.
        let ssl = unsafe { SslRef::from_ptr_mut(ssl) };
        if let Some(connection) = connection(ssl) {
            connection.policy().counters().early_data_declined.add_one();
        }
    });
    0
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
        notice_info_callback(ssl);
        let ticket = match status {
            SSL_TICKET_EMPTY => Ticket::Empty,
            SSL_TICKET_SUCCESS | SSL_TICKET_SUCCESS_RENEW => {
                // SAFETY: with these two OpenSSL passes the session, live for the call.
                Ticket::Opened(unsafe { SslSessionRef::from_ptr(session) })
            }
            _ => Ticket::Unreadable,
        };
        stateless::decide(ssl, &ticket, SystemTime::now())
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
    use openssl::error::ErrorStack;

    use super::super::session_from_der;
    use openssl::x509::X509;

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

    /// A call of the `openssl` crate that fails: it takes all errors out of the queue.
    fn fail() {
        X509::from_der(&[0]).unwrap_err();
    }

    #[test]
    fn errors_of_the_caller_stay_in_the_queue() {
        let mut stack = ErrorStack::get();
        assert!(stack.errors().is_empty());
        shielded((), fail);
        assert!(ErrorStack::get().errors().is_empty());

        stack = X509::from_der(&[0]).unwrap_err();
        let callers = stack.to_string();
        for body in [
            || (),
            fail as fn(),
            || shielded((), fail),
            || panic!("body"),
        ] {
            stack.put();
            shielded((), body);
            assert_eq!(ErrorStack::get().to_string(), callers);
        }
    }
}
