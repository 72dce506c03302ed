//! Handshakes that are more than OpenSSL's accept: those with early data, and those on a tokio runtime that wait for the
//! store without holding a thread of it.

#[cfg(feature = "tokio")]
mod accept_async;
#[cfg(feature = "tokio")]
mod client_hello;
mod early;
#[cfg(feature = "tokio")]
mod early_async;
#[cfg(feature = "tokio")]
mod early_handshake;
mod early_stream;
#[cfg(feature = "tokio")]
mod lookups;
#[cfg(feature = "tokio")]
mod may_suspend;
#[cfg(feature = "tokio")]
mod offered;

#[cfg(feature = "tokio")]
pub use accept_async::accept_async;
#[cfg(feature = "tokio")]
pub(crate) use client_hello::install;
#[cfg(feature = "tokio")]
pub use early_async::{AsyncEarlyStream, accept_early_async};
#[cfg(feature = "tokio")]
pub use early_handshake::EarlyHandshake;
pub use early_stream::{EarlyStream, accept_early};
