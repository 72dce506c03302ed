//! What a connection knows of its client, and what it is verified against.

use openssl::ssl::SslRef;
use openssl::x509::store::X509Store;
use parking_lot::Mutex;

use crate::ffi::{self, Credential, CredentialRef, Verification};
use crate::session::Binding;

#[derive(Default)]
pub(super) struct Client {
    /// The certificate or key that the stamp of the connection's session speaks of.
    credential: Mutex<Option<Credential>>,
    authority: Mutex<Option<Box<CachedAuthority>>>,
}

/// The hash of what the client is verified against, if it is not the context's. The reference to the store keeps
/// its address from being that of another one.
type CachedAuthority = (Verification, Option<X509Store>, Binding);

impl Client {
    /// The hash of what the client is verified against, made once for as long as it stays the same.
    pub(super) fn authority(
        &self,
        ssl: &SslRef,
        how: &Verification,
        make: impl FnOnce() -> Binding,
    ) -> Binding {
        let mut known = self.authority.lock();
        match &*known {
            Some(known) if known.0 == *how => known.2,
            _ => {
                let made = (*how, ffi::ca_store_of(ssl), make());
                known.insert(Box::new(made)).2
            }
        }
    }

    /// The session has been stamped, while its client had this certificate or key.
    pub(super) fn note_stamped(&self, credential: Option<CredentialRef<'_>>) {
        *self.credential.lock() = credential.map(CredentialRef::to_owned);
    }

    /// Whether the stamp of the connection's session was made for this very certificate or key. It was not
    /// if the client has been asked for another since.
    pub(super) fn is_stamped_for(&self, credential: Option<CredentialRef<'_>>) -> bool {
        match (&*self.credential.lock(), credential) {
            (Some(own), Some(credential)) => own.is(credential),
            (own, credential) => own.is_none() && credential.is_none(),
        }
    }

    /// The handshake is over.
    pub(super) fn forget_authority(&mut self) {
        *self.authority.get_mut() = None;
    }
}
