//! Whether an id key is the one that a log's entries were made with.

use std::path::Path;

use crate::error::Error;
use crate::id::IdKey;

const REMEDY: &str = "put that key back, name its file with --id-key-file, or begin with an empty \
                      data directory";

/// Compares `key`, as it was read from `file`, with the fingerprint in the log. `None` is a key
/// that is missing, or a log without entries, which any key fits.
///
/// # Errors
/// [`Error::Content`] if people would not get what the log holds for them.
pub(super) fn fit(earlier: Option<&str>, key: Option<&IdKey>, file: &Path) -> Result<(), Error> {
    let Some(earlier) = earlier else { return Ok(()) };
    let reason = match key.map(IdKey::fingerprint) {
        Some(fingerprint) if fingerprint == earlier => return Ok(()),
        Some(fingerprint) => format!(
            "its fingerprint is {fingerprint}, but the log's entries were made with the id key \
             {earlier}, and people would not get what it holds for them; {REMEDY}"
        ),
        None => format!(
            "missing, and people would not get what the log holds for them without it; {REMEDY} \
             (its fingerprint: {earlier})"
        ),
    };
    Err(Error::Content { what: "id key file", file: file.into(), reason })
}
