//! The parameters that certificates of clients are verified by.

use std::ffi::CStr;
use std::ptr;

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::error::ErrorStack;
use openssl::ssl::{SslContextRef, SslRef};
use openssl::x509::X509PurposeId;
use openssl::x509::verify::{X509VerifyParam, X509VerifyParamRef};
use openssl_sys as sys;

use super::authorities::ca_store;
use super::declare::*;

/// Takes the IP address that a certificate must have, if it must, out of verify parameters.
pub(crate) fn take_address(param: &mut X509VerifyParamRef) -> Option<Vec<u8>> {
    let address = address_in(param);
    // SAFETY: empties a field of live parameters.
    unsafe { sys::X509_VERIFY_PARAM_set1_ip(param.as_ptr(), ptr::null(), 0) };
    address
}

/// The IP address that a certificate must have, as text. That there is none OpenSSL says by an error in its queue.
pub(super) fn address_in(param: &X509VerifyParamRef) -> Option<Vec<u8>> {
    // SAFETY: reads live parameters; what it makes is ours.
    let text = unsafe { X509_VERIFY_PARAM_get1_ip_asc(param.as_ptr()) };
    if text.is_null() {
        return None;
    }
    // SAFETY: a string of ours.
    let bytes = unsafe { CStr::from_ptr(text) }.to_bytes().to_vec();
    // SAFETY: frees it, once.
    unsafe { sys::OPENSSL_free(text.cast()) };
    Some(bytes)
}

/// A copy of the parameters that a connection itself has.
pub(super) fn own_param(ssl: &SslRef) -> Option<X509VerifyParam> {
    let copy = X509VerifyParam::new().ok()?;
    // SAFETY: reads a field of a live SSL.
    let own = unsafe { sys::SSL_get0_param(ssl.as_ptr()) };
    // SAFETY: copies from live parameters into ours.
    let done = unsafe { X509_VERIFY_PARAM_set1(copy.as_ptr(), own) };
    // SAFETY: reads a field of live parameters.
    let inheritance = unsafe { X509_VERIFY_PARAM_get_inh_flags(own) };
    // SAFETY: sets a field of ours.
    unsafe { X509_VERIFY_PARAM_set_inh_flags(copy.as_ptr(), inheritance) };
    (done == 1).then_some(copy)
}

/// The parameters that a connection's client is verified by, but for hosts and mail, as OpenSSL puts them together:
/// those for clients, over them those of the store, over them the connection's own.
pub(crate) fn verify_param(ssl: &SslRef) -> Result<X509VerifyParam, ErrorStack> {
    // SAFETY: reads a field of a live SSL.
    let own = unsafe { sys::SSL_get0_param(ssl.as_ptr()) };
    let store = ca_store(ssl);
    if store.is_null() {
        return client_param(&[own]);
    }
    // SAFETY: reads a field of a live store.
    let stores = unsafe { X509_STORE_get0_param(store) };
    client_param(&[stores, own])
}

/// The parameters that a context gives its connections, over those for clients, but for hosts and mail.
pub(crate) fn verify_param_of(context: &SslContextRef) -> Result<X509VerifyParam, ErrorStack> {
    // SAFETY: reads a field of a live context.
    client_param(&[unsafe { sys::SSL_CTX_get0_param(context.as_ptr()) }])
}

/// A copy of these live parameters, each over those before it.
fn client_param(params: &[*mut sys::X509_VERIFY_PARAM]) -> Result<X509VerifyParam, ErrorStack> {
    let mut param = X509VerifyParam::new()?;
    param.set_purpose(X509PurposeId::SSL_CLIENT)?;
    let ours = param.as_ptr();
    for theirs in params {
        // SAFETY: copies from live parameters into ours.
        unsafe { X509_VERIFY_PARAM_set1(ours, *theirs) };
    }
    // SAFETY: empties a field of ours.
    unsafe { sys::X509_VERIFY_PARAM_set1_host(ours, ptr::null(), 0) };
    // SAFETY: as above.
    unsafe { sys::X509_VERIFY_PARAM_set1_email(ours, ptr::null(), 0) };
    Ok(param)
}
