//! What threads of ours need of the process that they are in.

#[cfg(unix)]
use std::ffi::c_int;
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
pub(crate) struct Blocked(Option<SignalSet>);

#[cfg(not(unix))]
pub(crate) struct Blocked(());

/// A `sigset_t` of any system: the largest have 128 bytes.
#[cfg(unix)]
#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct SignalSet([u8; 128]);

#[cfg(unix)]
const SIG_SETMASK: c_int = if cfg!(all(
    any(target_os = "linux", target_os = "android"),
    not(any(target_arch = "mips", target_arch = "mips64")),
)) {
    2
} else {
    3
};

#[cfg(unix)]
unsafe extern "C" {
    fn sigfillset(set: *mut SignalSet) -> c_int;
    fn pthread_sigmask(how: c_int, set: *const SignalSet, before: *mut SignalSet) -> c_int;
    fn pthread_atfork(
        before: Option<extern "C" fn()>,
        after: Option<extern "C" fn()>,
        in_child: Option<extern "C" fn()>,
    ) -> c_int;
}

/// Has these called around each fork, by the thread that forks: before it, and after it in either process.
pub(crate) fn at_fork(before: extern "C" fn(), after: extern "C" fn(), in_child: extern "C" fn()) {
    // Without memory for it none is called, which is as it would be without them.
    // SAFETY: what is registered are functions, which are there for as long as our code.
    #[cfg(unix)]
    let _ = unsafe { pthread_atfork(Some(before), Some(after), Some(in_child)) };
    #[cfg(not(unix))]
    let _ = (before, after, in_child);
}

/// Blocks all signals in this thread, and in those that it starts meanwhile.
#[cfg(unix)]
pub(crate) fn block_signals() -> Blocked {
    let (mut all, mut before) = (SignalSet([0; 128]), SignalSet([0; 128]));
    // SAFETY: fills the set that it is given, which is no smaller than it takes it for.
    unsafe { sigfillset(&raw mut all) };
    // SAFETY: reads one set, and writes the other.
    let done = unsafe { pthread_sigmask(SIG_SETMASK, &raw const all, &raw mut before) == 0 };
    Blocked(done.then_some(before))
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
            unsafe { pthread_sigmask(SIG_SETMASK, before, ptr::null_mut()) };
        }
    }
}
