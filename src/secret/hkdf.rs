//! Keys derived from secrets.

use openssl::error::ErrorStack;
use openssl::md::Md;
use openssl::pkey::Id;
use openssl::pkey_ctx::PkeyCtx;

use crate::ffi::Secret;
use crate::threads::in_openssl;

/// A secret that keys are derived from has at least so many bytes: a shorter one might be guessed.
pub(crate) const MIN_SECRET: usize = 32;
pub(crate) const MAX_SECRET: usize = 1024;

/// HKDF-SHA-256 (RFC 5869): `len` bytes. The info has at most 1 KiB.
pub(crate) fn derive(
    secret: &Secret,
    salt: &[u8],
    info: &[u8],
    len: usize,
) -> Result<Secret, ErrorStack> {
    in_openssl(|| {
        let mut hkdf = PkeyCtx::new_id(Id::HKDF)?;
        hkdf.derive_init()?;
        hkdf.set_hkdf_md(Md::sha256())?;
        hkdf.set_hkdf_key(secret.as_bytes())?;
        hkdf.set_hkdf_salt(salt)?;
        // In one piece: before 3.0.14, 3.1.6, 3.2.2 and 3.3.1 OpenSSL took only the last one added.
        hkdf.add_hkdf_info(info)?;
        let mut output = Secret::zeroed(len);
        hkdf.derive(Some(output.as_mut_bytes()))?;
        Ok(output)
    })
}

/// Secrets of which the first seals and all open; or what is wrong with them.
pub(crate) fn check(secrets: &[Secret]) -> Result<(), String> {
    if secrets.is_empty() {
        return Err("there must be a secret".into());
    }
    let mut lengths = secrets.iter().map(|secret| secret.as_bytes().len());
    match lengths.position(|len| !(MIN_SECRET..=MAX_SECRET).contains(&len)) {
        Some(i) => Err(format!(
            "a secret must have {MIN_SECRET} to {MAX_SECRET} bytes; number {} has {}",
            i + 1,
            secrets[i].as_bytes().len()
        )),
        None if secrets
            .iter()
            .any(|secret| secret.as_bytes().iter().all(|byte| *byte == 0)) =>
        {
            Err("a secret must not be of zeros".into())
        }
        None => Ok(()),
    }
}
