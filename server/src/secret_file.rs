//! Reads secrets from files or stdin. On a command line other users could see them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;

use crate::error::Error;

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
