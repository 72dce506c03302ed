//! How long sessions live, by a clock that is shifted, and that what has ended is wiped.

#[path = "../common/mod.rs"]
mod common;

mod ends;
mod time;
