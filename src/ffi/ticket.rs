//! Tickets between OpenSSL and who decides about them: sealed, opened, and shown.

use std::marker::PhantomData;
use std::sync::OnceLock;

use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtxRef;
use openssl::error::ErrorStack;
use openssl_sys as sys;

use super::declare::*;
use super::memory::random;
use super::session_mut::SessionMut;
use crate::base::get_or_make;

/// Fetched once: `EVP_CIPHER_fetch` per ticket contends on locks (openssl#23388).
static AES_256_CBC: OnceLock<Cipher> = OnceLock::new();

/// For keys from files of 48 bytes.
static AES_128_CBC: OnceLock<Cipher> = OnceLock::new();

/// Makes the ciphers, before there is a ticket.
pub(super) fn prepare() -> Result<(), ErrorStack> {
    get_or_make(&AES_256_CBC, || Cipher::fetch(None, "AES-256-CBC", None))?;
    get_or_make(&AES_128_CBC, || Cipher::fetch(None, "AES-128-CBC", None))?;
    Ok(())
}

/// What OpenSSL could make of a ticket, before it asks whether to use it.
pub(crate) enum Ticket<'a> {
    /// The client can handle tickets but has none.
    Empty,
    /// Too short, sealed under a key we did not give, its MAC is wrong, or no session is inside.
    Unreadable,
    Opened(SessionMut<'a>),
}

/// What to do with a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Full handshake and a new ticket.
    Decline,
    /// Resume, and leave the client its ticket.
    Use,
    /// Resume, and give the client a new ticket.
    Renew,
}

/// A ticket that is to be sealed or opened, in the ticket key callback.
pub(crate) struct TicketContext<'a> {
    name: &'a mut [u8; 16],
    iv: &'a mut [u8; 16],
    cipher: &'a mut CipherCtxRef,
    mac: *mut sys::EVP_MAC_CTX,
    live: PhantomData<&'a mut sys::EVP_MAC_CTX>,
}

impl<'a> TicketContext<'a> {
    /// # Safety
    ///
    /// `mac` is the HMAC context that OpenSSL passed, live for `'a` and nobody else's.
    pub(super) unsafe fn of_callback(
        name: &'a mut [u8; 16],
        iv: &'a mut [u8; 16],
        cipher: &'a mut CipherCtxRef,
        mac: *mut sys::EVP_MAC_CTX,
    ) -> Self {
        Self {
            name,
            iv,
            cipher,
            mac,
            live: PhantomData,
        }
    }

    /// The name of the key that the ticket is sealed under, and the initialisation vector.
    pub(crate) fn name_and_iv(&self) -> (&[u8; 16], &[u8; 16]) {
        (self.name, self.iv)
    }

    /// Has the ticket sealed under this key. `None` if OpenSSL cannot.
    pub(crate) fn seal(&mut self, name: &[u8; 16], aes: &[u8], hmac: &[u8]) -> Option<()> {
        *self.name = *name;
        random(self.iv).ok()?;
        let cipher = cbc(aes)?;
        let done = self
            .cipher
            .encrypt_init(Some(cipher), Some(aes), Some(self.iv));
        done.ok()?;
        self.init_mac(hmac)
    }

    /// Has the ticket opened under this key. `None` if OpenSSL cannot.
    pub(crate) fn open(&mut self, aes: &[u8], hmac: &[u8]) -> Option<()> {
        let cipher = cbc(aes)?;
        let done = self
            .cipher
            .decrypt_init(Some(cipher), Some(aes), Some(self.iv));
        done.ok()?;
        self.init_mac(hmac)
    }

    fn init_mac(&mut self, hmac: &[u8]) -> Option<()> {
        // SAFETY: both strings are static; OpenSSL only reads the second, and takes its length from
        // its terminator.
        let digest = unsafe {
            OSSL_PARAM_construct_utf8_string(c"digest".as_ptr(), c"SHA256".as_ptr().cast_mut(), 0)
        };
        // SAFETY: makes a value.
        let end = unsafe { sys::OSSL_PARAM_construct_end() };
        let params = [digest, end];
        // SAFETY: the context is live, as `of_callback` was told; the key and the terminated array of parameters
        // outlive the call.
        let done =
            unsafe { sys::EVP_MAC_init(self.mac, hmac.as_ptr(), hmac.len(), params.as_ptr()) };
        (done == 1).then_some(())
    }
}

fn cbc(key: &[u8]) -> Option<&'static Cipher> {
    match key.len() {
        16 => AES_128_CBC.get(),
        _ => AES_256_CBC.get(),
    }
}
