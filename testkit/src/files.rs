//! Creates files for tests.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

/// Creates a new directory with one file.
///
/// # Panics
/// If the file cannot be written.
pub fn directory_with(name: &str, content: impl AsRef<[u8]>) -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join(name), content).unwrap();
    dir
}

/// Creates a file that only its owner can read, or overwrites an existing file.
///
/// # Panics
/// If the file cannot be written.
pub fn write_secret(path: &Path, content: impl AsRef<[u8]>) {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.unwrap().write_all(content.as_ref()).unwrap();
}

/// Creates a named pipe. Opening it for reading blocks until it is opened for writing.
///
/// # Panics
/// If the file already exists or cannot be created.
pub fn make_fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
}
