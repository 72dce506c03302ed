//! Keys in files.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use openssl::sha::Sha256;
use parking_lot::Mutex;

use super::dialect::KeyDialect;
use super::error::KeyError;
use super::key::TicketKey;
use super::source::{KeySet, KeySource};
use crate::ffi::Secret;

/// How often the files are read. A change is used when it has been seen twice: so no files that
/// are being written, or replaced one after the other.
const POLL: Duration = Duration::from_secs(3);

/// Files that are something new so many times in a row are an error.
const RESTLESS: u32 = 4;

const MAX_FILE: usize = 64 * 1024;

/// The keys in some files.
pub(super) struct FileKeys {
    dialect: KeyDialect,
    paths: Vec<PathBuf>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// The files that are in use, by the hash of their content, and their keys.
    used: Option<([u8; 32], KeySet)>,
    /// What the files were when they were read last, if it was something else, and how often they
    /// have been something else and new since they were in order.
    changed: Option<([u8; 32], u32)>,
}

impl FileKeys {
    pub(super) fn new<P: Into<PathBuf>>(
        dialect: KeyDialect,
        paths: impl IntoIterator<Item = P>,
    ) -> Self {
        Self {
            dialect,
            paths: paths.into_iter().map(Into::into).collect(),
            seen: Mutex::default(),
        }
    }
}

impl KeySource for FileKeys {
    fn load(&self, now: SystemTime) -> Result<KeySet, KeyError> {
        let again = |set: KeySet, warning: Option<String>| KeySet {
            load_again: now + POLL,
            warning,
            ..set
        };
        let read: Result<Vec<_>, _> = self.paths.iter().map(|path| read(path)).collect();
        let mut seen = self.seen.lock();
        let read = match read {
            Ok(read) => read,
            Err(error) => {
                // What was seen before is not seen twice in a row.
                seen.changed = None;
                return Err(error);
            }
        };
        let files = || self.paths.iter().zip(&read);
        let open_to_others = files().find_map(|(path, (_, meta))| access_of_others(path, meta));
        let hash = hash(files().map(|(_, (content, _))| content.as_bytes()));

        match &seen.used {
            Some((used, set)) if *used == hash => {
                let set = again(set.clone(), open_to_others);
                seen.changed = None;
                return Ok(set);
            }
            Some((_, set)) if seen.changed.is_none_or(|(changed, _)| changed != hash) => {
                let times = seen.changed.map_or(1, |(_, times)| times + 1);
                let set = again(set.clone(), open_to_others);
                seen.changed = Some((hash, times));
                return match times {
                    ..RESTLESS => Ok(set),
                    _ => Err(KeyError::new(
                        "the ticket key files change each time they are read; replace them by renaming",
                    )),
                };
            }
            _ => {}
        }
        let files: Vec<_> = files()
            .map(|(path, (content, _))| (path.display(), content.as_bytes()))
            .collect();
        let keys = self.dialect.parse(&files)?;
        let set = of_keys(keys, now);
        *seen = Seen {
            used: Some((hash, set.clone())),
            changed: None,
        };
        Ok(again(set, open_to_others))
    }
}

/// The first seals, all open.
fn of_keys(keys: Vec<TicketKey>, now: SystemTime) -> KeySet {
    let mut keys = keys.into_iter();
    let seals = keys.next().expect("parsed from one file at least");
    keys.fold(KeySet::new(seals, now), KeySet::opens)
}

impl KeyDialect {
    /// Reads the keys in these files: first the one that seals, then, of three or more, the upcoming
    /// one, then the others, the newest first.
    ///
    /// # Errors
    ///
    /// A file cannot be read or is not right. The text says which and what is wrong with it.
    pub fn read<P: AsRef<Path>>(
        self,
        paths: impl IntoIterator<Item = P>,
    ) -> Result<Vec<TicketKey>, KeyError> {
        let mut files = Vec::new();
        for path in paths {
            let (content, _) = read(path.as_ref())?;
            files.push((path.as_ref().display().to_string(), content));
        }
        let files: Vec<_> = (files.iter())
            .map(|(path, content)| (path, content.as_bytes()))
            .collect();
        self.parse(&files)
    }
}

fn read(path: &Path) -> Result<(Secret, Metadata), KeyError> {
    let wrong = |wrong: String| {
        let path = path.display();
        KeyError::new(format!("ticket key file {path}: {wrong}"))
    };
    let (file, metadata) = open(path).map_err(|error| wrong(error.to_string()))?;
    // Whatever else there is may keep the reader waiting for ever.
    if !metadata.is_file() {
        return Err(wrong("not a file".into()));
    }
    let content = read_all(file).map_err(|error| wrong(error.to_string()))?;
    if content.as_bytes().len() > MAX_FILE {
        return Err(wrong(format!("larger than {MAX_FILE} bytes")));
    }
    Ok((content, metadata))
}

/// Opens a file, and looks at what was opened: by its path it may have become something else meanwhile.
fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;

        // To open a FIFO would else wait for somebody who writes to it.
        options.custom_flags(NONBLOCK);
    }
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    Ok((file, metadata))
}

/// `O_NONBLOCK`, which the standard library does not name.
#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    not(any(target_arch = "mips", target_arch = "mips64", target_arch = "sparc64"))
))]
const NONBLOCK: i32 = 0o4000;
#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    any(target_arch = "mips", target_arch = "mips64")
))]
const NONBLOCK: i32 = 0x80;
#[cfg(all(target_os = "linux", target_arch = "sparc64"))]
const NONBLOCK: i32 = 0x4000;
#[cfg(any(target_os = "solaris", target_os = "illumos"))]
const NONBLOCK: i32 = 0x80;
#[cfg(all(
    unix,
    not(any(
        target_os = "linux",
        target_os = "android",
        target_os = "solaris",
        target_os = "illumos"
    ))
))]
const NONBLOCK: i32 = 4;

/// What is in the file, but no more than a byte too many. Not `fs::read`: as its buffer grows, it
/// leaves copies behind.
fn read_all(mut file: File) -> io::Result<Secret> {
    let mut buffer = Secret::zeroed(MAX_FILE + 1);
    let mut len = 0;
    loop {
        match file.read(&mut buffer.as_mut_bytes()[len..]) {
            Ok(0) => return Ok(Secret::from(&buffer.as_bytes()[..len])),
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn hash<'a>(contents: impl Iterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for content in contents {
        hash.update(&(content.len() as u64).to_be_bytes());
        hash.update(content);
    }
    hash.finish()
}

#[cfg(unix)]
fn access_of_others(path: &Path, metadata: &Metadata) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;

    let mode = metadata.permissions().mode() & 0o777;
    (mode & 0o007 != 0).then(|| {
        let path = path.display();
        format!("ticket key file {path} has mode {mode:04o}: others have access to it")
    })
}

#[cfg(not(unix))]
fn access_of_others(_: &Path, _: &Metadata) -> Option<String> {
    None
}

// Only Unix has all that files may become.
#[cfg(all(test, unix))]
mod tests;
