#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod connection;
mod error;
mod ffi;
mod guard;
mod keys;
mod outcome;
mod resumption;
mod secret;
mod stamp;
mod stateful;
mod stateless;
mod store;

pub use error::Error;
pub use keys::{KeyError, KeySet, KeySource, TicketKey, TicketKeys};
pub use outcome::{Handshake, Handshakes, Outcome, Reason, Source, Stats, StoreStats, TicketStats};
pub use resumption::{Resumption, SslContextBuilderExt, SslRefExt};
pub use store::{MemoryStore, Session, SessionKey, SessionStore, StoreError, Usage};
