//! The server's side: making the key once, and writing it where senders find it.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use nix::unistd::Group;

use super::search::trusted;
use crate::access::auth::KeyHash;
use crate::error::Error;
use crate::hex::random_hex;
use crate::secret_file::{self, Existing};

const WHAT: &str = "key file";
/// Senders in the group may read the key.
const MODE: u32 = 0o640;
/// The group of the senders, if the machine has it.
const GROUP: &str = "tocsin";

/// The key that the server made, and the file in which senders find it.
pub(super) struct MadeKey {
    pub(super) hash: KeyHash,
    pub(super) file: PathBuf,
}

/// Reads the key in the file `name`, or makes it. The file is in the first of `places` that takes it. With
/// a `data` directory the key is there, and `places` get a copy.
///
/// # Errors
/// [`Error::Write`] if no directory takes the key; [`Error::Read`], [`Error::Content`] for a file that
/// holds no key or that another user may have written.
pub(super) fn read_or_make(
    data: Option<&Path>,
    name: &str,
    places: &[PathBuf],
) -> Result<MadeKey, Error> {
    let durable = match data {
        Some(data) => Some((load_or_create(&data.join(name))?, data.join(name))),
        None => None,
    };
    let mut fault = None;
    for dir in places {
        let file = dir.join(name);
        let written = make_directory(dir)
            .map_err(|source| Error::Write { what: WHAT, path: dir.clone(), source })
            .and_then(|()| match &durable {
                Some((key, _)) => write(&file, key, Existing::IsReplaced).map(|()| key.clone()),
                None => load_or_create(&file),
            });
        match written {
            Ok(key) => return Ok(MadeKey { hash: hash(&file, &key)?, file }),
            Err(error @ Error::Write { .. }) => fault = fault.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    match (durable, fault) {
        // Senders can be given this file.
        (Some((key, file)), _) => Ok(MadeKey { hash: hash(&file, &key)?, file }),
        (None, Some(fault)) => Err(fault),
        (None, None) => {
            let source = io::ErrorKind::NotFound.into();
            Err(Error::Write { what: WHAT, path: name.into(), source })
        }
    }
}

fn load_or_create(file: &Path) -> Result<String, Error> {
    if !file.try_exists().unwrap_or(true) {
        let key = random_hex::<32>().map_err(Error::no_randomness)?;
        // Of servers that start at once, the key of the first one stays.
        write(file, &key, Existing::Stays)?;
    }
    let content = |reason| Error::Content { what: WHAT, file: file.into(), reason };
    trusted(file).map_err(content)?;
    let key = secret_file::first_line(WHAT, file)?;
    hash(file, &key)?;
    Ok(key)
}

fn hash(file: &Path, key: &str) -> Result<KeyHash, Error> {
    KeyHash::parse(key).map_err(|_bad| Error::Content {
        what: WHAT,
        file: file.into(),
        reason: "it holds no key; remove it, and the next start makes a new one".into(),
    })
}

fn write(file: &Path, key: &str, existing: Existing) -> Result<(), Error> {
    secret_file::write(WHAT, file, key, (MODE, existing), give_to_group)
}

/// Gives the file to the group of the senders. Without effect where the machine has no such group, or the
/// server is not in it.
fn give_to_group(file: &File) {
    if let Ok(Some(group)) = Group::from_name(GROUP) {
        let _ = fchown(file, None, Some(group.gid.as_raw()));
    }
}

/// Makes a directory that everybody may enter and only its owner may write.
fn make_directory(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    fs::set_permissions(dir, Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(data: Option<&Path>, places: &[PathBuf]) -> Result<String, Error> {
        read_or_make(data, "send.key", places).map(|made| made.hash.to_string())
    }

    #[test]
    fn servers_that_start_at_once_have_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let places = [dir.path().join("state/tocsin")];
        let starting: Vec<_> = (0..8)
            .map(|_| {
                let places = places.clone();
                std::thread::spawn(move || made(None, &places).unwrap())
            })
            .collect();
        let keys: Vec<String> = starting.into_iter().map(|key| key.join().unwrap()).collect();
        assert!(keys.iter().all(|key| *key == keys[0]));
        assert_eq!(fs::read_dir(&places[0]).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn the_first_place_that_takes_the_key_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let (blocked, state) = (dir.path().join("file"), dir.path().join("state"));
        fs::write(&blocked, "").unwrap();
        let places = [blocked.join("tocsin"), state.clone()];
        let found = read_or_make(None, "send.key", &places).unwrap();
        assert_eq!(found.file, state.join("send.key"));
        assert_eq!(fs::metadata(&found.file).unwrap().permissions().mode() & 0o777, MODE);
        assert!(matches!(made(None, &places[..1]), Err(Error::Write { .. })));
    }

    #[test]
    fn the_key_of_the_data_directory_replaces_a_copy() {
        let dir = tempfile::tempdir().unwrap();
        let (data, places) = (dir.path().join("data"), [dir.path().join("run")]);
        fs::create_dir(&data).unwrap();
        let key = made(Some(&data), &places).unwrap();
        fs::write(places[0].join("send.key"), "another-key-0123456789").unwrap();
        assert_eq!(made(Some(&data), &places).unwrap(), key);
        assert_eq!(made(None, &places).unwrap(), key);
        // Where no place takes a copy, the data directory is enough.
        assert_eq!(made(Some(&data), &[]).unwrap(), key);
    }

    #[test]
    fn a_file_that_others_may_have_written_or_that_holds_no_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let places = [dir.path().to_owned()];
        let file = dir.path().join("send.key");
        for (content, mode) in [("a-key-of-enough-length", 0o666), ("", 0o640), ("short", 0o640)] {
            fs::write(&file, content).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let error = made(None, &places).unwrap_err();
            assert!(matches!(error, Error::Content { .. }), "{error}");
            assert_eq!(fs::read_to_string(&file).unwrap(), content, "it stays as it is");
        }
    }
}
