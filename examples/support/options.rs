//! Command line options that examples have in common.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use openssl::ssl::SslVersion;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Mode {
    Stateful,
    Stateless,
    Hybrid,
    Off,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stateful => "stateful",
            Self::Stateless => "stateless",
            Self::Hybrid => "hybrid",
            Self::Off => "off",
        }
    }
}

pub(crate) fn mode(value: &OsStr) -> Result<Mode, String> {
    [Mode::Stateful, Mode::Stateless, Mode::Hybrid, Mode::Off]
        .into_iter()
        .find(|mode| value == mode.name())
        .ok_or_else(|| format!("--mode must be stateful, stateless, hybrid or off, not {value:?}"))
}

pub(crate) fn listen(value: &OsStr) -> Result<SocketAddr, String> {
    parsed(value).ok_or_else(|| {
        format!("--listen must be an IP address and a port like 127.0.0.1:8443, not {value:?}")
    })
}

pub(crate) fn tls(value: &OsStr) -> Result<SslVersion, String> {
    match value.to_str() {
        Some("1.2") => Ok(SslVersion::TLS1_2),
        Some("1.3") => Ok(SslVersion::TLS1_3),
        _ => Err(format!("--tls must be 1.2 or 1.3, not {value:?}")),
    }
}

/// `--key-epoch`
pub(crate) fn key_epoch(value: &OsStr) -> Result<Duration, String> {
    parsed(value)
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs)
        .ok_or_else(|| {
            format!("--key-epoch must be a whole number of seconds, 1 or more, not {value:?}")
        })
}

/// What is before the first `separator`, and what is after it.
pub(crate) fn split(value: &OsStr, separator: u8) -> (&OsStr, Option<&OsStr>) {
    let bytes = value.as_bytes();
    match bytes.iter().position(|byte| *byte == separator) {
        Some(at) => (
            OsStr::from_bytes(&bytes[..at]),
            Some(OsStr::from_bytes(&bytes[at + 1..])),
        ),
        None => (value, None),
    }
}

pub(crate) fn parsed<T: std::str::FromStr>(value: &OsStr) -> Option<T> {
    value.to_str()?.parse().ok()
}
