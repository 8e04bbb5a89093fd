//! What can go wrong outside the protocol, each with its exit code.

use std::io;
use std::path::PathBuf;

use shared::exit;

/// A failure that ends the program. Prints as one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An option's value is wrong.
    #[error("--{option}: {reason}")]
    Option {
        /// Its name, as it is typed after the dashes.
        option: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// The configuration file is wrong.
    #[error("{}{}: {reason}", .file.display(), line.map_or(String::new(), |line| format!(", line {line}")))]
    Config {
        /// Which.
        file: PathBuf,
        /// Where in it, if that is known.
        line: Option<usize>,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A file cannot be read.
    #[error("{what} {}: {source}", .file.display())]
    Read {
        /// What it is for.
        what: &'static str,
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file's content is wrong.
    #[error("{what} {}: {reason}", .file.display())]
    Content {
        /// What it is for.
        what: &'static str,
        /// Which.
        file: PathBuf,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A file or directory cannot be made or written.
    #[error("{what} {}: {source}", .path.display())]
    Write {
        /// What it is for.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another server uses the data directory.
    #[error(
        "data directory {}: in use by another server{}; two servers cannot share one directory",
        .dir.display(), .pid.as_ref().map_or(String::new(), |pid| format!(" (process {pid})"))
    )]
    InUse {
        /// Which.
        dir: PathBuf,
        /// The other one's process, if it has said so.
        pid: Option<String>,
    },
    /// The log on disk cannot be used.
    #[error("log {}: {what}: {source}{}", .file.display(), database_remedy(.source))]
    Database {
        /// Its file.
        file: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not. Never holds anything of what the log holds.
        source: rusqlite::Error,
    },
    /// The stream that several servers share does not fit this one.
    #[error("stream {stream}: {reason}")]
    Cluster {
        /// Its name.
        stream: String,
        /// What is different, and what to do.
        reason: String,
    },
    /// An address cannot be bound.
    #[error("cannot listen on {address}: {}", bind_remedy(.source))]
    Bind {
        /// Which, or `unix:` and a path.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// A message, ID or tag to be sent is wrong, or the server says so.
    #[error("{0}")]
    Data(String),
    /// The server wants a key, or another one.
    #[error("{0}")]
    Denied(String),
    /// The server cannot be reached or cannot take the message now.
    #[error("{0}")]
    Unavailable(String),
    /// With `--require`: nobody got it and nothing keeps it.
    #[error(
        "nobody is {}, and no inbox keeps the message",
        if *partial {
            "known to be registered there (one of the servers did not answer in time: it may have \
             handed it to some)"
        } else {
            "registered there"
        }
    )]
    NobodyThere {
        /// Whether not all servers are known to have handed it to nobody.
        partial: bool,
    },
    /// This program is wrong.
    #[error("{0}, which is a defect of this program; please report it with the log")]
    Defect(&'static str),
    /// The operating system refused something that should work.
    #[error("{what}: {source}")]
    Os {
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// Several at once: the first gives the exit code.
impl From<Error> for Vec<Error> {
    fn from(error: Error) -> Self {
        vec![error]
    }
}

impl Error {
    /// The exit code, as `sysexits.h` has them; 3 for [`Error::NobodyThere`].
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
        match self {
            Self::Option { .. } => exit::USAGE,
            Self::Config { .. } | Self::Cluster { .. } => exit::CONFIG,
            Self::Read { source, .. } | Self::Write { source, .. } | Self::Bind { source, .. }
                if denied(source) =>
            {
                exit::NO_PERMISSION
            }
            Self::Read { .. } => exit::NO_INPUT,
            Self::Content { .. } | Self::Data(_) => exit::DATA,
            Self::Database { source, .. } if is_damaged(source) => exit::DATA,
            Self::Bind { .. } | Self::Unavailable(_) | Self::InUse { .. } => exit::UNAVAILABLE,
            Self::Denied(_) => exit::NO_PERMISSION,
            Self::NobodyThere { .. } => 3,
            Self::Defect(_) => exit::SOFTWARE,
            Self::Os { .. } | Self::Write { .. } | Self::Database { .. } => exit::OS,
        }
    }

    pub(crate) fn no_randomness(error: getrandom::Error) -> Self {
        Self::Os { what: "random numbers", source: io::Error::other(error.to_string()) }
    }
}

/// Whether the file itself is wrong, rather than the disk or the permission.
fn is_damaged(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error, rusqlite::Error::FromSqlConversionFailure(..))
        || matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

fn database_remedy(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => "; the server needs room to start",
        _ if is_damaged(error) => {
            "; restore a backup, or move the data directory away to begin anew"
        }
        _ => "",
    }
}

fn bind_remedy(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program has it; end that (`ss -ltnpx` names it) or choose another".into()
        }
        io::ErrorKind::AlreadyExists => "there is a file that is no socket".into(),
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address".into(),
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need root or CAP_NET_BIND_SERVICE; choose a higher one".into()
        }
        _ => error.to_string(),
    }
}
