//! Where stateful sessions live: the trait, and the stores. They know neither ticket keys nor policies.

mod breaker;
#[cfg(test)]
mod faulty;
mod last_error;
mod memory;
#[cfg(feature = "redis")]
mod redis_store;
mod sealed;
mod session_store;
mod shelf;
mod tiered;
mod write_behind;

pub use breaker::CircuitBreaker;
pub use memory::MemoryStore;
#[cfg(feature = "redis")]
pub use redis_store::{FleetStore, RedisOptions, RedisStore};
pub use sealed::Sealed;
pub use session_store::{SessionStore, Usage};
pub(crate) use shelf::{Item, Kind, Shelf};
pub use tiered::Tiered;
pub use write_behind::WriteBehind;
