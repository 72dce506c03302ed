//! The certificates of servers, and of those who ask them.

use std::path::PathBuf;

use openssl::asn1::{Asn1Time, Asn1TimeRef};

use crate::common::process::Scratch;
use crate::common::{Identity, mint, mint_until};

pub(super) struct Tls {
    authority: Identity,
    /// What all believe in.
    pub(super) ca: PathBuf,
    /// What servers show, to clients and to each other.
    pub(super) server: Pair,
    /// What those show who ask, the fixtures too.
    pub(super) client: Pair,
    /// Whether servers want to see that.
    pub(super) asks_clients: bool,
}

/// A certificate and its key, in files.
#[derive(Clone)]
pub(super) struct Pair {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

impl Tls {
    pub(super) fn new(scratch: &Scratch, asks_clients: bool) -> Self {
        let authority = mint("authority", None).unwrap();
        let ca = scratch.write("ca.pem", &authority.cert.to_pem().unwrap());
        let pair = |name: &str| Pair {
            cert: scratch.0.join(format!("{name}-cert.pem")),
            key: scratch.0.join(format!("{name}-key.pem")),
        };
        let tls = Self {
            authority,
            ca: ca.into(),
            server: pair("server"),
            client: pair("client"),
            asks_clients,
        };
        let in_a_month = Asn1Time::days_from_now(30).unwrap();
        tls.mint(&tls.server, &in_a_month);
        tls.mint(&tls.client, &in_a_month);
        tls
    }

    /// Writes another certificate, and another key.
    pub(super) fn mint(&self, pair: &Pair, until: &Asn1TimeRef) {
        let identity = mint_until("localhost", Some(&self.authority), until).unwrap();
        let key = identity.key.private_key_to_pem_pkcs8().unwrap();
        std::fs::write(&pair.cert, identity.cert.to_pem().unwrap()).unwrap();
        std::fs::write(&pair.key, key).unwrap();
    }
}
