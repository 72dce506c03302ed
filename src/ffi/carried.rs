//! What a connection carries: in the ex-data of its `SSL`, by an index of our own. With that of `Ssl::new_ex_index`
//! it would be freed without a look at the `SSL`.

use std::ffi::{c_int, c_long, c_void};
use std::ptr;
use std::sync::OnceLock;

use foreign_types::ForeignTypeRef;
use openssl::error::ErrorStack;
use openssl::ssl::SslRef;
use openssl_sys as sys;

use super::callbacks::shielded;
use super::declare::*;
use super::get_or_make;
use crate::connection::Connection;

static INDEX: OnceLock<c_int> = OnceLock::new();

/// Makes the index, before there is a connection.
pub(super) fn prepare() -> Result<(), ErrorStack> {
    get_or_make(&INDEX, new_index).map(drop)
}

fn new_index() -> Result<c_int, ErrorStack> {
    let copy = Some(copy_no_connection as sys::CRYPTO_EX_dup);
    let free = Some(free_connection as sys::CRYPTO_EX_free);
    // SAFETY: both are functions, and fit what `set_connection` puts there.
    let index = unsafe { sys::SSL_get_ex_new_index(0, ptr::null_mut(), None, copy, free) };
    (index >= 0).then_some(index).ok_or_else(ErrorStack::get)
}

/// What a connection carries, if it is one of a context with a policy.
pub(crate) fn connection(ssl: &SslRef) -> Option<&Connection> {
    // SAFETY: reads a live SSL.
    let data = unsafe { sys::SSL_get_ex_data(ssl.as_ptr(), *INDEX.get()?) };
    // SAFETY: null, or what `set_connection` put there, which lives as long as the SSL.
    unsafe { data.cast::<Connection>().as_ref() }
}

pub(crate) fn connection_mut(ssl: &mut SslRef) -> Option<&mut Connection> {
    // SAFETY: reads a live SSL.
    let data = unsafe { sys::SSL_get_ex_data(ssl.as_ptr(), *INDEX.get()?) };
    // SAFETY: as in `connection`; the SSL is borrowed mutably, and its connection only through it.
    unsafe { data.cast::<Connection>().as_mut() }
}

/// Gives an SSL what it is to carry, in place of what it may have carried before.
pub(super) fn set_connection(ssl: &mut SslRef, new: Connection) -> Option<()> {
    if let Some(connection) = connection_mut(ssl) {
        *connection = new;
        return Some(());
    }
    let index = *INDEX.get()?;
    let data: *mut Connection = Box::into_raw(Box::new(new));
    // SAFETY: the SSL is live, and frees the data by `free_connection`.
    let done = unsafe { sys::SSL_set_ex_data(ssl.as_ptr(), index, data.cast::<c_void>()) };
    if done == 1 {
        return Some(());
    }
    // SAFETY: OpenSSL has not taken what the line above has made.
    drop(unsafe { Box::from_raw(data) });
    None
}

/// An `SSL` is copied (`SSL_dup`): what it carries is its own, and would be freed with either.
unsafe extern "C" fn copy_no_connection(
    _to: *mut sys::CRYPTO_EX_DATA,
    _from: *const sys::CRYPTO_EX_DATA,
    data: *mut *mut c_void,
    _index: c_int,
    _number: c_long,
    _arg: *mut c_void,
) -> c_int {
    // SAFETY: what the copy is to get, which OpenSSL has written here for us to change.
    unsafe { *data = ptr::null_mut() };
    1
}

/// An `SSL` is freed: what its connection carries, too.
unsafe extern "C" fn free_connection(
    ssl: *mut c_void,
    data: *mut c_void,
    _all: *mut sys::CRYPTO_EX_DATA,
    _index: c_int,
    _number: c_long,
    _arg: *mut c_void,
) {
    if data.is_null() {
        return;
    }
    // SAFETY: OpenSSL hands back, once, what `set_connection` has made.
    let mut connection = unsafe { Box::from_raw(data.cast::<Connection>()) };
    // With quiet shutdown there is no close_notify that would have told.
    // SAFETY: reads a field of the SSL, whose memory OpenSSL frees after its data.
    let is_quiet = unsafe { SSL_get_quiet_shutdown(ssl.cast()) } != 0;
    // SAFETY: as above.
    let shutdown = unsafe { sys::SSL_get_shutdown(ssl.cast()) };
    if is_quiet && shutdown & SSL_SENT_SHUTDOWN != 0 {
        connection.close();
    }
    shielded((), || drop(connection));
}
