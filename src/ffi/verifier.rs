//! Verifying the certificate of a client again, as OpenSSL would verify it in a full handshake.

use std::ffi::{c_int, c_ulong};
use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use foreign_types::{ForeignType, ForeignTypeRef};
use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::sha::sha256;
use openssl::ssl::SslRef;
use openssl::stack::Stack;
use openssl::x509::store::{X509Store, X509StoreRef};
use openssl::x509::verify::{X509VerifyParam, X509VerifyParamRef};
use openssl::x509::{X509, X509Crl, X509StoreContext, X509StoreContextRef, X509VerifyResult};
use openssl_sys as sys;

use super::authorities::ca_store_of;
use super::declare::*;
use super::time::unix_time;
use super::verification::Verification;
use super::verify_param::{address_in, own_param};

/// All that a client's certificate is verified with, as it was found at a connection. It keeps the store alive, so that
/// what is known of it is not taken for what is known of another at the same address.
pub(crate) struct Verifier {
    /// No other has it.
    id: u64,
    how: Verification,
    store: Option<X509Store>,
    param: Option<X509VerifyParam>,
    level: c_int,
    suite_b: c_ulong,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Verifier").field(&self.id).finish()
    }
}

/// What became of another look at a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) passes: bool,
    /// Since the Unix epoch, in which second the first of the certificates that were looked at ends, or of the revocation
    /// lists ends or begins.
    pub(crate) until: u64,
}

/// What changes of a live store and of a connection's parameters, and is in no [`Verification`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TrustState {
    /// How many CA certificates and revocation lists the store has. None is ever taken out.
    objects: c_int,
    /// A hash of the IP address that a certificate must have; zero if it may have any.
    address: [u8; 16],
    purpose: c_int,
}

impl Verifier {
    /// What the client of this connection is verified with, `how` told already.
    pub(crate) fn of(ssl: &SslRef, how: &Verification) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // SAFETY: reads a field of a live SSL.
        let level = unsafe { sys::SSL_get_security_level(ssl.as_ptr()) };
        let control = SSL_CTRL_CERT_FLAGS;
        // SAFETY: this control sets no flag, and returns those that are set.
        let flags = unsafe { sys::SSL_ctrl(ssl.as_ptr(), control, 0, ptr::null_mut()) };
        Self {
            id: NEXT.fetch_add(1, Relaxed),
            how: *how,
            store: ca_store_of(ssl),
            param: own_param(ssl),
            level,
            // Those flags have the same bits as those of verification.
            suite_b: (flags & SSL_CERT_FLAG_SUITEB_128_LOS).unsigned_abs(),
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn how(&self) -> &Verification {
        &self.how
    }

    /// What may have changed since.
    pub(crate) fn state(&self) -> Option<TrustState> {
        let param = self.param.as_ref()?;
        Some(state_of(self.store.as_ref()?, param))
    }

    /// Verifies the first of some certificates, which were sent together, with what was found at the connection: its
    /// store, which may have more in it now, and its parameters; not its verify callback. `None` if there is not all that
    /// it takes.
    pub(crate) fn verify(&self, ssl: &SslRef, certificates: &[X509]) -> Option<Look> {
        let (store, param) = (self.store.as_ref()?, self.param.as_ref()?);
        self.verify_by(ssl, store, param, certificates).ok()
    }

    fn verify_by(
        &self,
        ssl: &SslRef,
        store: &X509StoreRef,
        param: &X509VerifyParamRef,
        certificates: &[X509],
    ) -> Result<Look, ErrorStack> {
        let certificate = certificates.first().ok_or_else(ErrorStack::get)?;
        let mut sent = Stack::new()?;
        for certificate in certificates {
            sent.push(certificate.clone())?;
        }
        let mut context = X509StoreContext::new()?;
        context.init(store, certificate, &sent, |context| {
            self.prepare(ssl, context, param)?;
            // First: what ends while it is verified is then not taken for something that has ended. By OpenSSL's clock,
            // which is a little behind others.
            let now = unix_time(&*Asn1Time::days_from_now(0)?);
            let passes = context.verify_cert()? && context.error() == X509VerifyResult::OK;
            let certificates = context.chain().into_iter().flatten();
            let ends = certificates.map(|one| unix_time(one.not_after()));
            let lists = lists(store);
            let begins = lists.iter().map(|list| list.last_update());
            let replaced = lists.iter().filter_map(|list| list.next_update());
            let changes = ends.chain(begins.chain(replaced).map(unix_time));
            // What is past plays no part, or has been taken into account.
            let until = changes.filter(|second| *second > now).min();
            Ok(Look {
                passes,
                until: until.unwrap_or(u64::MAX),
            })
        })
    }

    /// In the order in which OpenSSL does it (`ssl_verify_cert_chain`).
    fn prepare(
        &self,
        ssl: &SslRef,
        context: &mut X509StoreContextRef,
        param: &X509VerifyParamRef,
    ) -> Result<(), ErrorStack> {
        let context = context.as_ptr();
        // SAFETY: the parameters of a live store context, which owns them.
        let own = unsafe { X509_STORE_CTX_get0_param(context) };
        // SAFETY: sets a field of live parameters.
        unsafe { sys::X509_VERIFY_PARAM_set_auth_level(own, self.level) };
        // SAFETY: sets a field of a live store context.
        unsafe { X509_STORE_CTX_set_flags(context, self.suite_b) };
        // SAFETY: makes, or returns, an index of the process.
        let index = unsafe { sys::SSL_get_ex_data_X509_STORE_CTX_idx() };
        // SAFETY: the connection outlives the store context, which is freed without a look at it.
        let set = unsafe { X509_STORE_CTX_set_ex_data(context, index, ssl.as_ptr().cast()) };
        // SAFETY: reads a static string.
        let is_known = unsafe { X509_STORE_CTX_set_default(context, c"ssl_client".as_ptr()) };
        // SAFETY: copies from live parameters into others.
        let copied = unsafe { X509_VERIFY_PARAM_set1(own, param.as_ptr()) };
        match (set, is_known, copied) {
            (1, 1, 1) => Ok(()),
            _ => Err(ErrorStack::get()),
        }
    }
}

/// What may change at this connection while its [`Verification`] stays the same.
pub(crate) fn trust_state(ssl: &SslRef) -> Option<TrustState> {
    let store = ca_store_of(ssl)?;
    // SAFETY: reads a field of a live SSL.
    let param = unsafe { sys::SSL_get0_param(ssl.as_ptr()) };
    // SAFETY: the parameters live as long as the SSL.
    let param = unsafe { X509VerifyParamRef::from_ptr(param) };
    Some(state_of(&store, param))
}

fn state_of(store: &X509StoreRef, param: &X509VerifyParamRef) -> TrustState {
    let address = address_in(param).map(|address| sha256(&address));
    let address = address.and_then(|hash| hash.first_chunk().copied());
    TrustState {
        objects: locked(store, |objects| {
            // SAFETY: reads a live stack.
            unsafe { sys::OPENSSL_sk_num(objects.cast()) }
        }),
        address: address.unwrap_or_default(),
        purpose: purpose(param),
    }
}

#[cfg(openssl350)]
fn purpose(param: &X509VerifyParamRef) -> c_int {
    // SAFETY: reads a field of live parameters.
    unsafe { X509_VERIFY_PARAM_get_purpose(param.as_ptr()) }
}

/// Before 3.5 there is no way to ask.
#[cfg(not(openssl350))]
fn purpose(_: &X509VerifyParamRef) -> c_int {
    0
}

/// What `f` makes of the objects in a live store, to which others may add meanwhile.
fn locked<T>(store: &X509StoreRef, f: impl FnOnce(*mut sys::stack_st_X509_OBJECT) -> T) -> T {
    let store = store.as_ptr();
    // SAFETY: waits for the lock of a live store.
    let is_locked = unsafe { X509_STORE_lock(store) };
    // SAFETY: reads a field of a live store.
    let result = f(unsafe { sys::X509_STORE_get0_objects(store) });
    if is_locked == 1 {
        // SAFETY: gives back what was just taken.
        unsafe { X509_STORE_unlock(store) };
    }
    result
}

/// The revocation lists in a store. Nothing is made of them while it is locked, for which handshakes wait.
fn lists(store: &X509StoreRef) -> Vec<X509Crl> {
    locked(store, |objects| {
        // SAFETY: reads a live stack, which nobody changes while it is locked.
        let count = unsafe { sys::OPENSSL_sk_num(objects.cast()) };
        let list = |index| {
            // SAFETY: as above.
            let object = unsafe { sys::OPENSSL_sk_value(objects.cast(), index) };
            // SAFETY: reads a live object, null if it is no revocation list.
            let list = unsafe { X509_OBJECT_get0_X509_CRL(object.cast()) };
            // SAFETY: makes a reference to a live list.
            if list.is_null() || unsafe { sys::X509_CRL_up_ref(list) } != 1 {
                return None;
            }
            // SAFETY: takes over the reference just made.
            Some(unsafe { X509Crl::from_ptr(list) })
        };
        (0..count).filter_map(list).collect()
    })
}
