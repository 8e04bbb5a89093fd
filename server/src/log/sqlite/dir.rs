//! The data directory. Only one server at a time uses it, and it is created so that only its owner
//! can read it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::file_permissions::{exposed, sync_directory_of};

const WHAT: &str = "data directory";
const DATABASE: &str = "log.sqlite3";
/// The file that a server locks while it runs; it contains the server's process number. The file is
/// never removed, because two servers could then lock two different files with this name.
const LOCK: &str = "lock";
/// The file of the id key, unless `--id-key-file` names another.
pub(crate) const ID_KEY: &str = "id.key";

/// A data directory that this process has locked.
#[derive(Debug)]
pub(super) struct Dir {
    path: PathBuf,
    _lock: File,
}

impl Dir {
    /// Locks the directory. Creates the directory and its database file if they are missing.
    pub(super) fn take(path: &Path) -> Result<Self, Error> {
        let write = |source| Error::Write { what: WHAT, path: path.into(), source };
        if !path.is_dir() {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|source| not_made(path, &source))?;
            sync_directory_of(path).map_err(write)?;
        }
        let dir = Self { path: path.into(), _lock: lock(path)? };
        // SQLite would create the database readable by everyone. It gives its other files the mode
        // of the database.
        let database = dir.database();
        private(&database).and_then(|_| sync_directory_of(&database)).map_err(write)?;
        // The database file of a restored backup has the mode that copying gave it.
        if let Some(warning) = exposed("log", &database) {
            tracing::warn!("{warning}");
        }
        Ok(dir)
    }

    /// Locks the directory. Fails if it contains no log.
    pub(super) fn take_existing(path: &Path) -> Result<Self, Error> {
        if !database(path).is_file() {
            let reason = "there is no log in it; give the --data of the server".into();
            return Err(Error::Content { what: WHAT, file: path.into(), reason });
        }
        Ok(Self { path: path.into(), _lock: lock(path)? })
    }

    pub(super) fn database(&self) -> PathBuf {
        database(&self.path)
    }

    pub(super) fn id_key(&self) -> PathBuf {
        self.path.join(ID_KEY)
    }
}

/// Checks whether [`Dir::take`] could create the directory, or files in an existing directory. The
/// check creates a directory and removes it at once, because some file systems refuse operations
/// that the permissions allow.
pub(super) fn could_be_made(path: &Path) -> Result<(), Error> {
    let tried = nearest(path).join(format!(".tocsin-check-{}", std::process::id()));
    let made = DirBuilder::new().mode(0o700).create(&tried);
    made.and_then(|()| fs::remove_dir(&tried)).map_err(|source| not_made(path, &source))
}

/// The directory itself if it exists, or else its nearest existing ancestor.
fn nearest(path: &Path) -> &Path {
    let there = path.ancestors().find(|part| part.symlink_metadata().is_ok());
    // A relative path begins in the working directory.
    there.unwrap_or(Path::new("."))
}

fn not_made(path: &Path, source: &io::Error) -> Error {
    let nearest = nearest(path);
    let reason = if !nearest.is_dir() {
        format!("{} is not a directory; name another", nearest.display())
    } else if nearest == path {
        format!("no file can be made in it: {source}; let the server's user write there")
    } else {
        format!(
            "cannot be made in {}: {source}; name one where the server's user may write, on a local disk",
            nearest.display()
        )
    };
    let source = io::Error::new(source.kind(), reason);
    Error::Write { what: WHAT, path: path.into(), source }
}

pub(super) fn database(dir: &Path) -> PathBuf {
    dir.join(DATABASE)
}

/// The process number of the server that has locked the directory; empty if the number is unknown.
/// `None` if no server has locked the directory.
pub(super) fn user_of(dir: &Path) -> Option<String> {
    let mut file = File::open(dir.join(LOCK)).ok()?;
    match file.try_lock_shared() {
        // This lock is released when `file` is dropped at the end of the function.
        Ok(()) | Err(TryLockError::Error(_)) => None,
        Err(TryLockError::WouldBlock) => Some(process_in(&mut file).unwrap_or_default()),
    }
}

fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join(LOCK);
    let write = |source| Error::Write { what: "lock file", path: path.clone(), source };
    let mut file = private(&path).map_err(write)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(Error::InUse { dir: dir.into(), pid: process_in(&mut file) });
        }
        Err(TryLockError::Error(error)) => return Err(write(error)),
    }
    // Only people read the number, so a failure to write it (on a full disk, say) does not matter.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

fn process_in(file: &mut File) -> Option<String> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    let number: u32 = text.trim().parse().ok()?;
    Some(number.to_string())
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_directory_is_one_servers_at_a_time_and_private() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let dir = Dir::take(&path).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&dir.database())), (0o700, 0o600));
        let pid = std::process::id().to_string();
        assert_eq!(user_of(&path), Some(pid.clone()));

        let error = Dir::take(&path).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()) && error.contains(&pid), "{error}");
        drop(dir);
        assert_eq!(user_of(&path), None);
        drop(Dir::take(&path).unwrap());
        drop(Dir::take_existing(&path).unwrap());
        assert!(Dir::take_existing(parent.path()).is_err());
        assert_eq!(user_of(parent.path()), None);
    }
}
