//! What is sealed before it leaves the process.

use std::sync::OnceLock;

use openssl::cipher::{Cipher, CipherRef};
use openssl::cipher_ctx::CipherCtx;
use openssl::error::ErrorStack;
use openssl::memcmp;

use super::hkdf;
use crate::base::get_or_make;
use crate::ffi::Secret;

pub(crate) const SALT: usize = 16;
pub(crate) const NONCE: usize = 12;
const TAG: usize = 16;

/// Salt and nonce: fresh ones for each record, so that no key is ever used for two nonces, however
/// much is sealed.
pub(crate) type Fresh = [u8; SALT + NONCE];

/// Seals under a secret: salt, nonce, ciphertext and tag of AES-256-GCM, under 32 bytes of
/// HKDF-SHA-256 of secret, salt and `info`.
pub(crate) fn seal(
    secret: &Secret,
    info: &[u8],
    additional: &[u8],
    plaintext: &[u8],
    fresh: &Fresh,
) -> Result<Vec<u8>, ErrorStack> {
    let (salt, nonce) = fresh.split_at(SALT);
    let key = hkdf::derive(secret, salt, info, 32)?;
    let mut ciphertext = vec![0; plaintext.len()];
    let tag = encrypt(&key, nonce, additional, plaintext, &mut ciphertext)?;
    Ok([fresh, ciphertext.as_slice(), &tag].concat())
}

/// Opens what was sealed under one of these secrets, for the same use; `None` if none opens it.
pub(crate) fn open(
    secrets: &[Secret],
    info: &[u8],
    additional: &[u8],
    sealed: &[u8],
) -> Result<Option<Secret>, ErrorStack> {
    let parts = || {
        let (salt, rest) = sealed.split_first_chunk::<SALT>()?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE>()?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG>()?;
        Some((salt, nonce, ciphertext, tag))
    };
    let Some((salt, nonce, ciphertext, tag)) = parts() else {
        return Ok(None);
    };
    for secret in secrets {
        let key = hkdf::derive(secret, salt, info, 32)?;
        let mut plaintext = Secret::zeroed(ciphertext.len());
        let mut gcm = CipherCtx::new()?;
        gcm.decrypt_init(Some(cipher()?), Some(key.as_bytes()), Some(nonce))?;
        gcm.cipher_update(ciphertext, Some(plaintext.as_mut_bytes()))?;
        // The tag is made again and compared, rather than given to `EVP_CipherFinal`: when that
        // fails the `openssl` crate empties the thread's error queue, which belongs to others.
        let again = &mut vec![0; ciphertext.len()];
        let expected = encrypt(&key, nonce, additional, plaintext.as_bytes(), again)?;
        if memcmp::eq(&expected, tag) {
            return Ok(Some(plaintext));
        }
    }
    Ok(None)
}

/// Returns the tag.
fn encrypt(
    key: &Secret,
    nonce: &[u8],
    additional: &[u8],
    plaintext: &[u8],
    ciphertext: &mut [u8],
) -> Result<[u8; TAG], ErrorStack> {
    let mut gcm = CipherCtx::new()?;
    gcm.encrypt_init(Some(cipher()?), Some(key.as_bytes()), Some(nonce))?;
    gcm.cipher_update(additional, None)?;
    gcm.cipher_update(plaintext, Some(ciphertext))?;
    gcm.cipher_final(&mut [])?;
    let mut tag = [0; TAG];
    gcm.tag(&mut tag)?;
    Ok(tag)
}

/// Fetched once, as those of tickets are.
fn cipher() -> Result<&'static CipherRef, ErrorStack> {
    static AES_256_GCM: OnceLock<Cipher> = OnceLock::new();
    let cipher = get_or_make(&AES_256_GCM, || Cipher::fetch(None, "AES-256-GCM", None))?;
    Ok(cipher)
}
