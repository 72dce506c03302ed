//! Opening a ticket before OpenSSL does.

use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::memcmp;
use openssl::pkey::PKey;
use openssl::sign::Signer;

use super::key::TicketKey;
use crate::ffi::Secret;

const NAME: usize = 16;
const IV: usize = 16;
const MAC: usize = 32;

impl TicketKey {
    /// What was sealed in a ticket under this key (RFC 5077, section 4): the DER of a session. `None` if it was not, or
    /// was damaged.
    pub(crate) fn unseal(&self, ticket: &[u8]) -> Option<Secret> {
        let (sealed, mac) = ticket.split_last_chunk::<MAC>()?;
        let (name, rest) = sealed.split_first_chunk::<NAME>()?;
        let (iv, ciphertext) = rest.split_first_chunk::<IV>()?;
        if name != self.name() || !self.mac_is(mac, sealed).ok()? {
            return None;
        }
        self.decrypt(iv, ciphertext).ok()
    }

    fn mac_is(&self, mac: &[u8; MAC], sealed: &[u8]) -> Result<bool, ErrorStack> {
        let key = PKey::hmac(self.hmac())?;
        let made = Signer::new(MessageDigest::sha256(), &key)?.sign_oneshot_to_vec(sealed)?;
        Ok(made.len() == mac.len() && memcmp::eq(&made, mac))
    }

    fn decrypt(&self, iv: &[u8; IV], ciphertext: &[u8]) -> Result<Secret, ErrorStack> {
        let cipher = match self.aes().len() {
            16 => Cipher::aes_128_cbc(),
            _ => Cipher::aes_256_cbc(),
        };
        let mut context = CipherCtx::new()?;
        context.decrypt_init(Some(cipher), Some(self.aes()), Some(iv))?;
        // OpenSSL may write a block more than there is.
        let mut plain = Secret::zeroed(ciphertext.len() + IV);
        let mut len = context.cipher_update(ciphertext, Some(plain.as_mut_bytes()))?;
        len += context.cipher_final(&mut plain.as_mut_bytes()[len..])?;
        Ok(Secret::from(&plain.as_bytes()[..len]))
    }
}
