//! Who a session says its client is.

use std::ptr;

use foreign_types::ForeignTypeRef;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, PKeyRef, Public};
use openssl::sha::sha256;
use openssl::ssl::{SslRef, SslSessionRef};
use openssl::x509::{X509, X509Ref};
use openssl_sys as sys;

use super::declare::*;

/// What a client has proven to hold the key of: a certificate, or a raw public key (RFC 7250; OpenSSL 3.2).
#[derive(Clone, Copy)]
pub(crate) enum CredentialRef<'a> {
    Certificate(&'a X509Ref),
    #[cfg_attr(not(openssl320), expect(dead_code, reason = "OpenSSL has none"))]
    Key(&'a PKeyRef<Public>),
}

/// A reference of our own, which keeps a credential's address from being that of another one.
pub(crate) enum Credential {
    Certificate(X509),
    Key(PKey<Public>),
}

impl CredentialRef<'_> {
    /// The SHA-256 of the certificate, or of the key's SubjectPublicKeyInfo.
    pub(crate) fn sha256(self) -> Option<[u8; 32]> {
        match self {
            Self::Certificate(certificate) => {
                let digest = certificate.digest(MessageDigest::sha256()).ok()?;
                (*digest).try_into().ok()
            }
            Self::Key(key) => Some(sha256(&key.public_key_to_der().ok()?)),
        }
    }

    pub(crate) fn certificate(&self) -> Option<&X509Ref> {
        match self {
            Self::Certificate(certificate) => Some(certificate),
            Self::Key(_) => None,
        }
    }

    pub(crate) fn to_owned(self) -> Credential {
        match self {
            Self::Certificate(certificate) => Credential::Certificate(certificate.to_owned()),
            Self::Key(key) => Credential::Key(key.to_owned()),
        }
    }
}

impl Credential {
    /// Whether it is this very one.
    pub(crate) fn is(&self, other: CredentialRef<'_>) -> bool {
        match (self, other) {
            (Self::Certificate(own), CredentialRef::Certificate(other)) => {
                ptr::eq(own.as_ptr(), other.as_ptr())
            }
            (Self::Key(own), CredentialRef::Key(other)) => ptr::eq(own.as_ptr(), other.as_ptr()),
            _ => false,
        }
    }
}

/// What the client of a session has proven to be, if it has.
pub(crate) fn credential(session: &SslSessionRef) -> Option<CredentialRef<'_>> {
    let certificate = peer_certificate(session).map(CredentialRef::Certificate);
    #[cfg(openssl320)]
    let certificate = certificate.or_else(|| peer_key(session).map(CredentialRef::Key));
    certificate
}

/// The client's raw public key in a session.
#[cfg(openssl320)]
fn peer_key(session: &SslSessionRef) -> Option<&PKeyRef<Public>> {
    // SAFETY: reads a field of a live session.
    let key = unsafe { SSL_SESSION_get0_peer_rpk(session.as_ptr()) };
    // SAFETY: if there is one it lives in the session, which the result borrows.
    (!key.is_null()).then(|| unsafe { PKeyRef::from_ptr(key) })
}

/// The client certificate in a session.
pub(crate) fn peer_certificate(session: &SslSessionRef) -> Option<&X509Ref> {
    // SAFETY: reads a field of a live session.
    let certificate = unsafe { SSL_SESSION_get0_peer(session.as_ptr()) };
    // SAFETY: if there is one it lives in the session, which the result borrows.
    (!certificate.is_null()).then(|| unsafe { X509Ref::from_ptr(certificate) })
}

/// Whether the client sent more certificates than its own.
pub(crate) fn has_chain(ssl: &SslRef) -> bool {
    // On the server's side the client's own is not among these.
    ssl.peer_cert_chain().is_some_and(|chain| !chain.is_empty())
}

/// How many bytes the DER of a certificate takes.
pub(crate) fn certificate_len(certificate: &X509Ref) -> usize {
    // SAFETY: without an output OpenSSL only computes the length.
    let len = unsafe { sys::i2d_X509(certificate.as_ptr(), ptr::null_mut()) };
    usize::try_from(len).unwrap_or(usize::MAX)
}

/// How many bytes the extensions of a certificate take, without their names.
pub(crate) fn extensions_len(certificate: &X509Ref) -> usize {
    let certificate = certificate.as_ptr();
    // SAFETY: reads a live certificate.
    let count = unsafe { sys::X509_get_ext_count(certificate) };
    let len = |index| {
        // SAFETY: reads a live certificate, at an index that it has.
        let extension = unsafe { sys::X509_get_ext(certificate, index) };
        // SAFETY: an extension has a value, which it owns.
        let value = unsafe { sys::X509_EXTENSION_get_data(extension) };
        // SAFETY: reads a live string.
        let len = unsafe { sys::ASN1_STRING_length(value.cast()) };
        usize::try_from(len).unwrap_or(0)
    };
    (0..count).map(len).sum()
}
