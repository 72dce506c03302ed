//! Stores, stores over stores, and what is kept decoded beside one.

#[path = "../common/mod.rs"]
mod common;

mod decoded;
mod decorators;
mod room;
mod stores;
mod successors;
mod write_behind;
