//! Clients with certificates that come back: whether they are looked at again, where their sessions live, and what is
//! known of them afterwards.

#[path = "../common/mod.rs"]
mod common;

mod admitted;
mod attacks;
mod chains;
mod contexts;
mod hybrid;
mod lineage;
mod many;
mod revoked;
