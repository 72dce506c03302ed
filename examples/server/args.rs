//! The command line.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use openssl::ssl::SslVersion;
use openssl_resumption::{MemoryStore, Resumption};

use crate::keys::KeyArgs;
use crate::options::{Mode, listen, mode, parsed, split, tls};
use crate::redis::RedisArgs;

pub(crate) const USAGE: &str = "\
Usage: server [OPTION VALUE | OPTION=VALUE]...

  --mode MODE         stateful (default), stateless, hybrid or off
  --listen ADDR       IP address and port; default 127.0.0.1:8443, port 0 takes a free one
  --cert FILE         PEM certificate, followed by its chain if it has one; needs --key
  --key FILE          PEM private key of the certificate, not encrypted; needs --cert
                      (without both, a certificate for localhost is minted)
  --client-ca FILE    demand a client certificate issued by a root certificate in this PEM file
  --vhost NAME[,FILE] a virtual host for clients that ask for NAME (SNI, in any case), with a
                      minted certificate; with FILE, a --client-ca of its own, else without;
                      may be given more than once
  --switch WHERE      where connections are switched to virtual hosts: hello (default), the
                      ClientHello callback, or servername, the server name callback
  --lifetime SECONDS  how long sessions live, 1 to 604800; default 86400
  --tickets N         tickets that a full TLS 1.3 handshake sends, 0 to 255;
                      default 1 in stateful mode, 2 in stateless and hybrid mode
  --capacity N        sessions that the store of stateful and hybrid mode holds; default 20480
  --tls VERSION       1.2 or 1.3 only; default both
  --keys DIALECT:FILE ticket keys in a file like that of another server: nginx, haproxy, apache,
                      envoy, nghttpx, dnsdist or openssl; read again when it changes; may be
                      given more than once, the first seals
  --keys-secret FILE  ticket keys derived from what is in this file, 32 to 1024 bytes; the same
                      on all hosts; may be given more than once, the first seals
  --key-epoch SECONDS how long a random or derived ticket key seals; default 43200
                      (without --keys and --keys-secret, keys are random)
  --redis URL         sessions in a Redis that servers share (stateful and hybrid), like
                      redis://127.0.0.1:6379; needs --redis-secret and the feature redis
  --redis-secret FILE what they are sealed under: what is in this file, 32 to 1024 bytes; may be
                      given more than once, the first seals
  --redis-keys        random ticket keys in that Redis too (stateless and hybrid)
  --redis-deadline MS how long that Redis has to answer a handshake, and to be connected to;
                      default 50 milliseconds
  --redis-ca FILE     the CAs, in PEM, that are believed about that Redis, in place of the system's
  --redis-client-certificate FILE,FILE
                      the certificate and the key, in PEM, that are shown to that Redis
  --single-use        TLS 1.3 sessions resume once (stateful)
  --forget-on SIGHUP  end all sessions whenever this signal comes; without, it ends the server
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
    pub(crate) vhosts: Vec<VhostArgs>,
    pub(crate) switch: Switch,
    pub(crate) lifetime: Duration,
    pub(crate) tickets: Option<u8>,
    pub(crate) capacity: usize,
    pub(crate) tls: Option<SslVersion>,
    pub(crate) keys: KeyArgs,
    pub(crate) redis: RedisArgs,
    pub(crate) single_use: bool,
    pub(crate) forget_on_hangup: bool,
}

#[derive(Debug)]
pub(crate) struct VhostArgs {
    pub(crate) name: String,
    pub(crate) client_ca: Option<PathBuf>,
}

/// The callback that switches connections to virtual hosts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Switch {
    ServerName,
    Hello,
}

/// Reads the arguments, or says in a sentence what is wrong with which.
pub(crate) fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let mut args = Args {
        mode: Mode::Stateful,
        listen: SocketAddr::from(([127, 0, 0, 1], 8443)),
        identity: None,
        client_ca: None,
        vhosts: Vec::new(),
        switch: Switch::Hello,
        lifetime: Resumption::DEFAULT_LIFETIME,
        tickets: None,
        capacity: MemoryStore::DEFAULT_ENTRIES,
        tls: None,
        keys: KeyArgs::default(),
        redis: RedisArgs::default(),
        single_use: false,
        forget_on_hangup: false,
    };
    let (mut cert, mut key) = (None, None);
    while let Some(word) = words.next() {
        let (option, attached) = match split(&word, b'=') {
            (option, Some(value)) if option.as_bytes().starts_with(b"--") => (option, Some(value)),
            _ => (&*word, None),
        };
        let option = option.to_string_lossy();
        let mut value = || {
            attached
                .map(OsStr::to_owned)
                .or_else(|| {
                    words
                        .next()
                        .filter(|next| !next.as_bytes().starts_with(b"--"))
                })
                .filter(|value| !value.is_empty())
                .ok_or_else(|| format!("{option} needs a value"))
        };
        match &*option {
            "--help" | "-h" => return Ok(Command::Help),
            "--mode" => args.mode = mode(&value()?)?,
            "--listen" => args.listen = listen(&value()?)?,
            "--cert" => cert = Some(PathBuf::from(value()?)),
            "--key" => key = Some(PathBuf::from(value()?)),
            "--client-ca" => args.client_ca = Some(value()?.into()),
            "--vhost" => {
                let vhost = vhost(&value()?, &args.vhosts)?;
                args.vhosts.push(vhost);
            }
            "--switch" => args.switch = switch(&value()?)?,
            "--lifetime" => args.lifetime = lifetime(&value()?)?,
            "--tickets" => args.tickets = Some(tickets(&value()?)?),
            "--capacity" => args.capacity = capacity(&value()?)?,
            "--tls" => args.tls = Some(tls(&value()?)?),
            "--keys" => args.keys.add_file(&value()?)?,
            "--keys-secret" => args.keys.add_secret(&value()?),
            "--key-epoch" => args.keys.set_epoch(&value()?)?,
            "--redis" => args.redis.set_url(&value()?)?,
            "--redis-secret" => args.redis.secrets.push(value()?.into()),
            "--redis-keys" => args.redis.keys = true,
            "--redis-deadline" => args.redis.set_deadline(&value()?)?,
            "--redis-ca" => args.redis.ca = Some(value()?.into()),
            "--redis-client-certificate" => args.redis.set_client(&value()?)?,
            "--single-use" => args.single_use = true,
            "--forget-on" => args.forget_on_hangup = is_hangup(&value()?)?,
            _ => {
                return Err(format!(
                    "{option:?} is no option; there are --mode, --listen, --cert, --key, \
                     --client-ca, --vhost, --switch, --lifetime, --tickets, --capacity, --tls, \
                     --keys, --keys-secret, --key-epoch, --redis, --redis-secret, \
                     --redis-keys, --redis-deadline, --redis-ca, --redis-client-certificate, \
                     --single-use and --forget-on"
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
    let has_tickets = matches!(args.mode, Mode::Stateless | Mode::Hybrid);
    let has_store = matches!(args.mode, Mode::Stateful | Mode::Hybrid);
    args.keys.check(has_tickets)?;
    args.redis.check(has_store, has_tickets)?;
    Ok(Command::Serve(Box::new(args)))
}

fn vhost(value: &OsStr, others: &[VhostArgs]) -> Result<VhostArgs, String> {
    let (name, file) = split(value, b',');
    let name = name
        .to_str()
        .filter(|name| !name.is_empty() && file.is_none_or(|file| !file.is_empty()))
        .ok_or_else(|| format!("--vhost must be a name or NAME,FILE, not {value:?}"))?;
    if others
        .iter()
        .any(|other| other.name.eq_ignore_ascii_case(name))
    {
        return Err(format!("--vhost {name:?} is there already"));
    }
    Ok(VhostArgs {
        name: name.to_owned(),
        client_ca: file.map(PathBuf::from),
    })
}

fn switch(value: &OsStr) -> Result<Switch, String> {
    match value.to_str() {
        Some("servername") => Ok(Switch::ServerName),
        Some("hello") => Ok(Switch::Hello),
        _ => Err(format!(
            "--switch must be hello or servername, not {value:?}"
        )),
    }
}

fn is_hangup(value: &OsStr) -> Result<bool, String> {
    match value.to_str() {
        Some("SIGHUP" | "HUP") => Ok(true),
        _ => Err(format!("--forget-on must be SIGHUP, not {value:?}")),
    }
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
