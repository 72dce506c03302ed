//! The command line.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::time::Duration;

use openssl::ssl::SslVersion;

use crate::options::{Mode, key_epoch, listen, mode, split, tls};

pub(crate) const USAGE: &str = "\
Usage: status_page [OPTION VALUE | OPTION=VALUE]...

  --mode MODE         stateful (default), stateless, hybrid or off
  --tls VERSION       1.2 or 1.3 only; default both
  --listen ADDR       IP address and port; default 127.0.0.1:8443, port 0 takes a free one
  --key-epoch SECONDS how long a ticket key seals, in stateless and hybrid mode; default 60, which
                      is short, to see keys change
  --help              print this
";

#[derive(Debug)]
pub(crate) enum Command {
    Serve(Args),
    Help,
}

#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) mode: Mode,
    pub(crate) tls: Option<SslVersion>,
    pub(crate) listen: SocketAddr,
    pub(crate) key_epoch: Duration,
}

/// Reads the arguments, or says in a sentence what is wrong with which.
pub(crate) fn parse(mut words: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let mut args = Args {
        mode: Mode::Stateful,
        tls: None,
        listen: SocketAddr::from(([127, 0, 0, 1], 8443)),
        key_epoch: Duration::from_secs(60),
    };
    while let Some(word) = words.next() {
        let (option, attached) = split(&word, b'=');
        let option = option.to_string_lossy();
        let mut value = || {
            attached
                .map(OsStr::to_owned)
                .or_else(|| words.next())
                .ok_or_else(|| format!("{option} needs a value"))
        };
        match &*option {
            "--help" | "-h" => return Ok(Command::Help),
            "--mode" => args.mode = mode(&value()?)?,
            "--tls" => args.tls = Some(tls(&value()?)?),
            "--listen" => args.listen = listen(&value()?)?,
            "--key-epoch" => args.key_epoch = key_epoch(&value()?)?,
            _ => {
                return Err(format!(
                    "{option:?} is no option; there are --mode, --tls, --listen and --key-epoch"
                ));
            }
        }
    }
    Ok(Command::Serve(args))
}
