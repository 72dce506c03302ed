//! What a connection knows of its client, and what it is verified against.

use std::sync::Arc;

use openssl::ssl::SslRef;
use openssl::x509::store::X509Store;
use parking_lot::Mutex;

use crate::ffi::{self, Credential, CredentialRef, Verification};
use crate::session::{Binding, Chain};

#[derive(Default)]
pub(super) struct Client(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// The certificate or key that the stamp of the connection's session speaks of.
    credential: Option<Credential>,
    /// What the client sent beside its certificate, now or when that was verified.
    chain: Option<Arc<Chain>>,
    made: Option<Box<Kept>>,
    authority: Option<Box<CachedAuthority>>,
}

/// The lineage that the connection has begun.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) id: [u8; 16],
    /// Of the full handshake, in seconds since the Unix epoch.
    pub(super) time: u64,
    pub(super) data: Box<[u8]>,
}

/// A lineage as each connection that has begun one keeps it: most have no data.
struct Kept {
    id: [u8; 16],
    rest: Option<Box<(u64, Box<[u8]>)>>,
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
        let mut known = self.0.lock();
        match &known.authority {
            Some(known) if known.0 == *how => known.2,
            _ => {
                let made = (*how, ffi::ca_store_of(ssl), make());
                known.authority.insert(Box::new(made)).2
            }
        }
    }

    /// The session has been stamped, while its client had this certificate or key.
    pub(super) fn note_stamped(&self, credential: Option<CredentialRef<'_>>) {
        self.0.lock().credential = credential.map(CredentialRef::to_owned);
    }

    /// A session is resumed whose client had this certificate or key, and sent this beside it.
    pub(super) fn resumes(
        &mut self,
        credential: Option<CredentialRef<'_>>,
        chain: Option<Arc<Chain>>,
    ) {
        let known = self.0.get_mut();
        known.credential = credential.map(CredentialRef::to_owned);
        known.chain = chain;
    }

    /// Whether the stamp of the connection's session was made for this very certificate or key. It was not
    /// if the client has been asked for another since.
    pub(super) fn is_stamped_for(&self, credential: Option<CredentialRef<'_>>) -> bool {
        match (&self.0.lock().credential, credential) {
            (Some(own), Some(credential)) => own.is(credential),
            (own, credential) => own.is_none() && credential.is_none(),
        }
    }

    /// What came with the client's certificate.
    pub(super) fn chain(&self) -> Option<Arc<Chain>> {
        self.0.lock().chain.clone()
    }

    pub(super) fn set_chain(&self, chain: Option<Arc<Chain>>) {
        self.0.lock().chain = chain;
    }

    /// The lineage that the connection has begun, if it has; `started` is when the connection was.
    pub(super) fn made(&self, started: u64) -> Option<Made> {
        let known = self.0.lock();
        let Kept { id, rest } = known.made.as_deref()?;
        let (time, data) = rest
            .as_deref()
            .cloned()
            .unwrap_or_else(|| (started, Box::default()));
        Some(Made {
            id: *id,
            time,
            data,
        })
    }

    pub(super) fn has_made(&self) -> bool {
        self.0.lock().made.is_some()
    }

    pub(super) fn set_made(&self, Made { id, time, data }: Made, started: u64) {
        let rest = (time != started || !data.is_empty()).then(|| Box::new((time, data)));
        self.0.lock().made = Some(Box::new(Kept { id, rest }));
    }

    /// The handshake is over.
    pub(super) fn forget_authority(&mut self) {
        self.0.get_mut().authority = None;
    }
}
