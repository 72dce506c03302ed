//! What threads of ours need of the process that they are in.

#[cfg(unix)]
use std::mem::MaybeUninit;
#[cfg(unix)]
use std::ptr;

use super::declare::*;

/// Has `handler` called when OpenSSL is cleaned up, before anything is freed; returns whether it will be.
/// OpenSSL keeps our code loaded until then.
pub(crate) fn at_openssl_exit(handler: extern "C" fn()) -> bool {
    // SAFETY: OpenSSL keeps the address of a function, which lives as long as our code.
    unsafe { OPENSSL_atexit(handler) == 1 }
}

/// Frees what OpenSSL has of the thread that calls this; should it use OpenSSL again it has it anew.
pub(crate) fn thread_stop() {
    // SAFETY: frees what is the calling thread's alone.
    unsafe { OPENSSL_thread_stop() }
}

/// The signals that the thread blocked before [`block_signals`], which it does again when this is dropped.
#[cfg(unix)]
pub(crate) struct Blocked(Option<libc::sigset_t>);

#[cfg(not(unix))]
pub(crate) struct Blocked(());

/// Blocks all signals in this thread, and in those that it starts meanwhile.
#[cfg(unix)]
pub(crate) fn block_signals() -> Blocked {
    let mut all = MaybeUninit::uninit();
    let mut before = MaybeUninit::uninit();
    // SAFETY: fills the set that it is given.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: reads the set that was just filled, and writes the other.
    let done =
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) == 0 };
    // SAFETY: if that went well it has written this set.
    Blocked(done.then(|| unsafe { before.assume_init() }))
}

#[cfg(not(unix))]
pub(crate) fn block_signals() -> Blocked {
    Blocked(())
}

#[cfg(unix)]
impl Drop for Blocked {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // SAFETY: reads a set that is live.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, ptr::null_mut()) };
        }
    }
}
