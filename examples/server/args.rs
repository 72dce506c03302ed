//! The command line.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use openssl::ssl::SslVersion;
use openssl_resumption::{MemoryStore, Resumption};

pub(crate) const USAGE: &str = "\
Usage: server [OPTION VALUE]...

  --mode MODE         stateful (default), stateless, hybrid or off
  --listen ADDR       IP address and port; default 127.0.0.1:8443, port 0 takes a free one
  --cert FILE         PEM certificate, followed by its chain if it has one; needs --key
  --key FILE          PEM private key of the certificate, not encrypted; needs --cert
                      (without both, a certificate for localhost is minted)
  --client-ca FILE    demand a client certificate issued by a root certificate in this PEM file
  --lifetime SECONDS  how long sessions live, 1 to 604800; default 86400
  --tickets N         tickets that a full TLS 1.3 handshake sends, 0 to 255;
                      default 1 in stateful mode, 2 in stateless and hybrid mode
  --capacity N        sessions that the store of stateful and hybrid mode holds; default 20480
  --tls VERSION       1.2 or 1.3 only; default both
  --help              print this
";

#[derive(Debug)]
pub(crate) enum Command {
    Serve(Box<Args>),
    Help,
}

#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) mode: Mode,
    pub(crate) listen: SocketAddr,
    /// Certificate and key.
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    pub(crate) client_ca: Option<PathBuf>,
    pub(crate) lifetime: Duration,
    pub(crate) tickets: Option<u8>,
    pub(crate) capacity: usize,
    pub(crate) tls: Option<SslVersion>,
}

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

/// Reads the arguments, or says in a sentence what is wrong with which.
pub(crate) fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let mut args = Args {
        mode: Mode::Stateful,
        listen: SocketAddr::from(([127, 0, 0, 1], 8443)),
        identity: None,
        client_ca: None,
        lifetime: Resumption::DEFAULT_LIFETIME,
        tickets: None,
        capacity: MemoryStore::DEFAULT_ENTRIES,
        tls: None,
    };
    let (mut cert, mut key) = (None, None);
    while let Some(option) = words.next() {
        let option = option.to_string_lossy();
        let mut value = || {
            words
                .next()
                .filter(|value| !value.as_encoded_bytes().starts_with(b"--"))
                .ok_or_else(|| format!("{option} needs a value after it"))
        };
        match &*option {
            "--help" | "-h" => return Ok(Command::Help),
            "--mode" => args.mode = mode(&value()?)?,
            "--listen" => args.listen = listen(&value()?)?,
            "--cert" => cert = Some(PathBuf::from(value()?)),
            "--key" => key = Some(PathBuf::from(value()?)),
            "--client-ca" => args.client_ca = Some(value()?.into()),
            "--lifetime" => args.lifetime = lifetime(&value()?)?,
            "--tickets" => args.tickets = Some(tickets(&value()?)?),
            "--capacity" => args.capacity = capacity(&value()?)?,
            "--tls" => args.tls = Some(tls(&value()?)?),
            _ => {
                return Err(format!(
                    "{option:?} is no option; there are --mode, --listen, --cert, --key, \
                     --client-ca, --lifetime, --tickets, --capacity and --tls"
                ));
            }
        }
    }
    args.identity = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(_), None) => return Err("--cert needs --key as well".into()),
        (None, Some(_)) => return Err("--key needs --cert as well".into()),
    };
    Ok(Command::Serve(Box::new(args)))
}

fn mode(value: &OsStr) -> Result<Mode, String> {
    [Mode::Stateful, Mode::Stateless, Mode::Hybrid, Mode::Off]
        .into_iter()
        .find(|mode| value == mode.name())
        .ok_or_else(|| format!("--mode must be stateful, stateless, hybrid or off, not {value:?}"))
}

fn listen(value: &OsStr) -> Result<SocketAddr, String> {
    parsed(value).ok_or_else(|| {
        format!("--listen must be an IP address and a port like 127.0.0.1:8443, not {value:?}")
    })
}

fn lifetime(value: &OsStr) -> Result<Duration, String> {
    let most = Resumption::MAX_LIFETIME.as_secs();
    parsed(value)
        .filter(|seconds| (1..=most).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| {
            format!("--lifetime must be a whole number of seconds from 1 to {most}, not {value:?}")
        })
}

fn tickets(value: &OsStr) -> Result<u8, String> {
    parsed(value)
        .ok_or_else(|| format!("--tickets must be a whole number from 0 to 255, not {value:?}"))
}

fn capacity(value: &OsStr) -> Result<usize, String> {
    parsed(value).ok_or_else(|| {
        format!("--capacity must be a whole number of sessions, 0 or more, not {value:?}")
    })
}

fn tls(value: &OsStr) -> Result<SslVersion, String> {
    match value.to_str() {
        Some("1.2") => Ok(SslVersion::TLS1_2),
        Some("1.3") => Ok(SslVersion::TLS1_3),
        _ => Err(format!("--tls must be 1.2 or 1.3, not {value:?}")),
    }
}

fn parsed<T: std::str::FromStr>(value: &OsStr) -> Option<T> {
    value.to_str()?.parse().ok()
}
