//! What happens to our threads when the process forks.

#[cfg(unix)]
unsafe extern "C" {
    fn pthread_atfork(
        before: Option<extern "C" fn()>,
        after: Option<extern "C" fn()>,
        in_child: Option<extern "C" fn()>,
    ) -> std::ffi::c_int;
}

/// Has these called around each fork, by the thread that forks: before it, and after it in either process.
pub(crate) fn at_fork(before: extern "C" fn(), after: extern "C" fn(), in_child: extern "C" fn()) {
    // Without memory for it nothing is called, and a fork is as exact as others.
    // SAFETY: what is registered are functions, which are there for as long as the process.
    #[cfg(unix)]
    let _ = unsafe { pthread_atfork(Some(before), Some(after), Some(in_child)) };
    #[cfg(not(unix))]
    let _ = (before, after, in_child);
}
