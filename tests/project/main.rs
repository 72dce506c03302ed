//! The project itself: its house, its build, what its tests need.

#[path = "../common/mod.rs"]
mod common;

mod build_script;
mod house;
mod programs;
