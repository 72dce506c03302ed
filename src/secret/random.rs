//! Random bytes, for threads of ours too.

use crate::ffi;
use crate::threads::in_openssl;

/// Fills `bytes`, at most a few hundred, from OpenSSL's random generator. A source of keys may ask for some after
/// whatever it waited for.
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), ()> {
    in_openssl(|| ffi::random(bytes))
}
