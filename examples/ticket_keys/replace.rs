//! Secrets into files: nobody else can read them at any moment, and whoever reads a file finds the
//! old content or the new one.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// What becomes of a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    Keep,
    Replace,
}

/// Writes all files or, if one cannot be written, most likely none. Returns what the operator
/// should know.
pub(crate) fn write_all(
    paths: &[PathBuf],
    contents: &[impl AsRef<[u8]>],
    existing: Existing,
) -> Result<Vec<String>, String> {
    let mut staged = Vec::new();
    for (path, content) in paths.iter().zip(contents) {
        let wrong = |error| format!("cannot write {}: {error}", path.display());
        staged.push(Staged::new(path, content.as_ref(), existing).map_err(wrong)?);
    }
    // When keys move from file to file, one that is still needed is in two files in between, and not
    // in none. So the last first; but of three files the key in the last, which is upcoming, moves to
    // the first before a new one takes its place.
    let mut order: Vec<_> = paths.iter().zip(&staged).rev().collect();
    if order.len() >= 3 {
        order.rotate_left(1);
    }
    for (path, staged) in order {
        let published = staged.publish(existing);
        published.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(staged
        .iter_mut()
        .filter_map(|staged| staged.note.take())
        .collect())
}

/// What is written when that path is: by whatever path, the same for the same file. A link stays
/// one, and what it leads to is replaced.
pub(crate) fn target(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        // Of a new file there is the directory only.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
            Ok(directory(path).canonicalize()?.join(name))
        }
        target => target,
    }
}

fn directory(path: &Path) -> &Path {
    let directory = path.parent().filter(|path| !path.as_os_str().is_empty());
    directory.unwrap_or_else(|| Path::new("."))
}

/// A file that is complete but for its name.
struct Staged {
    /// In the same directory, so that it can be renamed. Removed when dropped.
    new: PathBuf,
    target: PathBuf,
    note: Option<String>,
}

impl Staged {
    fn new(path: &Path, content: &[u8], existing: Existing) -> io::Result<Self> {
        let target = target(path)?;
        let before = match target.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Ok(before) if !before.is_file() => return Err(io::Error::other("not a file")),
            Ok(_) if existing == Existing::Keep => return Err(is_there()),
            before => Some(before?),
        };
        let mut random = [0; 4];
        openssl::rand::rand_bytes(&mut random)?;
        let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let suffix = u32::from_ne_bytes(random);
        let new = format!(".{}.{suffix:08x}.new", name.to_string_lossy());
        let new = target.with_file_name(new);

        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        let mut staged = Self {
            new,
            target,
            note: None,
        };
        file.write_all(content)?;
        // Or else those who read the keys until now would find themselves locked out.
        if let Some(before) = before {
            let own = file.metadata()?;
            if (own.uid(), own.gid()) != (before.uid(), before.gid()) {
                fchown(&file, Some(before.uid()), Some(before.gid()))?;
            }
            let mode = before.mode() & 0o777;
            let kept = mode & 0o770;
            file.set_permissions(Permissions::from_mode(kept))?;
            staged.note = (mode != kept).then(|| {
                let path = path.display();
                format!("note: {path} had mode {mode:04o}, now {kept:04o}: not for others")
            });
        }
        file.sync_all()?;
        Ok(staged)
    }

    fn publish(&self, existing: Existing) -> io::Result<()> {
        match existing {
            Existing::Replace => fs::rename(&self.new, &self.target)?,
            // Unlike a rename, a link fails if somebody else has made the file meanwhile.
            Existing::Keep => {
                fs::hard_link(&self.new, &self.target).map_err(|error| match error.kind() {
                    io::ErrorKind::AlreadyExists => is_there(),
                    _ => error,
                })?
            }
        }
        File::open(directory(&self.target))?.sync_all()
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // Once renamed it is not there.
        let _ = fs::remove_file(&self.new);
    }
}

fn is_there() -> io::Error {
    io::Error::other("it is there already; --force replaces it")
}
