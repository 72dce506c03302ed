//! What each mode does, on the wire and in statistics, and what else may be set on a context.

#[path = "../common/mod.rs"]
mod common;

mod clear;
mod close;
mod heals;
mod info;
mod metrics;
mod modes;
mod outcomes;
mod overridden;
mod renegotiation;
mod tickets;
mod tls12_tickets;
mod wire;
