//! Keys from secrets, sealing under them, random bytes.

pub(crate) mod hkdf;
mod random;
pub(crate) mod seal;

pub(crate) use random::random;
