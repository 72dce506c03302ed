//! The policy: a mode, its knobs, and what clones of it share. It knows no connection.

mod builder;
mod chains;
mod client_certificates;
mod counters;
mod decoded;
mod early_data;
mod forgotten;
mod internals;
mod knobs;
mod late_demands;
mod mode;
mod resumption;
mod shared;
mod stats;
mod store_calls;
mod verdicts;

pub(crate) use counters::{Counter, Counters, TicketFate};
pub use knobs::ClientCertificates;
pub(crate) use late_demands::{Demanded, LateDemands, is_met_by};
pub use resumption::Resumption;
pub use stats::{CertificateStats, Handshakes, Stats, StoreStats, TicketStats};
pub(crate) use verdicts::Circumstances;
