//! The ClientHello that is being processed, and what has been chosen for it.

use std::ffi::{c_uint, c_void};
use std::{ptr, slice};

use foreign_types::ForeignTypeRef;
use openssl::ssl::{SslCipherRef, SslRef};
use openssl_sys as sys;

use super::declare::*;

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
