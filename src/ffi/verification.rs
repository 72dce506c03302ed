//! How clients are verified: what is asked, against what, by whom and by which rules.

use std::ffi::{CStr, c_char};
use std::ptr;

use foreign_types::ForeignTypeRef;
use openssl::sha::Sha256;
use openssl::ssl::{SslRef, SslVerifyMode, SslVersion};
use openssl_sys as sys;

use super::authorities::{ca_names, ca_store};
use super::declare::*;

pub(crate) fn verify_mode(ssl: &SslRef) -> SslVerifyMode {
    // SAFETY: reads a field of a live SSL.
    let mode = unsafe { sys::SSL_get_verify_mode(ssl.as_ptr()) };
    // Not `SslRef::verify_mode`, which panics over modes that it does not name.
    let mut verify = SslVerifyMode::from_bits_truncate(mode);
    // TLS 1.3 then asks for a certificate after the handshake only.
    if mode & SSL_VERIFY_POST_HANDSHAKE != 0 && ssl.version2() == Some(SslVersion::TLS1_3) {
        verify.remove(SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    }
    verify
}

/// Whether a certificate is asked for after the handshake in TLS 1.3, and in it before.
pub(crate) fn asks_after_handshake(ssl: &SslRef) -> bool {
    // SAFETY: reads a field of a live SSL.
    let mode = unsafe { sys::SSL_get_verify_mode(ssl.as_ptr()) };
    mode & SSL_VERIFY_POST_HANDSHAKE != 0
}

/// How the client of a connection is verified: against which store and names of CAs, told apart by where
/// they are, by which callbacks, and by which rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verification {
    store: usize,
    names: usize,
    callbacks: [usize; 2],
    rules: Rules,
    demanded: Demanded,
    /// What is too dear to be asked each time, of the context that accepted.
    dear: [u8; 16],
}

/// A hash of the names that a certificate must have, host and mail address; zero if it may have any.
pub(crate) type Demanded = [u8; 16];

/// The numbers that OpenSSL verifies by: of the connection and of the store flags, depth and level, and the
/// security level.
pub(crate) type Rules = [i64; 9];

impl Verification {
    /// Whether a callback has the last word, so that nobody sees what passes.
    pub(crate) fn is_by_callback(&self) -> bool {
        self.callbacks != [0; 2]
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    pub(crate) fn demanded(&self) -> &Demanded {
        &self.demanded
    }

    pub(crate) fn dear(&self) -> &[u8; 16] {
        &self.dear
    }
}

/// `dear` is what is too dear to be asked each time, of the context that accepted the connection.
pub(crate) fn verification(ssl: &SslRef, dear: [u8; 16]) -> Verification {
    let store = ca_store(ssl);
    // SAFETY: reads a field of a live SSL.
    let callback = unsafe { SSL_get_verify_callback(ssl.as_ptr()) };
    // SAFETY: reads a field of a live SSL, which owns what it points to.
    let own = unsafe { sys::SSL_get0_param(ssl.as_ptr()) };
    let (stores_callback, stores) = if store.is_null() {
        (None, ptr::null_mut())
    } else {
        // SAFETY: reads a field of a live store.
        let callback = unsafe { X509_STORE_get_verify_cb(store) };
        // SAFETY: as above; the store owns what it points to.
        (callback, unsafe { X509_STORE_get0_param(store) })
    };
    // SAFETY: reads a field of a live SSL.
    let level = unsafe { sys::SSL_get_security_level(ssl.as_ptr()) };
    let mut rules = [i64::from(level); 9];
    rules[1..5].copy_from_slice(&rules_of(own));
    if !stores.is_null() {
        rules[5..].copy_from_slice(&rules_of(stores));
    }
    Verification {
        store: store as usize,
        names: ca_names(ssl) as usize,
        callbacks: [address(callback), address(stores_callback)],
        rules,
        demanded: demanded(own, stores),
        dear,
    }
}

/// The numbers in verify parameters, which their owner keeps alive.
fn rules_of(param: *mut sys::X509_VERIFY_PARAM) -> [i64; 4] {
    // SAFETY: reads a field of live parameters.
    let flags = unsafe { sys::X509_VERIFY_PARAM_get_flags(param) };
    // SAFETY: as above.
    let depth = unsafe { X509_VERIFY_PARAM_get_depth(param) };
    // SAFETY: as above.
    let level = unsafe { sys::X509_VERIFY_PARAM_get_auth_level(param) };
    // SAFETY: as above.
    let host_flags = unsafe { X509_VERIFY_PARAM_get_hostflags(param) };
    let flags = i64::try_from(flags).unwrap_or(i64::MAX);
    [flags, depth.into(), level.into(), host_flags.into()]
}

/// What these parameters, of a connection and of a store or null, demand a certificate to be named.
fn demanded(own: *mut sys::X509_VERIFY_PARAM, stores: *mut sys::X509_VERIFY_PARAM) -> Demanded {
    let own = names_in(own);
    let stores = match stores.is_null() {
        true => Vec::new(),
        false => names_in(stores),
    };
    if own.is_empty() && stores.is_empty() {
        return [0; 16];
    }
    let mut hash = Sha256::new();
    for names in [own, stores] {
        hash.update(&(names.len() as u64).to_be_bytes());
        for name in names {
            hash.update(&(name.len() as u64).to_be_bytes());
            hash.update(&name);
        }
    }
    *hash.finish().first_chunk().expect("16 is less than 32")
}

/// The names in live parameters, each with its kind before it.
fn names_in(param: *mut sys::X509_VERIFY_PARAM) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    let mut add = |kind: u8, text: *mut c_char| {
        if !text.is_null() {
            // SAFETY: a string that lives in the parameters.
            let bytes = unsafe { CStr::from_ptr(text) }.to_bytes();
            names.push([&[kind], bytes].concat());
        }
    };
    // SAFETY: reads live parameters; null if there is none.
    add(b'@', unsafe { X509_VERIFY_PARAM_get0_email(param) });
    for index in 0.. {
        // SAFETY: as above; null after the last.
        let host = unsafe { X509_VERIFY_PARAM_get0_host(param, index) };
        if host.is_null() {
            break;
        }
        add(b'.', host);
    }
    names
}

/// Whether store, names and callback are those of the context that the connection has now, and not its own.
pub(crate) fn is_of_context(how: &Verification, ssl: &SslRef) -> bool {
    let context = ssl.ssl_context().as_ptr();
    let mut store: *mut sys::X509_STORE = ptr::null_mut();
    let out = ptr::from_mut(&mut store).cast();
    // SAFETY: this control writes a pointer to `out`.
    unsafe { sys::SSL_CTX_ctrl(context, SSL_CTRL_GET_VERIFY_CERT_STORE, 0, out) };
    if store.is_null() {
        // SAFETY: reads a field of a live context.
        store = unsafe { sys::SSL_CTX_get_cert_store(context) };
    }
    // SAFETY: as above.
    let names = unsafe { SSL_CTX_get_client_CA_list(context) };
    // SAFETY: as above.
    let callback = address(unsafe { SSL_CTX_get_verify_callback(context) });
    let [own, _] = how.callbacks;
    how.store == store as usize && how.names == names as usize && (own == 0 || own == callback)
}

fn address(callback: Option<VerifyCallback>) -> usize {
    callback.map_or(0, |callback| callback as usize)
}
