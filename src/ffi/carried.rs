//! What a connection carries: in the ex-data of its `SSL`, by an index of our own. With that of `Ssl::new_ex_index`
//! it would be freed without a look at the `SSL`, and twice if somebody copies that.

use std::ffi::{c_int, c_long, c_void};
use std::marker::PhantomData;
use std::ptr;
use std::sync::OnceLock;

use foreign_types::ForeignTypeRef;
use openssl::error::ErrorStack;
use openssl::ssl::SslRef;
use openssl_sys as sys;

use super::declare::*;
use super::error_queue::shielded;
use crate::base::get_or_make;

/// What an `SSL` can carry.
pub(crate) trait Carried: Send + Sync + 'static {
    /// The `SSL` is freed. `shut_down` says whether it had been shut down quietly, so that there was no close_notify
    /// that would have told.
    fn freed(self: Box<Self>, shut_down: bool);
}

/// The place of something in each `SSL`: a static beside its type, and the only one for it.
pub(crate) struct Place<T> {
    index: OnceLock<c_int>,
    carries: PhantomData<fn() -> T>,
}

impl<T: Carried> Place<T> {
    pub(crate) const fn new() -> Self {
        Self {
            index: OnceLock::new(),
            carries: PhantomData,
        }
    }

    /// Makes the index, before there is a connection.
    pub(crate) fn prepare(&self) -> Result<(), ErrorStack> {
        get_or_make(&self.index, new_index::<T>).map(drop)
    }

    /// What the `SSL` carries, if it does.
    pub(crate) fn get<'a>(&self, ssl: &'a SslRef) -> Option<&'a T> {
        // SAFETY: reads a live SSL.
        let data = unsafe { sys::SSL_get_ex_data(ssl.as_ptr(), *self.index.get()?) };
        // SAFETY: null, or what `set` put there, which lives as long as the SSL.
        unsafe { data.cast::<T>().as_ref() }
    }

    pub(crate) fn get_mut<'a>(&self, ssl: &'a mut SslRef) -> Option<&'a mut T> {
        // SAFETY: reads a live SSL.
        let data = unsafe { sys::SSL_get_ex_data(ssl.as_ptr(), *self.index.get()?) };
        // SAFETY: as in `get`; the SSL is borrowed mutably, and what it carries only through it.
        unsafe { data.cast::<T>().as_mut() }
    }

    /// Gives an `SSL` what it is to carry, in place of what it may have carried before. `None` if there is no memory
    /// for it.
    pub(crate) fn set(&self, ssl: &mut SslRef, new: T) -> Option<()> {
        if let Some(carried) = self.get_mut(ssl) {
            *carried = new;
            return Some(());
        }
        let index = *self.index.get()?;
        let data: *mut T = Box::into_raw(Box::new(new));
        // SAFETY: the SSL is live, and frees the data by `free`.
        let done = unsafe { sys::SSL_set_ex_data(ssl.as_ptr(), index, data.cast::<c_void>()) };
        if done == 1 {
            return Some(());
        }
        // SAFETY: OpenSSL has not taken what the line above has made.
        drop(unsafe { Box::from_raw(data) });
        None
    }
}

fn new_index<T: Carried>() -> Result<c_int, ErrorStack> {
    let copy = Some(copy_nothing as sys::CRYPTO_EX_dup);
    let free = Some(free::<T> as sys::CRYPTO_EX_free);
    // SAFETY: both are functions, and fit what `Place::set` puts there.
    let index = unsafe { sys::SSL_get_ex_new_index(0, ptr::null_mut(), None, copy, free) };
    (index >= 0).then_some(index).ok_or_else(ErrorStack::get)
}

/// An `SSL` is copied (`SSL_dup`): what it carries is its own, and would be freed with either.
unsafe extern "C" fn copy_nothing(
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

/// An `SSL` is freed: what it carries, too.
unsafe extern "C" fn free<T: Carried>(
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
    // SAFETY: OpenSSL hands back, once, what `Place::set` has made.
    let carried = unsafe { Box::from_raw(data.cast::<T>()) };
    // SAFETY: reads a field of the SSL, whose memory OpenSSL frees after its data.
    let is_quiet = unsafe { SSL_get_quiet_shutdown(ssl.cast()) } != 0;
    // SAFETY: as above.
    let shutdown = unsafe { sys::SSL_get_shutdown(ssl.cast()) };
    let shut_down = is_quiet && shutdown & SSL_SENT_SHUTDOWN != 0;
    shielded((), || carried.freed(shut_down));
}
