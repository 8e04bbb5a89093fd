//! The sender's side: finding the key of a server on the same machine.

use std::env;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::places::{ADMINISTRATOR, RUNTIME, file_name, state};
use crate::error::Error;
use crate::secret_file::first_line;

const WHAT: &str = "key file";
/// The permissions to write of the group and of all others.
const OTHERS_WRITE: u32 = 0o022;

/// What a search found.
#[derive(Clone)]
pub(crate) enum Found {
    /// The key in the environment.
    Variable(String),
    /// The key in a file.
    File(String, PathBuf),
    /// No key; the places with the reason why each has none.
    Nothing(Tried),
}

impl Found {
    pub(crate) fn key(&self) -> Option<&str> {
        match self {
            Self::Variable(key) | Self::File(key, _) => Some(key),
            Self::Nothing(_) => None,
        }
    }

    /// Where the key that was used comes from, or why none was.
    pub(crate) fn origin(&self) -> String {
        match self {
            Self::Variable(_) => "the key in TOCSIN_KEY was used".into(),
            Self::File(_, file) => format!("the key in {} was used", file.display()),
            Self::Nothing(tried) => format!("no key was found: {tried}; give one with --key-file"),
        }
    }
}

/// The places that were tried.
#[derive(Clone, Default)]
pub(crate) struct Tried(Vec<String>);

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

/// Finds the key for the server at `host` and `port`: in `TOCSIN_KEY`, in the file that
/// `TOCSIN_KEY_FILE` names, then in the directories in which a server of this machine and its
/// administrator put keys. Keys from those go to this machine only.
///
/// # Errors
/// [`Error::Read`], [`Error::Content`] for the file that `TOCSIN_KEY_FILE` names.
pub(crate) fn find(host: &str, port: u16) -> Result<Found, Error> {
    let mut tried = Tried::default();
    match env::var("TOCSIN_KEY") {
        Ok(key) if !key.is_empty() => return Ok(Found::Variable(key)),
        _ => tried.0.push("TOCSIN_KEY is not set".into()),
    }
    match env::var_os("TOCSIN_KEY_FILE") {
        Some(file) if !file.is_empty() => {
            let file = PathBuf::from(file);
            return Ok(Found::File(first_line(WHAT, &file)?, file));
        }
        _ => tried.0.push("TOCSIN_KEY_FILE is not set".into()),
    }
    if !is_this_machine(host) {
        tried.0.push(format!(
            "{ADMINISTRATOR} and {RUNTIME} hold keys for servers on this machine, and {host} is not a \
             loopback address"
        ));
        return Ok(Found::Nothing(tried));
    }
    let name = file_name(port);
    let directories = [Some(ADMINISTRATOR.into()), Some(RUNTIME.into()), state()];
    for file in directories.into_iter().flatten().map(|dir: PathBuf| dir.join(&name)) {
        let key = trusted(&file).and_then(|()| {
            first_line(WHAT, &file).map_err(|error| match error {
                Error::Read { source, .. } => source.to_string(),
                Error::Content { reason, .. } => reason,
                other => other.to_string(),
            })
        });
        match key {
            Ok(key) => return Ok(Found::File(key, file)),
            Err(reason) => tried.0.push(format!("{}: {reason}", file.display())),
        }
    }
    Ok(Found::Nothing(tried))
}

/// Whether `host`, in the form that a URL has it, is this machine.
fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// Checks that only root, this user or the server's user can have written a key file. The server's user
/// is the owner of the directory, which root made for it.
///
/// # Errors
/// The reason, for people.
pub(super) fn trusted(file: &Path) -> Result<(), String> {
    let status = |path: &Path| {
        std::fs::metadata(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "it does not exist".to_owned(),
            io::ErrorKind::PermissionDenied => {
                "permission denied; is this user in the group tocsin?".to_owned()
            }
            _ => error.to_string(),
        })
    };
    let dir = status(file.parent().unwrap_or(Path::new("/")))?;
    let file = status(file)?;
    if !file.is_file() {
        return Err("it is not a regular file".into());
    }
    if (file.mode() | dir.mode()) & OTHERS_WRITE != 0 {
        return Err(
            "its group or all users may change it or its directory; run chmod go-w on both".into(),
        );
    }
    if ![0, geteuid().as_raw(), dir.uid()].contains(&file.uid()) {
        return Err(format!("it belongs to another user (uid {})", file.uid()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_this_machine;

    #[test]
    fn this_machine_is_a_loopback_address() {
        for host in ["localhost", "LocalHost", "127.0.0.1", "127.9.9.9", "[::1]", "::1"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["0.0.0.0", "10.0.0.1", "[::]", "shop.example", "localhost.evil.example", ""] {
            assert!(!is_this_machine(host), "{host}");
        }
    }
}
