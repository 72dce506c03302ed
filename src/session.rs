//! What is resumed: a session's key and record, the stamp in it, and what it is held against. It knows neither stores
//! nor policies.

mod chain;
mod check;
mod codec;
mod demand;
mod error;
mod key;
mod lineage;
mod record;
mod stamp;
#[cfg(test)]
mod tests;

pub(crate) use chain::{Chain, ChainHash};
pub(crate) use check::{Claims, Here, check};
pub(crate) use codec::{chain_in, decode, encode};
pub(crate) use demand::Demand;
pub use error::StoreError;
pub use key::SessionKey;
pub use lineage::{Lineage, ReturningClient};
pub(crate) use record::HEADER;
pub use record::Session;
pub(crate) use stamp::{Binding, ClientIs, MAX_DATA, Stamp, binding, truncated};
