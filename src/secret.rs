//! What is made of a `Secret`, which is in `ffi` as that wipes it: keys from secrets, sealing under them, random bytes. It uses `threads` and what is below.

pub(crate) mod hkdf;
mod random;
pub(crate) mod seal;

pub(crate) use random::random;
