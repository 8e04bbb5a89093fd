//! The gate's errors. Each message says what to do.

mod pem_fault;

use std::io;
use std::path::PathBuf;

use shared::deadline::Expired;
use shared::exit;

pub(crate) use pem_fault::PemFault;
pub(crate) use pem_fault::{PemLocation, quoted};

/// Why a start failed, or why a connection ended before any bytes were relayed. Each message is one
/// line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line is wrong.
    #[error("{0} (see gate --help)")]
    Usage(String),
    /// The gate cannot listen on an address.
    #[error("cannot listen on {address}: {}", bind_remedy(.source))]
    Bind {
        /// The address, as the user gave it.
        address: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A PEM file cannot be read.
    #[error("cannot read {}: {}", .file.display(), read_remedy(.source))]
    Read {
        /// The file, as the user gave it.
        file: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The content of a PEM file cannot be used.
    #[error("{location}: {fault}")]
    Pem {
        /// The file, and the block in it if one block is at fault.
        location: PemLocation,
        /// What is wrong.
        fault: PemFault,
    },
    /// The TLS library refused the key or the configuration.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[source] rustls::Error),
    /// A call to the operating system failed unexpectedly.
    #[error("cannot {what}: {source}")]
    System {
        /// The action that failed, worded to follow "cannot".
        what: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The client did not complete a step within the time limit.
    #[error(transparent)]
    Slow(#[from] Expired),
    /// The client closed the connection before it began the handshake.
    #[error("the client left before the handshake")]
    Left,
    /// The client does not speak TLS.
    #[error("the client does not speak TLS")]
    NotTls,
    /// The gate had too many unfinished handshakes, and this one was the oldest.
    #[error("closed as the oldest of too many unfinished handshakes")]
    Evicted,
    /// The handshake failed, usually through the client's fault.
    #[error("the handshake failed: {0}")]
    Handshake(#[source] io::Error),
    /// The backend cannot be reached.
    #[error("cannot reach the backend: {0}")]
    Backend(String),
    /// The gate stopped before the client had a backend.
    #[error("the gate is stopping")]
    Stopping,
}

impl Error {
    /// The exit code of a start that fails with this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => exit::USAGE,
            Self::Pem { .. } | Self::Tls(_) => exit::DATA,
            Self::Bind { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => exit::NO_PERMISSION,
                _ => exit::UNAVAILABLE,
            },
            Self::Read { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => exit::NO_PERMISSION,
                _ => exit::NO_INPUT,
            },
            Self::System { .. } => exit::OS,
            Self::Slow(_)
            | Self::Left
            | Self::NotTls
            | Self::Evicted
            | Self::Handshake(_)
            | Self::Backend(_)
            | Self::Stopping => exit::UNAVAILABLE,
        }
    }
}

fn bind_remedy(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program uses it; stop that program (ss -ltnp shows it) \
                                     or choose another port"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege; choose a higher \
                                            one or grant CAP_NET_BIND_SERVICE"
            .to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address; give one that \
                                            `ip address` shows, or the port alone"
            .to_owned(),
        _ => error.to_string(),
    }
}

fn read_remedy(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            "there is no such file; create it with \
                                    cat leaf.crt intermediate.crt main.key > cert.pem"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => "permission is missing; let the user that runs gate \
                                            read it (chgrp and chmod g+r)"
            .to_owned(),
        io::ErrorKind::IsADirectory => {
            "it is a directory; give the path of the PEM file".to_owned()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_permission_has_a_code_of_its_own() {
        let denied = || io::ErrorKind::PermissionDenied.into();
        let file = PathBuf::from("cert.pem");
        let read = Error::Read { file, source: denied() };
        let bind = Error::Bind { address: "port 443".to_owned(), source: denied() };
        assert_eq!(
            (read.exit_code(), bind.exit_code()),
            (exit::NO_PERMISSION, exit::NO_PERMISSION)
        );
        assert!(bind.to_string().contains("below 1024"), "{bind}");
    }
}
