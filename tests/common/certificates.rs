//! Certificates, and servers and clients with them.

use std::sync::OnceLock;

use openssl::asn1::{Asn1Object, Asn1OctetString};
use openssl::hash::MessageDigest;
use openssl::ssl::{SslAcceptorBuilder, SslContext, SslVerifyMode};
use openssl::x509::{X509, X509Extension};
use openssl_resumption::Resumption;

use super::{Client, Identity, Kind, context_with, mint};

/// What a server that demands a certificate sets.
pub const DEMAND: SslVerifyMode = SslVerifyMode::PEER.union(SslVerifyMode::FAIL_IF_NO_PEER_CERT);

/// The server's certificate, minted once a process.
pub fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| mint("localhost", None).unwrap())
}

/// Makes a server demand certificates signed by `ca`.
pub fn demand_certificates(builder: &mut SslAcceptorBuilder, ca: &Identity) {
    builder.cert_store_mut().add_cert(ca.cert.clone()).unwrap();
    builder.set_verify(DEMAND);
}

/// A server that demands certificates signed by one of these.
pub fn demanding(policy: &Resumption, cas: &[&Identity]) -> SslContext {
    context_with(policy, |builder| {
        for ca in cas {
            demand_certificates(builder, ca);
        }
    })
}

/// A CA for clients, and a certificate that it has signed.
pub fn ca_and_client() -> (Identity, Identity) {
    let ca = mint("clients", None).unwrap();
    let me = mint("me", Some(&ca)).unwrap();
    (ca, me)
}

/// A certificate with a comment of this many bytes in it.
pub fn mint_with_padding(name: &str, issuer: &Identity, bytes: usize) -> Identity {
    let mut identity = mint(name, Some(issuer)).unwrap();
    let mut cert = X509::builder().unwrap();
    cert.set_version(2).unwrap();
    cert.set_serial_number(identity.cert.serial_number())
        .unwrap();
    cert.set_not_before(identity.cert.not_before()).unwrap();
    cert.set_not_after(identity.cert.not_after()).unwrap();
    cert.set_subject_name(identity.cert.subject_name()).unwrap();
    cert.set_issuer_name(identity.cert.issuer_name()).unwrap();
    cert.set_pubkey(&identity.key).unwrap();
    let comment = Asn1Object::from_str("2.16.840.1.113730.1.13").unwrap();
    let content = Asn1OctetString::new_from_bytes(&vec![b'x'; bytes]).unwrap();
    let comment = X509Extension::new_from_der(&comment, false, &content).unwrap();
    cert.append_extension(comment).unwrap();
    cert.sign(&issuer.key, MessageDigest::sha256()).unwrap();
    identity.cert = cert.build();
    identity
}

/// A client with a certificate.
pub fn client_as(kind: Kind, me: &Identity) -> Client {
    Client::with(kind, |context| {
        context.set_certificate(&me.cert)?;
        context.set_private_key(&me.key)
    })
    .unwrap()
}
