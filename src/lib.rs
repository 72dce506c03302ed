#![doc = include_str!("../README.md")]

#[cfg(feature = "tokio")]
mod accept;
mod binding;
mod candidates;
mod connection;
mod context;
mod error;
mod ffi;
mod fits;
mod forgotten;
mod guard;
mod guest;
mod hkdf;
mod keys;
mod late;
mod masters;
#[cfg(feature = "metrics")]
pub mod metrics;
mod outcome;
mod overridden;
mod purpose;
#[cfg(feature = "redis")]
mod redis_line;
mod resumption;
mod seal;
mod secret;
mod shelf;
mod stamp;
mod stateful;
mod stateless;
mod stats;
mod store;
mod timer;

#[cfg(feature = "tokio")]
pub use accept::accept_async;
pub use context::{SslContextBuilderExt, SslRefExt};
pub use error::Error;
#[cfg(feature = "redis")]
pub use keys::RedisKeys;
pub use keys::{KeyDialect, KeyError, KeyFile, KeySet, KeySource, TicketKey, TicketKeys};
pub use outcome::{Handshake, Outcome, Reason, Source};
pub use resumption::{ClientCertificates, Resumption};
pub use stats::{Handshakes, Stats, StoreStats, TicketStats};
pub use store::{
    CircuitBreaker, MemoryStore, Sealed, Session, SessionKey, SessionStore, StoreError, Tiered,
    Usage, WriteBehind,
};
#[cfg(feature = "redis")]
pub use store::{FleetStore, RedisOptions, RedisStore};

#[doc = include_str!("../GUIDE.md")]
pub mod guide {}

#[doc = include_str!("../SECURITY.md")]
pub mod security {}
