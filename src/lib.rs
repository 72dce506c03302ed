#![doc = include_str!("../README.md")]

mod accept;
mod apply;
mod base;
mod decisions;
mod error;
mod ffi;
#[cfg(feature = "http")]
pub mod http;
mod keys;
#[cfg(feature = "metrics")]
pub mod metrics;
mod outcome;
mod policy;
#[cfg(feature = "redis")]
mod redis;
mod secret;
mod session;
mod store;
mod threads;

#[cfg(feature = "redis")]
pub use crate::redis::RedisOptions;
#[cfg(feature = "tokio")]
pub use accept::{AsyncEarlyStream, EarlyHandshake, accept_async, accept_early_async};
pub use accept::{EarlyStream, accept_early};
pub use apply::{SslContextBuilderExt, SslRefExt};
pub use error::Error;
#[cfg(feature = "redis")]
pub use keys::RedisKeys;
pub use keys::{KeyDialect, KeyError, KeyFile, KeySet, KeySource, TicketKey, TicketKeys};
pub use outcome::{EarlyData, Handshake, Outcome, Reason, Source};
pub use policy::{
    CertificateStats, ClientCertificates, Handshakes, Resumption, Stats, StoreStats, TicketStats,
};
pub use session::{Lineage, ReturningClient, Session, SessionKey, StoreError};
pub use store::{
    CircuitBreaker, HelloId, MemoryRegister, MemoryStore, Registered, ReplayRegister, Sealed,
    SessionStore, Tiered, Usage, WriteBehind,
};
#[cfg(feature = "redis")]
pub use store::{FleetStore, RedisRegister, RedisStore};

#[doc = include_str!("../GUIDE.md")]
pub mod guide {}

#[doc = include_str!("../SECURITY.md")]
pub mod security {}
