//! Certificates, and servers and clients with them.

use std::ffi::{c_int, c_long};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::UNIX_EPOCH;

use foreign_types::ForeignTypeRef;
use openssl::asn1::{Asn1Object, Asn1OctetString, Asn1Time, Asn1TimeRef};
use openssl::hash::MessageDigest;
use openssl::ssl::{SslAcceptorBuilder, SslContext, SslVerifyMode};
use openssl::x509::extension::BasicConstraints;
use openssl::x509::store::X509StoreRef;
use openssl::x509::verify::X509VerifyFlags;
use openssl::x509::{
    X509, X509Crl, X509CrlBuilder, X509CrlRef, X509Extension, X509Ref, X509RevokedBuilder,
};
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
    remint(mint(name, Some(issuer)).unwrap(), issuer, [comment(bytes)])
}

fn comment(bytes: usize) -> X509Extension {
    let comment = Asn1Object::from_str("2.16.840.1.113730.1.13").unwrap();
    let content = Asn1OctetString::new_from_bytes(&vec![b'x'; bytes]).unwrap();
    X509Extension::new_from_der(&comment, false, &content).unwrap()
}

/// Gives a certificate these extensions and no others.
fn remint(
    mut identity: Identity,
    issuer: &Identity,
    extensions: impl IntoIterator<Item = X509Extension>,
) -> Identity {
    let mut cert = X509::builder().unwrap();
    cert.set_version(2).unwrap();
    cert.set_serial_number(identity.cert.serial_number())
        .unwrap();
    cert.set_not_before(identity.cert.not_before()).unwrap();
    cert.set_not_after(identity.cert.not_after()).unwrap();
    cert.set_subject_name(identity.cert.subject_name()).unwrap();
    cert.set_issuer_name(identity.cert.issuer_name()).unwrap();
    cert.set_pubkey(&identity.key).unwrap();
    for extension in extensions {
        cert.append_extension(extension).unwrap();
    }
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

/// A CA that another CA has signed.
pub fn mint_intermediate(name: &str, issuer: &Identity) -> Identity {
    mint_intermediate_with_padding(name, issuer, 0)
}

/// The same, with a comment of this many bytes in its certificate.
pub fn mint_intermediate_with_padding(name: &str, issuer: &Identity, bytes: usize) -> Identity {
    let ca = BasicConstraints::new().critical().ca().build().unwrap();
    let comment = (bytes > 0).then(|| comment(bytes));
    let extensions = [ca].into_iter().chain(comment);
    remint(mint(name, Some(issuer)).unwrap(), issuer, extensions)
}

/// A chain of so many CAs, each signed by the one after it, the last by `root`.
pub fn mint_chain(root: &Identity, len: usize) -> Vec<Identity> {
    let mut chain: Vec<Identity> = Vec::new();
    for index in (0..len).rev() {
        let issuer = chain.last().unwrap_or(root);
        chain.push(mint_intermediate(&format!("between {index}"), issuer));
    }
    chain.reverse();
    chain
}

/// A revocation list of this CA for a month, newer than those before: of several OpenSSL goes by the newest.
pub fn mint_crl(ca: &Identity, revoked: &[&Identity]) -> X509Crl {
    mint_crl_until(ca, revoked, &Asn1Time::days_from_now(30).unwrap())
}

/// The same, with its end.
pub fn mint_crl_until(ca: &Identity, revoked: &[&Identity], ends: &Asn1TimeRef) -> X509Crl {
    static MINTED: AtomicU64 = AtomicU64::new(0);
    let yesterday = UNIX_EPOCH.elapsed().unwrap().as_secs() - 86_400;
    let minted = yesterday + MINTED.fetch_add(1, Relaxed);
    let minted = Asn1Time::from_unix(minted.try_into().unwrap()).unwrap();
    let mut crl = X509CrlBuilder::new().unwrap();
    crl.set_issuer_name(ca.cert.subject_name()).unwrap();
    crl.set_last_update(&minted).unwrap();
    crl.set_next_update(ends).unwrap();
    for one in revoked {
        let mut entry = X509RevokedBuilder::new().unwrap();
        entry.set_serial_number(one.cert.serial_number()).unwrap();
        entry.set_revocation_date(&minted).unwrap();
        crl.add_revoked(entry.build()).unwrap();
    }
    for (id, der) in [("2.5.29.35", &[0x30, 0][..]), ("2.5.29.20", &[2, 1, 1])] {
        let id = Asn1Object::from_str(id).unwrap();
        let der = Asn1OctetString::new_from_bytes(der).unwrap();
        let extension = X509Extension::new_from_der(&id, false, &der).unwrap();
        crl.append_extension(extension).unwrap();
    }
    crl.sort().unwrap();
    crl.sign(&ca.key, MessageDigest::sha256()).unwrap();
    // One that was not decoded equals all others to OpenSSL, and a store takes one of them.
    let crl = X509Crl::from_der(&crl.build().unwrap().to_der().unwrap()).unwrap();
    assert!(crl.verify(&ca.key).unwrap());
    crl
}

/// Adds a revocation list to a store, which may be in use.
#[allow(
    unsafe_code,
    reason = "the `openssl` crate takes lists from files only"
)]
pub fn add_crl(store: &impl ForeignTypeRef<CType = openssl_sys::X509_STORE>, crl: &X509CrlRef) {
    unsafe extern "C" {
        fn X509_STORE_add_crl(
            store: *mut openssl_sys::X509_STORE,
            crl: *mut openssl_sys::X509_CRL,
        ) -> c_int;
    }
    // SAFETY: the store locks itself, and takes a reference of its own.
    let added = unsafe { X509_STORE_add_crl(store.as_ptr(), crl.as_ptr()) };
    assert_eq!(added, 1);
}

/// Adds a CA to a store that is in use.
#[allow(unsafe_code, reason = "the `openssl` crate does so before only")]
pub fn add_ca(store: &X509StoreRef, ca: &X509Ref) {
    // SAFETY: as for lists.
    let added = unsafe { openssl_sys::X509_STORE_add_cert(store.as_ptr(), ca.as_ptr()) };
    assert_eq!(added, 1);
}

/// Makes a server demand certificates signed by `ca` that are not revoked, by this list to begin with.
pub fn demand_unrevoked(builder: &mut SslAcceptorBuilder, ca: &Identity, crl: &X509CrlRef) {
    demand_certificates(builder, ca);
    let store = builder.cert_store_mut();
    store.set_flags(X509VerifyFlags::CRL_CHECK).unwrap();
    add_crl(builder.cert_store(), crl);
}

/// A client with a certificate and others, which it sends in this order.
pub fn client_with_chain(kind: Kind, me: &Identity, others: &[&Identity]) -> Client {
    Client::with(kind, |context| {
        context.set_certificate(&me.cert)?;
        context.set_private_key(&me.key)?;
        let mut others = others.iter();
        others.try_for_each(|other| context.add_extra_chain_cert(other.cert.clone()))
    })
    .unwrap()
}

/// Has a server look up every certificate of a chain in the revocation lists, not the client's alone.
pub fn check_whole_chains(builder: &mut SslAcceptorBuilder) {
    let flags = X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL;
    builder.cert_store_mut().set_flags(flags).unwrap();
}

/// Has a server take so many bytes of certificates from a client.
#[allow(unsafe_code, reason = "the `openssl` crate does not offer it")]
pub fn allow_long_chains(builder: &mut SslAcceptorBuilder, bytes: c_long) {
    const SSL_CTRL_SET_MAX_CERT_LIST: c_int = 51;
    // SAFETY: sets a number of a live context.
    unsafe {
        openssl_sys::SSL_CTX_ctrl(
            builder.as_ptr(),
            SSL_CTRL_SET_MAX_CERT_LIST,
            bytes,
            ptr::null_mut(),
        )
    };
}
