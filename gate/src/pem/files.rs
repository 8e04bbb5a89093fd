//! The PEM files of a certificate, and the metadata that shows whether they have changed.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::error::{Error, PemFault, PemLocation};

/// The largest file that is read. A key and a dozen certificates have about 30 KiB, so a file of
/// more than 1 MiB is no PEM file.
const LARGEST: u64 = 1024 * 1024;

/// The clock tick of the coarsest file system (2 s on FAT). Two writes within one tick get the same
/// time.
const TICK: Duration = Duration::from_secs(2);

/// The permission bit that lets other users read a file.
const OTHERS_READ: u32 = 0o004;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PemFiles {
    files: Vec<PathBuf>,
}

impl PemFiles {
    /// One file, or several as in `key.pem,chain.pem`. A path with a comma is one file if that file
    /// exists.
    pub(crate) fn new(path: &Path) -> Self {
        let files = match path.to_str() {
            Some(list) if list.contains(',') && !path.exists() => {
                list.split(',').filter(|part| !part.is_empty()).map(PathBuf::from).collect()
            }
            _ => vec![path.to_owned()],
        };
        Self { files }
    }

    /// Opens and reads all files.
    pub(crate) fn read(&self) -> Result<Vec<FileContent>, Error> {
        self.files.iter().map(|file| read(file)).collect()
    }

    /// The metadata of each file. Symbolic links are followed.
    pub(crate) fn stamps(&self) -> Vec<FileStamp> {
        self.files.iter().map(|file| FileStamp::of(file)).collect()
    }
}

/// Shows only the name of the first file.
impl std::fmt::Display for PemFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.files.first().map_or(Path::new(""), PathBuf::as_path).display())
    }
}

#[derive(Debug)]
pub(crate) struct FileContent {
    pub(crate) file: PathBuf,
    pub(crate) bytes: Vec<u8>,
    pub(crate) world_readable: bool,
}

/// The metadata of a file. While the metadata is the same, the content counts as unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FileStamp {
    File {
        device: u64,
        inode: u64,
        size: u64,
        modified: (i64, i64),
        changed: (i64, i64),
    },
    /// A pipe or a device. The content cannot be read a second time, and opening it may block.
    Unrepeatable,
    Unreadable(io::ErrorKind),
}

impl FileStamp {
    fn of(file: &Path) -> Self {
        match fs::metadata(file) {
            Ok(found) if found.is_file() || found.is_dir() => Self::File {
                device: found.dev(),
                inode: found.ino(),
                size: found.size(),
                modified: (found.mtime(), found.mtime_nsec()),
                changed: (found.ctime(), found.ctime_nsec()),
            },
            Ok(_) => Self::Unrepeatable,
            Err(error) => Self::Unreadable(error.kind()),
        }
    }

    /// Whether the metadata shows every later change of the file. The result is false for a file
    /// that was just written: a second write within the same tick of the clock leaves the same
    /// metadata.
    pub(crate) fn is_settled(&self, now: SystemTime) -> bool {
        let Self::File { modified, changed, .. } = self else { return true };
        let latest = (*modified).max(*changed);
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let tick = TICK.as_secs().cast_signed();
        now.as_secs().cast_signed().saturating_sub(latest.0) > tick
    }
}

/// Reads the whole file. The file is not mapped into memory, because its content may change at any
/// time.
fn read(file: &Path) -> Result<FileContent, Error> {
    let failed = |source| Error::Read { file: file.to_owned(), source };
    let opened = File::open(file).map_err(failed)?;
    let metadata = opened.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    let mut bytes = Vec::new();
    opened.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Error::Pem {
            location: PemLocation::file(file),
            fault: PemFault::TooLarge(LARGEST),
        });
    }
    Ok(FileContent { file: file.to_owned(), bytes, world_readable: is_world_readable(&metadata) })
}

fn is_world_readable(metadata: &Metadata) -> bool {
    metadata.is_file() && metadata.mode() & OTHERS_READ != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_separates_files_unless_it_belongs_to_a_name() {
        let list = PemFiles::new(Path::new("key.pem,chain.pem"));
        assert_eq!(list.files, [PathBuf::from("key.pem"), PathBuf::from("chain.pem")]);

        let dir = tempfile::tempdir().unwrap();
        let odd = dir.path().join("a,b.pem");
        fs::write(&odd, "").unwrap();
        assert_eq!(PemFiles::new(&odd).files, [odd]);
    }

    #[test]
    fn what_was_just_written_may_change_unseen() {
        let at = |seconds| FileStamp::File {
            device: 1,
            inode: 2,
            size: 3,
            modified: (seconds, 0),
            changed: (0, 0),
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        assert!(at(900).is_settled(now));
        assert!(!at(999).is_settled(now));
        // The clock of the file system may be ahead of the system clock.
        assert!(!at(2_000).is_settled(now));
        assert!(FileStamp::Unreadable(io::ErrorKind::NotFound).is_settled(now));
    }
}
