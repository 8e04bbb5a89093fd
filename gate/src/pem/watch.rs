//! Detects changes of the PEM files.
//!
//! Each check opens the paths again, so a file may be replaced in any way: overwritten, replaced by
//! a rename, or through a symbolic link (to the file or to a directory above it) that gets a new
//! target. The kernel's file change notification does not report changes of links.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::io;
use std::time::SystemTime;

use super::files::{FileContent, FileStamp, PemFiles};
use super::identity::Identity;
use crate::error::Error;

/// The files of a certificate, and their state at the last check.
#[derive(Debug, Clone)]
pub(crate) struct PemWatch {
    pub(crate) files: PemFiles,
    /// Whether one of the files is a pipe or a device, which cannot be read again.
    pub(crate) unrepeatable: bool,
    stamps: Vec<FileStamp>,
    settled: bool,
    found: Fingerprint,
    /// The hash function of the fingerprints. It has a random key, so that a stored hash reveals
    /// nothing about the private key.
    hasher: RandomState,
}

/// The result of the last check, to be compared with the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fingerprint {
    Content(u64),
    Unreadable(String),
}

impl Fingerprint {
    fn content(contents: &[FileContent], hasher: &RandomState) -> Self {
        let bytes: Vec<_> = contents.iter().map(|content| &content.bytes).collect();
        Self::Content(hasher.hash_one(bytes))
    }
}

impl PemWatch {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// The errors of [`Identity::load`].
    pub(crate) fn open(files: PemFiles) -> Result<(Self, Identity), Error> {
        let hasher = RandomState::new();
        // The metadata is taken before the files are read, so that the next check notices a change
        // made during the read.
        let stamps = files.stamps();
        let contents = files.read()?;
        let identity = Identity::from_contents(&contents)?;
        let found = Fingerprint::content(&contents, &hasher);
        let settled = is_settled(&stamps);
        let unrepeatable = is_unrepeatable(&stamps);
        Ok((Self { files, unrepeatable, stamps, settled, found, hasher }, identity))
    }

    /// Checks the metadata of the files again. Reads their content if the metadata changed or
    /// `thoroughly` is set. Returns the identity if the content has changed or `thoroughly` is set.
    /// Returns `None` otherwise. Also returns `None` if a file was a pipe or a device at the start.
    ///
    /// # Errors The errors of [`Identity::load`]. Without `thoroughly`, each error is reported
    /// once.
    pub(crate) fn check(&mut self, thoroughly: bool) -> Option<Result<Identity, Error>> {
        if self.unrepeatable {
            return None;
        }
        let stamps = self.files.stamps();
        if !thoroughly && self.settled && stamps == self.stamps {
            return None;
        }
        self.settled = is_settled(&stamps);
        self.stamps = stamps;
        // Opening a pipe could block for ever, so a pipe is not read.
        let contents =
            if is_unrepeatable(&self.stamps) { Err(self.not_a_file()) } else { self.files.read() };
        let found = match &contents {
            Ok(contents) => Fingerprint::content(contents, &self.hasher),
            Err(error) => Fingerprint::Unreadable(error.to_string()),
        };
        if !thoroughly && found == self.found {
            return None;
        }
        self.found = found;
        Some(contents.and_then(|contents| Identity::from_contents(&contents)))
    }

    fn not_a_file(&self) -> Error {
        let source = io::Error::other("it is a pipe or a device now; replace it with a file");
        Error::Read { file: self.files.to_string().into(), source }
    }
}

/// Whether one of the files is a pipe, as with `<(cat …)`, or a device, so that it cannot be read
/// twice.
fn is_unrepeatable(stamps: &[FileStamp]) -> bool {
    stamps.contains(&FileStamp::Unrepeatable)
}

fn is_settled(stamps: &[FileStamp]) -> bool {
    let now = SystemTime::now();
    stamps.iter().all(|trace| trace.is_settled(now))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use rcgen::{CertificateParams, KeyPair};
    use tempfile::TempDir;

    use super::*;

    fn pem(name: &str) -> String {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
        certificate.pem() + &key.serialize_pem()
    }

    /// A watch on a file whose metadata counts as reliable, as if the file had been written minutes
    /// ago.
    fn settled(dir: &TempDir) -> (PemWatch, std::path::PathBuf) {
        let path = dir.path().join("cert.pem");
        fs::write(&path, pem("first")).unwrap();
        let (mut watch, _) = PemWatch::open(PemFiles::new(&path)).unwrap();
        watch.settled = true;
        (watch, path)
    }

    fn name(found: Option<Result<Identity, Error>>) -> Option<String> {
        found.map(|found| found.unwrap().names.join(" "))
    }

    fn fault(found: Option<Result<Identity, Error>>) -> Option<String> {
        found.map(|found| found.unwrap_err().to_string())
    }

    #[test]
    fn what_has_not_changed_is_not_told() {
        let dir = TempDir::new().unwrap();
        let (mut watch, path) = settled(&dir);
        assert_eq!(name(watch.check(false)), None);
        // Rewriting the file changes its metadata, but not its content.
        fs::write(&path, fs::read(&path).unwrap()).unwrap();
        assert_eq!(name(watch.check(false)), None);
        // A thorough check returns the certificate although the content is the same.
        assert_eq!(name(watch.check(true)), Some("first".to_owned()));
    }

    #[test]
    fn content_is_read_only_where_metadata_changed() {
        let dir = TempDir::new().unwrap();
        let (mut watch, _) = settled(&dir);
        // This fingerprint matches no content. If `check` read the file, it would report a change.
        watch.found = Fingerprint::Content(0);
        assert_eq!(name(watch.check(false)), None);
        watch.stamps.clear();
        assert_eq!(name(watch.check(false)), Some("first".to_owned()));
    }

    /// Both files have the same time and length, so only their content shows the change.
    #[test]
    fn a_second_write_in_the_same_moment_is_seen() {
        let dir = TempDir::new().unwrap();
        let (mut watch, path) = settled(&dir);
        fs::write(&path, pem("other")).unwrap();
        watch.stamps = watch.files.stamps();
        watch.settled = is_settled(&watch.stamps);
        assert_eq!(name(watch.check(false)), Some("other".to_owned()));
    }

    #[test]
    fn each_fault_is_told_once_and_so_is_its_end() {
        let dir = TempDir::new().unwrap();
        let (mut watch, path) = settled(&dir);
        let good = fs::read(&path).unwrap();

        fs::remove_file(&path).unwrap();
        assert!(fault(watch.check(false)).unwrap().contains("no such file"));
        assert_eq!(fault(watch.check(false)), None);

        fs::write(&path, &good[..good.len() / 2]).unwrap();
        assert!(fault(watch.check(false)).unwrap().contains("END line"));
        assert_eq!(fault(watch.check(false)), None);

        // Another file with the same fault counts as a change.
        fs::write(&path, &good[..good.len() / 2 - 1]).unwrap();
        assert!(fault(watch.check(false)).unwrap().contains("END line"));
        assert_eq!(fault(watch.check(false)), None);

        fs::write(&path, &good).unwrap();
        assert_eq!(name(watch.check(false)), Some("first".to_owned()));
        assert_eq!(name(watch.check(false)), None);
    }

    /// The check must not open the pipe, because it would wait for a writer.
    #[test]
    fn a_pipe_in_the_place_of_the_file_is_not_opened() {
        let dir = TempDir::new().unwrap();
        let (mut watch, path) = settled(&dir);
        fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        assert!(fault(watch.check(false)).unwrap().contains("a pipe or a device"));
        assert_eq!(fault(watch.check(true)).map(|_| ()), Some(()));
    }

    #[test]
    fn what_cannot_be_read_twice_is_left_alone() {
        let dir = TempDir::new().unwrap();
        let (mut watch, _) = settled(&dir);
        watch.unrepeatable = true;
        watch.stamps.clear();
        assert_eq!(name(watch.check(true)), None);
        assert!(is_unrepeatable(&PemFiles::new(Path::new("/dev/null")).stamps()));
    }

    /// The test makes symbolic links like those of certbot (`live/…/cert.pem`) and of Kubernetes
    /// (`..data`).
    #[test]
    fn links_are_followed_each_time() {
        let dir = TempDir::new().unwrap();
        let at = |name: &str| dir.path().join(name);
        for (number, directory) in ["archive1", "archive2"].iter().enumerate() {
            fs::create_dir(at(directory)).unwrap();
            fs::write(at(directory).join("cert.pem"), pem(&format!("number{number}"))).unwrap();
        }
        let turn = |link: &str, target: &str| {
            symlink(target, at("new")).unwrap();
            fs::rename(at("new"), at(link)).unwrap();
        };
        turn("live", "archive1");
        turn("cert.pem", "archive1/cert.pem");
        for (link, path) in [("live", "live/cert.pem"), ("cert.pem", "cert.pem")] {
            let (mut watch, identity) = PemWatch::open(PemFiles::new(&at(path))).unwrap();
            watch.settled = true;
            assert_eq!(identity.names, ["number0"]);
            assert_eq!(name(watch.check(false)), None);
            turn(link, if link == "live" { "archive2" } else { "archive2/cert.pem" });
            assert_eq!(name(watch.check(false)), Some("number1".to_owned()), "{link}");
        }
    }
}
