//! HTTP servers, and `openssl s_client`.

use std::net::SocketAddr;
use std::path::Path;

use frameworks::support::Kind;

use crate::{process, resumes};

/// A request after which the server closes.
pub(crate) const LAST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

fn s_client(address: SocketAddr, kind: Kind, session: &Path) -> (String, bool) {
    let version = match kind {
        Kind::Tls13 => "-tls1_3",
        _ => "-tls1_2",
    };
    process::s_client(address, &[version], session, LAST)
}

#[test]
fn threads_resume() {
    resumes(env!("CARGO_BIN_EXE_threads"), s_client);
}

#[test]
fn tokio_openssl_resumes() {
    resumes(env!("CARGO_BIN_EXE_tokio_openssl"), s_client);
}

#[test]
fn hyper_resumes() {
    resumes(env!("CARGO_BIN_EXE_hyper"), s_client);
}

#[test]
fn axum_server_resumes() {
    resumes(env!("CARGO_BIN_EXE_axum_server"), s_client);
}

#[test]
fn actix_web_resumes() {
    resumes(env!("CARGO_BIN_EXE_actix_web"), s_client);
}
