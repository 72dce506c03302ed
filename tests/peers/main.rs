//! Other people's clients and servers: OpenSSL's own, Python, a browser, nginx, HAProxy.

#[path = "../common/mod.rs"]
mod common;

mod browser;
mod clients;
mod derived;
mod keeps;
mod peer;
mod python;
mod servers;
mod status_page;
