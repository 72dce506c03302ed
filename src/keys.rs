//! The keys that seal tickets: one key, the ring of them, and where they come from. They know neither sessions nor
//! policies.

mod derived;
mod dialect;
mod epochs;
mod error;
mod files;
mod key;
mod random;
#[cfg(feature = "redis")]
mod redis_keys;
mod refresher;
mod ring;
mod shared;
mod source;
mod ticket_keys;
#[cfg(feature = "tokio")]
mod unsealed;

pub use dialect::{KeyDialect, KeyFile};
pub use error::KeyError;
pub use key::TicketKey;
#[cfg(feature = "redis")]
pub use redis_keys::RedisKeys;
pub(crate) use ring::Standing;
pub use source::{KeySet, KeySource};
pub use ticket_keys::TicketKeys;
