//! Early data (0-RTT): read and answered before the handshake is finished, by each connection that offers it, and
//! accepted once only, whoever sends it again and wherever.

#![cfg(unix)]

#[path = "../common/mod.rs"]
mod common;

mod connection;
mod cut_short;
mod elsewhere;
mod hostile;
mod past_us;
mod policy;
mod replays;
mod s_client;
mod skipped;
mod streams;
mod taken;
