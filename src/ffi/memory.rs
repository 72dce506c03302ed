//! Bytes that are wiped, and bytes that are random.

use std::ffi::c_int;

use openssl_sys as sys;

use super::declare::*;

/// Overwrites the bytes in a way that the compiler does not leave out.
pub(crate) fn cleanse(bytes: &mut [u8]) {
    // SAFETY: the slice is writable memory of that length.
    unsafe { OPENSSL_cleanse(bytes.as_mut_ptr().cast(), bytes.len()) }
}

/// Fills `bytes`, at most a few hundred, from OpenSSL's random generator.
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), ()> {
    let len = c_int::try_from(bytes.len()).map_err(drop)?;
    // SAFETY: the slice is writable memory of that length.
    let filled = unsafe { sys::RAND_bytes(bytes.as_mut_ptr(), len) };
    (filled == 1).then_some(()).ok_or(())
}

/// The bytes in use, as the C library's allocator counts them, with its own.
#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
pub(crate) fn allocated() -> usize {
    // SAFETY: reads the counts of the allocator.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}
