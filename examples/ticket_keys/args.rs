//! The command line.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;

use openssl_resumption::KeyDialect;

use crate::replace::{self, Existing};

pub(crate) const USAGE: &str = "\
Usage: ticket_keys COMMAND DIALECT FILE... [OPTION]...

  generate DIALECT FILE...   write new random keys: one into each FILE, the first the one that
                             seals, the last of three or more the one that is to seal next; for
                             haproxy and dnsdist three into one FILE
  rotate DIALECT FILE...     let the key that was to be next seal, and put a new one to be next in
                             place of the oldest; of fewer than three keys none is next: then the
                             new one seals at once, which costs full handshakes
  print DIALECT FILE...      show the names of the keys, which seals, and which does next
  check DIALECT FILE...      say whether the keys are right, and warn if others have access; the
                             exit status is 0 if they are, else 1
  convert DIALECT FILE... --to DIALECT FILE...
                             write the same keys as another server reads them; which seals and
                             which is next stays as it is

  --force                    let generate and convert replace files
  --help                     print this

DIALECT is nginx, haproxy, apache, envoy, nghttpx, dnsdist or openssl.

In one place, once, and then copy the files to all hosts:
  ticket_keys generate nginx current.key previous.key next.key
Then every so often, as seldom as a session lives, and copy the files to all hosts again:
  ticket_keys rotate nginx current.key previous.key next.key
Every host must have the files before the next rotation: then it has each key before any host seals
with it. Files that something else has rotated may have an old key in the place of the next one; let
generate --force write that file anew, and copy it to all hosts, before the first rotation.

Files are written with mode 0600; those that are replaced keep owner, group and the rights of both.
Do not run it as root in a directory that somebody else can write to, because links are followed.
";

#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Generate(KeyFiles, Existing),
    Rotate(KeyFiles),
    Print(KeyFiles),
    Check(KeyFiles),
    /// From, and to.
    Convert(KeyFiles, KeyFiles, Existing),
}

#[derive(Debug)]
pub(crate) struct KeyFiles {
    pub(crate) dialect: KeyDialect,
    pub(crate) paths: Vec<PathBuf>,
}

/// Reads the arguments, or says in a sentence what is wrong with which.
pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let mut plain = Vec::new();
    // What comes after --to.
    let mut target = None;
    let mut force = false;
    for word in words {
        match word.to_str() {
            Some("--help" | "-h") => return Ok(Command::Help),
            Some("--force") => force = true,
            Some("--to") if target.is_none() => target = Some(Vec::new()),
            Some("--to") => return Err("--to is there twice".into()),
            Some(option) if option.starts_with("--") => {
                return Err(format!(
                    "{option:?} is no option; there are --to, --force and --help"
                ));
            }
            _ => target.as_mut().unwrap_or(&mut plain).push(word),
        }
    }
    let mut plain = plain.into_iter();
    let command = plain.next().ok_or("a command is missing")?;
    let command = command.to_string_lossy();
    if !["generate", "rotate", "print", "check", "convert"].contains(&&*command) {
        return Err(format!(
            "{command:?} is no command; there are generate, rotate, print, check and convert"
        ));
    }
    let files = key_files(plain, &command)?;
    let target = target.map(|words| key_files(words.into_iter(), "--to"));
    let target = target.transpose()?;
    let existing = match force {
        true => Existing::Replace,
        false => Existing::Keep,
    };
    Ok(match (&*command, target, force) {
        ("convert", Some(target), _) => Command::Convert(files, target, existing),
        ("convert", None, _) => return Err("convert needs --to DIALECT FILE...".into()),
        (_, Some(_), _) => return Err(format!("--to is for convert, not for {command}")),
        ("generate", ..) => Command::Generate(files, existing),
        (_, _, true) => {
            return Err(format!(
                "--force is for generate and convert, not for {command}"
            ));
        }
        ("rotate", ..) => Command::Rotate(files),
        ("print", ..) => Command::Print(files),
        _ => Command::Check(files),
    })
}

/// A dialect and its files, of which each is there once.
fn key_files(mut words: impl Iterator<Item = OsString>, after: &str) -> Result<KeyFiles, String> {
    let dialect = words.next();
    let dialect = dialect.ok_or_else(|| format!("{after} needs a dialect and files"))?;
    let dialect: KeyDialect = (dialect.to_string_lossy().parse())
        .map_err(|error: openssl_resumption::KeyError| error.to_string())?;
    let paths: Vec<_> = words.map(PathBuf::from).collect();
    if paths.is_empty() {
        return Err(format!("{after} {dialect} needs a file"));
    }
    let mut targets = HashMap::new();
    for path in &paths {
        // What has none cannot be read or written, which is said there.
        let target = replace::target(path).unwrap_or_else(|_| path.clone());
        match targets.insert(target, path) {
            None => {}
            Some(before) if before == path => return Err(format!("{path:?} is named twice")),
            Some(before) => {
                return Err(format!("{path:?} and {before:?} are the same file"));
            }
        }
    }
    Ok(KeyFiles { dialect, paths })
}
