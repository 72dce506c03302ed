//! The certificates and names of CAs that clients are verified against.

use std::ptr;

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::hash::MessageDigest;
use openssl::ssl::SslRef;
use openssl::stack::StackRef;
use openssl::x509::store::X509Store;
use openssl::x509::{X509Name, X509NameRef, X509Ref};
use openssl_sys as sys;

use super::declare::*;

/// A reference to the store that the connection's client is verified with.
pub(crate) fn ca_store_of(ssl: &SslRef) -> Option<X509Store> {
    let store = ca_store(ssl);
    if store.is_null() {
        return None;
    }
    // SAFETY: the store belongs to the connection or its context.
    unsafe { X509_STORE_up_ref(store) };
    // SAFETY: takes over the reference just made.
    Some(unsafe { X509Store::from_ptr(store) })
}

/// The certificates, by their SHA-256, and the client CA names of a connection's CA set.
pub(crate) fn certificate_authorities(ssl: &SslRef) -> (Vec<[u8; 32]>, Vec<Vec<u8>>) {
    let certificates = match ca_store_of(ssl) {
        Some(store) => store.all_certificates(),
        None => return Default::default(),
    };
    let digest = |certificate: &X509Ref| certificate.digest(MessageDigest::sha256());
    let digests: Vec<_> = certificates.iter().flat_map(digest).collect();
    let digests = digests
        .iter()
        .filter_map(|digest| (**digest).try_into().ok());
    let names = ca_names(ssl);
    let names = if names.is_null() {
        Vec::new()
    } else {
        // SAFETY: the list belongs to the connection or its context.
        let names = unsafe { StackRef::<X509Name>::from_ptr(names) };
        names.iter().flat_map(X509NameRef::to_der).collect()
    };
    (digests.collect(), names)
}

/// The store that OpenSSL would verify with: the connection's own, which it got from its context
/// (`SSL_CTX_set1_verify_cert_store`) or from a callback, or else the context's.
pub(super) fn ca_store(ssl: &SslRef) -> *mut sys::X509_STORE {
    let mut own: *mut sys::X509_STORE = ptr::null_mut();
    let out = ptr::from_mut(&mut own).cast();
    // SAFETY: this control writes a pointer to `out`.
    unsafe { sys::SSL_ctrl(ssl.as_ptr(), SSL_CTRL_GET_VERIFY_CERT_STORE, 0, out) };
    if own.is_null() {
        // SAFETY: reads a field of a live context.
        own = unsafe { sys::SSL_CTX_get_cert_store(ssl.ssl_context().as_ptr()) };
    }
    own
}

pub(super) fn ca_names(ssl: &SslRef) -> *mut sys::stack_st_X509_NAME {
    // SAFETY: reads a field of a live SSL, or of its context.
    unsafe { SSL_get_client_CA_list(ssl.as_ptr()) }
}
