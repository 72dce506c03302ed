//! Where stateful sessions live, and where it is remembered which ClientHellos were seen: two traits, and what has them.
//! They know neither ticket keys nor policies.

mod breaker;
mod circuit;
#[cfg(test)]
mod faulty;
mod last_error;
mod memory;
mod memory_register;
#[cfg(feature = "redis")]
mod redis_register;
#[cfg(feature = "redis")]
mod redis_store;
mod replay_register;
mod sealed;
mod session_store;
mod shelf;
mod tiered;
mod write_behind;

pub use breaker::CircuitBreaker;
pub use memory::MemoryStore;
pub use memory_register::MemoryRegister;
#[cfg(feature = "redis")]
pub use redis_register::RedisRegister;
#[cfg(feature = "redis")]
pub use redis_store::{FleetStore, RedisStore};
pub use replay_register::{HelloId, Registered, ReplayRegister};
pub use sealed::Sealed;
pub use session_store::{SessionStore, Usage};
pub(crate) use shelf::{Item, Kind, Shelf};
pub use tiered::Tiered;
pub use write_behind::WriteBehind;
