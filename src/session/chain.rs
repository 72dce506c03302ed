//! The certificates between a client's and the CA's, as the client sent them. OpenSSL keeps none in a session.

use std::fmt;

use openssl::sha::sha256;
use openssl::stack::StackRef;
use openssl::x509::{X509, X509Ref, X509VerifyResult};

use crate::ffi;

/// The SHA-256 of the certificates' DER, one after the other.
pub(crate) type ChainHash = [u8; 32];

/// One of more bytes is not kept: no session of a client that sends so much resumes where its chain is needed.
const MAX_LEN: usize = 16 * 1024;

/// How many bytes of memory a byte of a certificate takes, decoded: less than that. These are of CAs that are trusted,
/// or they had not been used.
const PER_BYTE: usize = 16;

/// A chain of certificates, without the client's own.
pub(crate) struct Chain {
    certificates: Vec<X509>,
    der: Box<[u8]>,
    hash: ChainHash,
}

impl Chain {
    /// Of the certificates that a client sent, those that the verification of its own has used: not one that has signed
    /// itself, which is taken from the trust store, if from anywhere. `None` if there are none.
    pub(crate) fn of(sent: &StackRef<X509>, verified: &StackRef<X509>) -> Option<Self> {
        // In the order of the verification, in which each has signed the one before.
        let is_sent = |one: &&X509Ref| sent.iter().any(|other| *other == **one);
        let is_root = |one: &&X509Ref| one.issued(one) == X509VerifyResult::OK;
        let used = verified.iter().skip(1).filter(is_sent);
        let used = used.filter(|one| !is_root(one));
        Self::new(used.map(ToOwned::to_owned).collect())
    }

    fn new(certificates: Vec<X509>) -> Option<Self> {
        let mut der = Vec::new();
        for certificate in &certificates {
            der.extend(certificate.to_der().ok()?);
        }
        let hash = sha256(&der);
        let der = der.into_boxed_slice();
        (!certificates.is_empty()).then_some(Self {
            certificates,
            der,
            hash,
        })
    }

    /// The chain of this hash, if these bytes are it.
    pub(crate) fn from_der(der: &[u8], hash: &ChainHash) -> Option<Self> {
        if der.len() > MAX_LEN || sha256(der) != *hash {
            return None;
        }
        let mut certificates = Vec::new();
        let mut rest = der;
        while !rest.is_empty() {
            let certificate;
            (certificate, rest) = ffi::first_element(rest)?;
            certificates.push(X509::from_der(certificate).ok()?);
        }
        Some(Self {
            certificates,
            der: der.into(),
            hash: *hash,
        })
    }

    /// A client's certificate, and those of its chain if it has one.
    pub(crate) fn with(certificate: &X509Ref, chain: Option<&Self>) -> Vec<X509> {
        let others = chain.map_or(&[][..], Self::certificates);
        [&[certificate.to_owned()], others].concat()
    }

    fn certificates(&self) -> &[X509] {
        &self.certificates
    }

    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }

    pub(crate) fn hash(&self) -> &ChainHash {
        &self.hash
    }

    /// Whether it may be kept for others than the connection that it came with.
    pub(crate) fn is_small(&self) -> bool {
        self.der.len() <= MAX_LEN
    }

    /// The bytes of memory that it is counted as.
    pub(crate) fn size(&self) -> usize {
        self.der.len() * PER_BYTE + self.certificates.len() * 1_024
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({} certificates)", self.certificates.len())
    }
}
