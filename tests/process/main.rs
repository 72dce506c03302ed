//! A good guest in other people's processes.

#[path = "../common/mod.rs"]
mod common;

mod fork;
mod guests;
mod library_context;
