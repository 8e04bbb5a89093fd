//! Secrets come from files, stdin or the environment, never from where others can see them.

use std::io::{self, BufRead as _};
use std::path::Path;

use crate::error::Error;

/// Longer first lines are no secret of ours, in bytes.
const MAX_LINE: u64 = 4096;

/// The first line of a file, or of stdin for `-`, without white space around it.
///
/// # Errors
/// [`Error::Read`] if it cannot be, or is no text; [`Error::Content`] if the line is empty or too long.
pub(crate) fn first_line(what: &'static str, file: &Path) -> Result<String, Error> {
    let read = |source| Error::Read { what, file: file.into(), source };
    let line = if file == Path::new("-") {
        line_of(io::stdin().lock()).map_err(read)?
    } else {
        line_of(io::BufReader::new(std::fs::File::open(file).map_err(read)?)).map_err(read)?
    };
    let fault = |reason: &str| Error::Content { what, file: file.into(), reason: reason.into() };
    // What is left of it after a cut would be another secret, for who reads all of it.
    if line.len() as u64 >= MAX_LINE {
        return Err(fault("its first line is too long"));
    }
    match line.trim() {
        "" => Err(fault("its first line is empty")),
        line => Ok(line.to_owned()),
    }
}

fn line_of(mut reader: impl io::BufRead) -> io::Result<String> {
    let mut line = String::new();
    io::Read::take(&mut reader, MAX_LINE).read_line(&mut line)?;
    Ok(line)
}
