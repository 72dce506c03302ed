//! What clients are verified against.

use std::ffi::{CStr, c_char};
use std::ptr;

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::ssl::{SslContextRef, SslRef, SslVerifyMode, SslVersion};
use openssl::stack::StackRef;
use openssl::x509::store::X509Store;
use openssl::x509::verify::{X509VerifyParam, X509VerifyParamRef};
use openssl::x509::{X509Name, X509NameRef, X509PurposeId, X509Ref};
use openssl_sys as sys;

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

/// The verify mode that a context gives its connections.
pub(crate) fn verify_mode_of(context: &SslContextRef) -> SslVerifyMode {
    // SAFETY: reads a field of a live context.
    let mode = unsafe { sys::SSL_CTX_get_verify_mode(context.as_ptr()) };
    SslVerifyMode::from_bits_truncate(mode)
}

/// How the client of a connection is verified: against which store and names of CAs, told apart by where
/// they are, by which callbacks, and by which rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verification {
    store: usize,
    names: usize,
    callbacks: [usize; 2],
    rules: Rules,
}

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
}

pub(crate) fn verification(ssl: &SslRef) -> Verification {
    let store = ca_store(ssl);
    // SAFETY: reads a field of a live SSL.
    let callback = unsafe { SSL_get_verify_callback(ssl.as_ptr()) };
    // SAFETY: reads a field of a live SSL, which owns what it points to.
    let own = rules_of(unsafe { sys::SSL_get0_param(ssl.as_ptr()) });
    let (stores_callback, stores) = if store.is_null() {
        (None, [0; 4])
    } else {
        // SAFETY: reads a field of a live store.
        let callback = unsafe { X509_STORE_get_verify_cb(store) };
        // SAFETY: as above; the store owns what it points to.
        (callback, rules_of(unsafe { X509_STORE_get0_param(store) }))
    };
    // SAFETY: reads a field of a live SSL.
    let level = unsafe { sys::SSL_get_security_level(ssl.as_ptr()) };
    let mut rules = [i64::from(level); 9];
    rules[1..5].copy_from_slice(&own);
    rules[5..].copy_from_slice(&stores);
    Verification {
        store: store as usize,
        names: ca_names(ssl) as usize,
        callbacks: [address(callback), address(stores_callback)],
        rules,
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

/// The parameters that a connection's client is verified by, as OpenSSL puts them together: those for
/// clients, over them those of the store, over them the connection's own.
pub(crate) fn verify_param(ssl: &SslRef) -> Result<X509VerifyParam, ErrorStack> {
    let mut param = X509VerifyParam::new()?;
    param.set_purpose(X509PurposeId::SSL_CLIENT)?;
    let store = ca_store(ssl);
    if !store.is_null() {
        // SAFETY: reads a field of a live store.
        let of_store = unsafe { X509_STORE_get0_param(store) };
        // SAFETY: copies from live parameters into ours.
        unsafe { X509_VERIFY_PARAM_set1(param.as_ptr(), of_store) };
    }
    // SAFETY: reads a field of a live SSL.
    let own = unsafe { sys::SSL_get0_param(ssl.as_ptr()) };
    // SAFETY: copies from live parameters into ours.
    unsafe { X509_VERIFY_PARAM_set1(param.as_ptr(), own) };
    Ok(param)
}

/// Takes the names that a certificate must have, by host, mail address and IP address, out of verify
/// parameters.
pub(crate) fn take_names(param: &mut X509VerifyParamRef) -> Vec<Vec<u8>> {
    let param = param.as_ptr();
    let bytes = |text: *mut c_char| {
        // SAFETY: not null, a string that lives in the parameters or is ours, until below.
        unsafe { CStr::from_ptr(text) }.to_bytes().to_vec()
    };
    let hosts = (0..).map(|index| {
        // SAFETY: reads live parameters; null after the last.
        unsafe { X509_VERIFY_PARAM_get0_host(param, index) }
    });
    let hosts = hosts.take_while(|host| !host.is_null());
    let mut names: Vec<_> = hosts.map(bytes).collect();
    // SAFETY: as above; null if there is none.
    let email = unsafe { X509_VERIFY_PARAM_get0_email(param) };
    // SAFETY: as above; what it makes is ours.
    let ip = unsafe { X509_VERIFY_PARAM_get1_ip_asc(param) };
    names.extend(
        [email, ip]
            .into_iter()
            .filter(|text| !text.is_null())
            .map(bytes),
    );
    // SAFETY: frees what was made, if it was.
    unsafe { sys::OPENSSL_free(ip.cast()) };
    // SAFETY: empties a field of live parameters.
    unsafe { sys::X509_VERIFY_PARAM_set1_host(param, ptr::null(), 0) };
    // SAFETY: as above.
    unsafe { sys::X509_VERIFY_PARAM_set1_email(param, ptr::null(), 0) };
    // SAFETY: as above.
    unsafe { sys::X509_VERIFY_PARAM_set1_ip(param, ptr::null(), 0) };
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
fn ca_store(ssl: &SslRef) -> *mut sys::X509_STORE {
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

fn ca_names(ssl: &SslRef) -> *mut sys::stack_st_X509_NAME {
    // SAFETY: reads a field of a live SSL, or of its context.
    unsafe { SSL_get_client_CA_list(ssl.as_ptr()) }
}
