//! Handshakes on a tokio runtime that wait for the store without holding a thread of it.

mod accept_async;
mod client_hello;
mod lookups;
mod may_suspend;
mod offered;

pub use accept_async::accept_async;
pub(crate) use client_hello::install;
