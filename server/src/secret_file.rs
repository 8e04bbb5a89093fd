//! Reads secrets from files or stdin. On a command line other users could see them.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::error::Error;
use crate::file_permissions::sync_directory_of;
use crate::hex::random_hex;

/// The longest line in bytes. Every key, ID and secret is shorter.
const MAX_LINE: u64 = 4096;

/// Reads the first line of a file, or of stdin if `file` is `-`. White space at both ends is
/// removed.
///
/// # Errors
/// [`Error::Read`] if the file cannot be read or is not text; [`Error::Content`] if the line is
/// empty or too long.
pub(crate) fn first_line(what: &'static str, file: &Path) -> Result<String, Error> {
    let read = |source| Error::Read { what, file: file.into(), source };
    let reader: Box<dyn BufRead> = match file == Path::new("-") {
        true => Box::new(io::stdin().lock()),
        false => Box::new(BufReader::new(File::open(file).map_err(read)?)),
    };
    let mut line = String::new();
    reader.take(MAX_LINE).read_line(&mut line).map_err(read)?;
    let fault = |reason: &str| Error::Content { what, file: file.into(), reason: reason.into() };
    // A line that was cut off would be used as a different secret.
    if line.len() as u64 >= MAX_LINE {
        return Err(fault("its first line is too long"));
    }
    match line.trim() {
        "" => Err(fault("its first line is empty")),
        line => Ok(line.to_owned()),
    }
}

/// Whether a new file may take the place of one that has its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    Stays,
    IsReplaced,
}

/// Writes `secret` as the line of a file with this `mode`, which is never seen half written and
/// survives a power failure. `finish` changes the file before it gets its name.
///
/// # Errors
/// [`Error::Write`]. If the name is taken and the file stays, nothing is written and nothing fails.
pub(crate) fn write(
    what: &'static str,
    path: &Path,
    secret: &str,
    (mode, existing): (u32, Existing),
    finish: impl FnOnce(&File),
) -> Result<(), Error> {
    let unique = random_hex::<8>().map_err(Error::no_randomness)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{unique}"));
    let new = path.with_file_name(name);
    let write_new = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(format!("{secret}\n").as_bytes())?;
        finish(&file);
        // Set here because the umask of the process may take permissions away.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        match existing {
            Existing::IsReplaced => fs::rename(&new, path),
            Existing::Stays => match fs::hard_link(&new, path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                linked => linked,
            },
        }
    };
    let written = write_new();
    let _ = fs::remove_file(&new);
    written.and_then(|()| sync_directory_of(path)).map_err(|source| Error::Write {
        what,
        path: path.into(),
        source,
    })
}
