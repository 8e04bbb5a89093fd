//! Checks that an id key is the one from which the addresses in the log were computed.

use std::path::Path;

use crate::error::Error;
use crate::id::IdKey;

const REMEDY: &str = "put that key back, name its file with --id-key-file, or begin with an empty \
                      data directory";

/// Compares `key`, read from `file`, with the fingerprint `earlier` in the log. If `earlier` is
/// `None`, the log has no entries and any key fits. If `key` is `None`, the file is missing.
///
/// # Errors
/// [`Error::Content`] if the key is missing or does not fit: people would not get their messages.
pub(super) fn check_id_key(
    earlier: Option<&str>,
    key: Option<&IdKey>,
    file: &Path,
) -> Result<(), Error> {
    let Some(earlier) = earlier else { return Ok(()) };
    let reason = match key.map(IdKey::fingerprint) {
        Some(fingerprint) if fingerprint == earlier => return Ok(()),
        Some(fingerprint) => format!(
            "its fingerprint is {fingerprint}, but the log was written with the id key {earlier}: people \
             would not get their messages; {REMEDY}"
        ),
        None => format!(
            "missing, and without it people would not get their messages; {REMEDY} (its fingerprint: \
             {earlier})"
        ),
    };
    Err(Error::Content { what: "id key file", file: file.into(), reason })
}
