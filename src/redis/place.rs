//! One server, and what it is to be told first.

use std::path::PathBuf;

use redis::{ConnectionAddr, ConnectionInfo};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    Tcp(String, u16),
    Unix(PathBuf),
}

/// Not to be shown.
#[derive(Clone, Default)]
pub(super) struct Login {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

/// Whether certificates are not verified.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Insecure(pub(super) bool);

impl Place {
    pub(super) fn of(info: &ConnectionInfo) -> Result<Self, String> {
        match info.addr() {
            ConnectionAddr::Tcp(host, port) => Ok(Self::Tcp(host.clone(), *port)),
            ConnectionAddr::Unix(path) => Ok(Self::Unix(path.clone())),
            _ => Err("not a host and not a path".into()),
        }
    }

    pub(super) fn shown(&self) -> String {
        match self {
            Self::Tcp(host, port) => format!("{host}:{port}"),
            Self::Unix(path) => path.display().to_string(),
        }
    }
}
