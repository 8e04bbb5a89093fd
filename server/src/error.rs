//! The errors of the program and their exit codes. Protocol errors are in `protocol`.

use std::io;
use std::path::PathBuf;

use shared::exit;

/// An error that ends the program. It prints as one line that tells what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The value of an option is invalid.
    #[error("--{option}: {reason}")]
    Option {
        /// The option's name, without dashes.
        option: &'static str,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The configuration file is invalid.
    #[error("{}{}: {reason}", .file.display(), line.map_or(String::new(), |line| format!(", line {line}")))]
    Config {
        /// The file.
        file: PathBuf,
        /// The line, if it is known.
        line: Option<usize>,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A file cannot be read.
    #[error("{what} {}: {source}", .file.display())]
    Read {
        /// The purpose of the file, such as "configuration".
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The content of a file is invalid.
    #[error("{what} {}: {reason}", .file.display())]
    Content {
        /// The purpose of the file.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A file or directory cannot be created or written.
    #[error("{what} {}: {source}", .path.display())]
    Write {
        /// The purpose of the file.
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Another server uses the data directory.
    #[error(
        "data directory {}: in use by another server{}; each server needs a directory of its own",
        .dir.display(), .pid.as_ref().map_or(String::new(), |pid| format!(" (process {pid})"))
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The process that uses it, if it is known.
        pid: Option<String>,
    },
    /// The log on disk cannot be used.
    #[error("log {}: {what}: {source}{}", .file.display(), database_remedy(.source))]
    Database {
        /// The file of the log.
        file: PathBuf,
        /// What the server tried to do.
        what: &'static str,
        /// The reason, which contains nothing of the log's content.
        source: rusqlite::Error,
    },
    /// The stream that several servers share contradicts the configuration of this one.
    #[error("stream {stream}: {reason}")]
    Cluster {
        /// The name of the stream.
        stream: String,
        /// What differs, and what to do.
        reason: String,
    },
    /// An address cannot be bound.
    #[error("cannot listen on {address}: {}", bind_remedy(.source))]
    Bind {
        /// The address, or `unix:` and a path.
        address: String,
        /// The reason.
        source: io::Error,
    },
    /// A message, an ID or a tag is invalid; this program or the server found the fault.
    #[error("{0}")]
    Data(String),
    /// The server requires a key, or does not accept the given one.
    #[error("{0}")]
    Denied(String),
    /// The server cannot be reached, or cannot accept the message now.
    #[error("{0}")]
    Unavailable(String),
    /// `--require` was given, nobody received the message, and no inbox stores it.
    #[error(
        "nobody is {}, and no inbox stores the message",
        if *partial {
            "known to be registered there (one of the servers did not answer in time: it may have \
             delivered the message)"
        } else {
            "registered there"
        }
    )]
    NobodyThere {
        /// Whether some servers did not answer, so that somebody may have received the message
        /// after all.
        partial: bool,
    },
    /// A defect of this program.
    #[error("{0}; this is a defect of the program: please report it with the log")]
    Defect(&'static str),
    /// The operating system refused a call.
    #[error("{what}: {source}")]
    Os {
        /// What the server tried to do.
        what: &'static str,
        /// The reason.
        source: io::Error,
    },
}

/// Lets `?` return a single error where a list of errors is expected.
impl From<Error> for Vec<Error> {
    fn from(error: Error) -> Self {
        vec![error]
    }
}

impl Error {
    /// The exit code from `sysexits.h`; for [`Error::NobodyThere`] it is 3.
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

/// Whether the error shows a damaged file, and not a full disk or a missing permission.
fn is_damaged(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error, rusqlite::Error::FromSqlConversionFailure(..))
        || matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

fn database_remedy(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => "; the server needs free space to start",
        _ if is_damaged(error) => {
            "; restore a backup, or move the data directory away to start with an empty one"
        }
        _ => "",
    }
}

fn bind_remedy(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program has it; end that program (`ss -ltnpx` names it) or choose another address"
                .into()
        }
        io::ErrorKind::AlreadyExists => "a file that is not a socket is in the way; remove it or choose another path".into(),
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address; choose another".into(),
        io::ErrorKind::PermissionDenied => {
            "a port below 1024 needs root or CAP_NET_BIND_SERVICE; choose a higher one".into()
        }
        _ => error.to_string(),
    }
}
