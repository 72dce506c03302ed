//! Others read our tickets, and we read theirs: nginx and HAProxy with the same key files, and
//! Python by what the documentation says.

#![cfg(unix)]

#[path = "../common/mod.rs"]
mod common;

mod derived;
mod peer;
mod python;
mod servers;
