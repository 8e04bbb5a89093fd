//! Finds secret files that every user of the machine can read.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The permissions of users who are neither the owner nor in the group.
const OTHERS: u32 = 0o007;
/// The permission that lets users who are neither the owner nor in the group open files in a
/// directory.
const OTHERS_ENTER: u32 = 0o001;

/// Warns if every user of this machine can read or change a secret file: both the mode of the file
/// and that of its directory allow it. `what` names the secret.
pub(crate) fn exposed(what: &str, file: &Path) -> Option<String> {
    let lets = |path: &Path, how: u32| {
        fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & how != 0)
    };
    let exposed = file.is_file() && lets(file, OTHERS) && lets(directory_of(file), OTHERS_ENTER);
    exposed.then(|| {
        format!(
            "every user of this machine can read or change the {what}; run chmod o-rwx {}",
            file.display()
        )
    })
}

/// Checks that a file can be read again without waiting: opening a named pipe waits for a writer, and what
/// was read from a pipe such as that of `<(…)` is gone.
///
/// # Errors
/// `InvalidInput` for anything but a regular file; the error of stat(2).
pub(crate) fn require_regular(file: &Path) -> io::Result<()> {
    match fs::metadata(file)?.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no regular file, so a reload cannot read it again; restart the server instead",
        )),
    }
}

/// The directory that a file or directory is in.
fn directory_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Syncs the directory of `path`, so that a new name in it survives a power cut.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn a_file_is_exposed_if_its_directory_is_too() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("send.key");
        fs::write(&file, "secret").unwrap();
        for (directory, mode, expected) in [
            (0o755, 0o644, true),
            (0o755, 0o640, false),
            (0o750, 0o644, false),
            (0o711, 0o602, true),
        ] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            fs::set_permissions(dir.path(), Permissions::from_mode(directory)).unwrap();
            let said = exposed("key", &file);
            assert_eq!(said.is_some(), expected, "{directory:o} {mode:o}");
            assert!(said.is_none_or(|said| said.contains("send.key") && !said.contains("secret")));
        }
        assert_eq!(exposed("key", &dir.path().join("missing")), None);
        assert_eq!(exposed("key", Path::new("/dev/null")), None, "no file, and nothing is in it");
    }
}
