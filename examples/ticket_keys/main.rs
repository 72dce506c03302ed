//! Makes, rotates, checks and converts files of ticket keys, as this library and other servers read
//! them.
//!
//! ```text
//! cargo run --example ticket_keys -- generate nginx current.key previous.key next.key
//! cargo run --example ticket_keys -- rotate nginx current.key previous.key next.key
//! cargo run --example ticket_keys -- convert nginx current.key previous.key next.key \
//!     --to dnsdist dnsdist.keys
//! ```
//!
//! Generate and rotate in one place and copy the files to all hosts from there. Three keys or more
//! have an upcoming one among them, `next.key` here, which every host has before any seals with
//! it: so no host meets a ticket that it cannot open, if all have the files before the next
//! rotation. Rotate so seldom that sessions do not outlive the keys: `previous.key` is the key of
//! the time between the last two rotations. With more files, named before the last, keys stay
//! longer.
//!
//! No key is ever printed, and files are written so that nobody else can read them at any time, nor
//! anybody half of one (`replace.rs`).

mod args;
mod replace;

use std::fmt::Display;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

use openssl_resumption::{KeyDialect, TicketKey};

use args::{Command, KeyFiles};
use replace::Existing;

/// How many keys a file gets that has several: the fewest with which HAProxy is content, and enough
/// for the one that seals, the upcoming one and the one before.
const SEVERAL: usize = 3;

fn main() -> ExitCode {
    let command = match args::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(wrong) => {
            complain(format_args!("{wrong}; --help shows all commands"));
            return ExitCode::from(2);
        }
    };
    match run(&command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            complain(wrong);
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<(), String> {
    match command {
        Command::Help => print(args::USAGE),
        Command::Generate(files, existing) => generate(files, *existing)?,
        Command::Rotate(files) => rotate(files)?,
        Command::Print(files) => show(&read(files)?),
        Command::Check(files) => check(files)?,
        Command::Convert(from, to, existing) => write(to, &read(from)?, *existing)?,
    }
    Ok(())
}

fn generate(files: &KeyFiles, existing: Existing) -> Result<(), String> {
    let count = match has_several_in_a_file(files.dialect) {
        true => SEVERAL,
        false => files.paths.len(),
    };
    let keys: Result<Vec<_>, _> = (0..count).map(|_| files.dialect.random_key()).collect();
    write(files, &keys.map_err(|error| error.to_string())?, existing)
}

fn rotate(files: &KeyFiles) -> Result<(), String> {
    let mut keys = read(files)?;
    let before = keys.len();
    let rotated = files.dialect.rotate(&mut keys);
    rotated.map_err(|error| error.to_string())?;
    if keys.len() > before && !has_several_in_a_file(files.dialect) {
        return Err(format!(
            "{} has the only key, which is still needed to open tickets; generate a second and a \
             third file, copy them to all hosts, and name all three",
            files.paths[0].display()
        ));
    }
    write(files, &keys, Existing::Replace)?;
    // As before: who had two files has two still.
    if before < 3 {
        warn_of_full_handshakes(files.dialect);
    }
    Ok(())
}

fn warn_of_full_handshakes(dialect: KeyDialect) {
    let remedy = match has_several_in_a_file(dialect) {
        false => format!(
            "to have one, add a third file (generate {dialect} next.key) and copy it to all hosts \
             before the next rotation"
        ),
        true => format!(
            "to have one, convert {dialect} to two files of nginx, add a third (generate nginx \
             next.key), convert all three back, and copy the file to all hosts before the next \
             rotation"
        ),
    };
    complain(format_args!(
        "warning: no key was to be next, so the new one seals at once; until hosts have the new \
         files, they answer tickets under it with full handshakes; {remedy}"
    ));
}

fn check(files: &KeyFiles) -> Result<(), String> {
    let keys = read(files)?;
    for path in &files.paths {
        warn_of_others(path)?;
    }
    let (count, dialect) = (keys.len(), files.dialect);
    let keys = if count == 1 { "key" } else { "keys" };
    print(format_args!(
        "{count} {keys} of {dialect}, as they should be\n"
    ));
    Ok(())
}

fn warn_of_others(path: &Path) -> Result<(), String> {
    let metadata = path.metadata();
    let metadata = metadata.map_err(|error| format!("{}: {error}", path.display()))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        let path = path.display();
        complain(format_args!(
            "warning: {path} has mode {mode:04o}; take its rights from others: chmod o= {path}"
        ));
    }
    Ok(())
}

/// The names, which every ticket carries in clear, and what their keys do.
fn show(keys: &[TicketKey]) {
    for (i, key) in keys.iter().enumerate() {
        let role = match i {
            0 => "seals and opens",
            1 if has_upcoming(keys) => "opens, seals next",
            _ => "opens",
        };
        let name: String = key
            .name()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        print(format_args!("{name} {role}\n"));
    }
}

fn read(files: &KeyFiles) -> Result<Vec<TicketKey>, String> {
    let keys = files.dialect.read(&files.paths);
    keys.map_err(|error| error.to_string())
}

fn write(files: &KeyFiles, keys: &[TicketKey], existing: Existing) -> Result<(), String> {
    let KeyFiles { dialect, paths } = files;
    let contents = dialect.format(keys);
    let contents = contents.map_err(|wrong| format!("no keys for {dialect}: {wrong}"))?;
    if contents.len() != paths.len() {
        return Err(format!(
            "{dialect} has {} keys in {} files; name so many and not {}",
            keys.len(),
            contents.len(),
            paths.len()
        ));
    }
    for note in replace::write_all(paths, &contents, existing)? {
        complain(note);
    }
    Ok(())
}

/// Whether the second of them, which [`KeyDialect::read`] has put there, is to seal next.
fn has_upcoming(keys: &[TicketKey]) -> bool {
    keys.len() >= 3
}

fn has_several_in_a_file(dialect: KeyDialect) -> bool {
    matches!(dialect, KeyDialect::HaProxy | KeyDialect::Dnsdist)
}

// Not `print!` and `eprintln!`: they panic when nobody reads the other end (any more).

fn print(text: impl Display) {
    let mut out = io::stdout().lock();
    let _ = write!(out, "{text}").and_then(|()| out.flush());
}

fn complain(wrong: impl Display) {
    let _ = writeln!(io::stderr(), "ticket_keys: {wrong}");
}
