//! One connection, from its first byte: what its context and it carry, and the answers to all that OpenSSL's callbacks
//! ask. It uses all that is below, and is used by what applies a policy and by `accept`.

mod admission;
mod applied;
mod candidates;
mod client;
mod connection;
mod demand;
mod early_data;
mod fits;
mod handshake;
mod lineage;
mod look;
mod not_kept;
mod offer;
mod overridden;
mod own_sessions;
mod purpose;
mod second_look;
mod server_name;
mod stamping;
mod stateful;
mod stateless;
mod ticket_kind;
mod tickets;
mod verified_against;
mod withheld_tickets;

pub(crate) use applied::Applied;
#[cfg(feature = "tokio")]
pub(crate) use candidates::{Answer, Identity, MAX_CANDIDATES};
pub(crate) use connection::Connection;
pub(crate) use handshake::Decider;
pub(crate) use lineage::lineage;
#[cfg(feature = "tokio")]
pub(crate) use overridden::Setting;
