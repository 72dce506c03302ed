//! Threads of ours: good guests in a process that is somebody else's, and the one that takes out what has ended. They
//! use `base` and `ffi`.

mod guest;
mod timer;

#[cfg(feature = "redis")]
pub(crate) use guest::{adopt, come_in, go_out, spawn_on_stack};
pub(crate) use guest::{in_openssl, spawn};
pub(crate) use timer::{Perishable, Watched, watch};
