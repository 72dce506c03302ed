//! Where the ticket keys come from: made here, shared as files, or derived from a shared secret.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use openssl_resumption::{KeyDialect, TicketKeys};

use crate::options::{key_epoch, split};

/// The options about keys.
#[derive(Debug, Default)]
pub(crate) struct KeyArgs {
    files: Vec<(KeyDialect, PathBuf)>,
    secrets: Vec<PathBuf>,
    epoch: Option<Duration>,
}

impl KeyArgs {
    /// `--keys`
    pub(crate) fn add_file(&mut self, value: &OsStr) -> Result<(), String> {
        let wrong = || format!("--keys must be DIALECT:FILE like nginx:ticket.key, not {value:?}");
        let (dialect, file) = split(value, b':');
        let file = file.filter(|file| !file.is_empty()).ok_or_else(wrong)?;
        let dialect: KeyDialect = dialect
            .to_str()
            .ok_or_else(wrong)?
            .parse()
            .map_err(|error| format!("--keys: {error}"))?;
        self.files.push((dialect, file.into()));
        Ok(())
    }

    /// `--keys-secret`
    pub(crate) fn add_secret(&mut self, value: &OsStr) {
        self.secrets.push(value.into());
    }

    /// `--key-epoch`
    pub(crate) fn set_epoch(&mut self, value: &OsStr) -> Result<(), String> {
        self.epoch = Some(key_epoch(value)?);
        Ok(())
    }

    /// What is wrong with the options together.
    pub(crate) fn check(&self, has_tickets: bool) -> Result<(), String> {
        let given = !self.files.is_empty() || !self.secrets.is_empty() || self.epoch.is_some();
        if given && !has_tickets {
            return Err(
                "--keys, --keys-secret and --key-epoch are for --mode stateless or hybrid".into(),
            );
        }
        if !self.files.is_empty() && (!self.secrets.is_empty() || self.epoch.is_some()) {
            return Err("--keys goes neither with --keys-secret nor with --key-epoch".into());
        }
        match self.files.windows(2).find(|pair| pair[0].0 != pair[1].0) {
            Some([(one, _), (other, _)]) => Err(format!(
                "--keys must be of one dialect, not of {one} and {other}"
            )),
            _ => Ok(()),
        }
    }

    pub(crate) fn epoch(&self) -> Duration {
        self.epoch.unwrap_or(TicketKeys::DEFAULT_PERIOD)
    }

    pub(crate) fn ticket_keys(&self) -> Result<TicketKeys, String> {
        let epoch = self.epoch();
        if let Some((dialect, _)) = self.files.first() {
            let paths = self.files.iter().map(|(_, path)| path);
            return Ok(TicketKeys::from_files(*dialect, paths));
        }
        if self.secrets.is_empty() {
            return Ok(TicketKeys::random_every(epoch));
        }
        let secrets = self.secrets.iter().map(|path| {
            // As it is: a line feed at the end is part of the secret.
            std::fs::read(path)
                .map_err(|error| format!("cannot read --keys-secret {}: {error}", path.display()))
        });
        let secrets = secrets.collect::<Result<Vec<_>, _>>()?;
        Ok(TicketKeys::derived_every("server", secrets, epoch))
    }
}
