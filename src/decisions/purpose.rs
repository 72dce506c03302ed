//! What client certificates must be for where they are verified, and the IP address that they must have. The
//! purpose is in no getter of OpenSSL before 3.5, so it is told by what passes.

use std::sync::OnceLock;

use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::sha::sha256;
use openssl::stack::Stack;
use openssl::x509::extension::ExtendedKeyUsage;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{X509, X509Name, X509StoreContext};

use crate::ffi;

/// One certificate for each purpose, and one for all.
const PURPOSES: [&str; 7] = [
    "clientAuth",
    "serverAuth",
    "emailProtection",
    "codeSigning",
    "timeStamping",
    "OCSPSigning",
    "anyExtendedKeyUsage",
];

/// A hash of both, in parameters that demand no other names.
pub(crate) fn hash(mut param: X509VerifyParam) -> [u8; 16] {
    let address = ffi::take_address(&mut param);
    // Where keys for that cannot be had, the purpose is not seen.
    let purpose = fingerprint(param).unwrap_or(0);
    let hash = sha256(&[&[purpose][..], &address.unwrap_or_default()].concat());
    *hash.first_chunk().expect("16 is less than 32")
}

/// A bit for each certificate that these parameters, which demand no names, let pass, all else being right.
fn fingerprint(mut param: X509VerifyParam) -> Result<u8, ErrorStack> {
    param.clear_flags(X509VerifyFlags::all())?;
    param.set_flags(X509VerifyFlags::PARTIAL_CHAIN | X509VerifyFlags::NO_CHECK_TIME)?;
    param.set_depth(1);
    param.set_auth_level(0);
    let mut bits = 0;
    for (bit, certificate) in certificates()?.iter().enumerate() {
        let mut store = X509StoreBuilder::new()?;
        store.add_cert(certificate.clone())?;
        store.set_param(&param)?;
        let (store, chain) = (store.build(), Stack::new()?);
        let mut context = X509StoreContext::new()?;
        let passes = context.init(&store, certificate, &chain, |context| context.verify_cert())?;
        bits |= u8::from(passes) << bit;
    }
    Ok(bits)
}

/// Made once in a process: they certify nothing but themselves.
fn certificates() -> Result<&'static [X509], ErrorStack> {
    static CERTIFICATES: OnceLock<Vec<X509>> = OnceLock::new();
    if let Some(made) = CERTIFICATES.get() {
        return Ok(made);
    }
    let key = PKey::generate_ed25519()?;
    let made: Result<_, _> = PURPOSES
        .iter()
        .map(|name| certificate(name, &key))
        .collect();
    Ok(CERTIFICATES.get_or_init(|| made.unwrap_or_default()))
}

fn certificate(purpose: &str, key: &PKey<Private>) -> Result<X509, ErrorStack> {
    let mut name = X509Name::builder()?;
    name.append_entry_by_text("CN", purpose)?;
    let name = name.build();
    let mut certificate = X509::builder()?;
    certificate.set_version(2)?;
    certificate.set_subject_name(&name)?;
    certificate.set_issuer_name(&name)?;
    certificate.set_pubkey(key)?;
    let epoch = Asn1Time::from_unix(0)?;
    certificate.set_not_before(&epoch)?;
    certificate.set_not_after(&epoch)?;
    let mut usage = ExtendedKeyUsage::new();
    certificate.append_extension(usage.other(purpose).build()?)?;
    certificate.sign(key, MessageDigest::null())?;
    Ok(certificate.build())
}

#[cfg(test)]
mod tests {
    use openssl::x509::X509PurposeId;

    use super::*;

    fn of(purpose: X509PurposeId) -> u8 {
        let mut param = X509VerifyParam::new().unwrap();
        param.set_purpose(purpose).unwrap();
        fingerprint(param).unwrap()
    }

    #[test]
    fn purposes_differ_in_what_passes_and_in_nothing_else() {
        let purposes = [
            X509PurposeId::SSL_CLIENT,
            X509PurposeId::SSL_SERVER,
            X509PurposeId::SMIME_SIGN,
            X509PurposeId::TIMESTAMP_SIGN,
            X509PurposeId::ANY,
        ];
        let bits = purposes.map(of);
        for (n, one) in bits.iter().enumerate() {
            assert!(!bits[..n].contains(one), "{bits:?}");
        }
        assert_eq!(of(X509PurposeId::ANY), 0x7f);

        let mut strict = X509VerifyParam::new().unwrap();
        strict.set_purpose(X509PurposeId::SSL_CLIENT).unwrap();
        strict.set_flags(X509VerifyFlags::CRL_CHECK).unwrap();
        strict.set_depth(0);
        strict.set_auth_level(5);
        strict.set_time(1_000);
        assert_eq!(fingerprint(strict).unwrap(), bits[0]);
    }
}
