//! Where ticket keys come from: files, secrets, an operator's commands.

#[path = "../common/mod.rs"]
mod common;

mod fifo;
mod fleet;
mod key_files;
mod ticket_keys;
