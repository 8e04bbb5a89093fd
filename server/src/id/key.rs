//! Reads and creates the file with the server's ID key.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use hmac::Mac as _;

use super::{IdKey, keyed};
use crate::error::Error;
use crate::file_permissions::exposed;
use crate::hex::{from_hex, hex, random_hex};
use crate::secret_file::{self, Existing};

const WHAT: &str = "id key file";
/// The most bytes that are read from the file. The content of a longer file is refused.
const MOST: u64 = 256;

impl IdKey {
    /// Reads the key in `path`. If the file is missing, creates it with a new random key. Only its
    /// owner may read the new file, and it is never half written.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Write`], or [`Error::Content`] if the file is not 64 hex digits.
    /// The errors never repeat the content.
    pub(crate) fn load_or_create(path: &Path) -> Result<Self, Error> {
        if let Some(key) = Self::load(path)? {
            return Ok(key);
        }
        let key = random_hex::<32>().map_err(Error::no_randomness)?;
        secret_file::write(WHAT, path, &key, (0o600, Existing::Stays), |_| ())?;
        // Another server may have created it in the meantime: its key counts.
        let missing = io::ErrorKind::NotFound.into();
        Self::load(path)?.ok_or(Error::Read { what: WHAT, file: path.into(), source: missing })
    }

    /// Reads the key in `path`; `None` if the file does not exist.
    ///
    /// # Errors
    /// The same as for [`IdKey::load_or_create`].
    pub(crate) fn load(path: &Path) -> Result<Option<Self>, Error> {
        let read = |source| Error::Read { what: WHAT, file: path.into(), source };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(read(error)),
        };
        if let Some(warning) = exposed("id key", path) {
            tracing::warn!("{warning}");
        }
        let mut content = Vec::new();
        file.take(MOST).read_to_end(&mut content).map_err(read)?;
        let key = std::str::from_utf8(&content).ok().and_then(|text| from_hex(text.trim()));
        match key {
            Some(key) => Ok(Some(Self(keyed(&key)))),
            None => Err(Error::Content {
                what: WHAT,
                file: path.into(),
                reason: "not 64 hex digits; restore it from a backup: with another key stored \
                         messages do not reach their recipients"
                    .into(),
            }),
        }
    }

    /// Returns 16 hex digits that identify the key without revealing it.
    pub(crate) fn fingerprint(&self) -> String {
        // An address is the hash of a text that begins with a tag. No tag contains a space, so no
        // address is the hash of this text.
        let mut mac = self.0.clone();
        mac.update(b"fingerprint of the id key");
        hex(&mac.finalize().into_bytes()[..8])
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::id::{Id, Tag};

    #[test]
    fn a_key_is_made_once_and_read_ever_after() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("id.key");
        assert!(IdKey::load(&path).unwrap().is_none());
        let made = IdKey::load_or_create(&path).unwrap();
        let read = IdKey::load_or_create(&path).unwrap();
        let (tag, id) = (Tag::parse("t").unwrap(), Id::generate().unwrap());
        assert_eq!(made.address(&tag, &id), read.address(&tag, &id));
        assert_eq!(made.fingerprint(), read.fingerprint());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");

        let other = IdKey::load_or_create(&dir.path().join("other")).unwrap();
        assert_ne!(other.fingerprint(), made.fingerprint());
        assert_eq!(made.fingerprint().len(), 16);
    }

    #[test]
    fn servers_that_start_at_once_agree_on_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("id.key");
        let starting: Vec<_> = (0..8)
            .map(|_| {
                let path = path.clone();
                std::thread::spawn(move || IdKey::load_or_create(&path).unwrap().fingerprint())
            })
            .collect();
        let keys: Vec<String> = starting.into_iter().map(|key| key.join().unwrap()).collect();
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("id.key");
        let good = random_hex::<32>().unwrap();
        let long = format!("{good}0");
        for wrong in ["", "\n", &good[1..], &long, &good.replace(&good[..1], "g"), "\u{e4}\u{e4}"] {
            fs::write(&path, wrong).unwrap();
            let error = IdKey::load_or_create(&path).unwrap_err();
            assert!(matches!(error, Error::Content { .. }), "{error}");
            assert!(!error.to_string().contains(&good[1..20]));
        }
        fs::write(&path, good.to_uppercase()).unwrap();
        assert!(IdKey::load_or_create(&path).is_ok());
        let error = IdKey::load_or_create(dir.path()).unwrap_err();
        assert!(matches!(error, Error::Read { .. }), "{error}");
        let error = IdKey::load_or_create(&dir.path().join("no/id.key")).unwrap_err();
        assert!(matches!(error, Error::Write { .. }), "{error}");
    }
}
