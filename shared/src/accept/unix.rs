//! Listening at a path of the file system.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener as Socket, UnixStream};

use super::Trouble;

/// Its owner and group may connect.
const MODE: u32 = 0o660;

/// A bound Unix socket that yields connections. Dropping it removes its file, unless somebody has
/// put another one there meanwhile.
#[derive(Debug)]
pub struct UnixListener {
    socket: Socket,
    path: PathBuf,
    /// Device and inode of the file.
    file: (u64, u64),
    trouble: Trouble,
}

impl UnixListener {
    /// Binds `path`, with mode 0660. What a server that was killed has left there is removed.
    ///
    /// # Errors
    /// `AddrInUse` if a server listens there, `AlreadyExists` if the file is no socket; else what
    /// `bind` answers.
    pub fn bind(path: &Path) -> io::Result<Self> {
        remove_stale(path)?;
        let socket = Socket::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(MODE))?;
        let trouble = Trouble::default();
        Ok(Self { socket, path: path.into(), file: identity(path)?, trouble })
    }

    /// Where it is bound.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next connection. Never fails, as [`super::Listener::accept`]. Cancel safe.
    pub async fn accept(&self) -> UnixStream {
        loop {
            match self.socket.accept().await {
                Ok((stream, _nameless)) => return stream,
                Err(error) => self.trouble.wait_out(&self.path.display(), &error).await,
            }
        }
    }
}

impl Drop for UnixListener {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(file) if !file.file_type().is_socket() => Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) => match StdStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            // Somebody listens, or we may not know.
            Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
            Err(error) => Err(error),
        },
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}
