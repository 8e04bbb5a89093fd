//! Listens on a Unix socket.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::path::{Path, PathBuf};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{AcceptErrors, Unregistered, accept_now, watch};

/// The mode of the socket file: its owner and its group may connect.
const MODE: u32 = 0o660;

/// A listening Unix socket, from which connections are accepted. If the socket was bound here,
/// dropping it removes its file, unless another file has taken the same path.
#[derive(Debug)]
pub struct UnixListener {
    socket: AsyncFd<StdListener>,
    path: PathBuf,
    /// The device and inode of the file, if the file was created here.
    file: Option<(u64, u64)>,
    errors: AcceptErrors,
}

impl UnixListener {
    /// Binds `path`. The file has mode 0660 from the first moment. If a killed server has left its
    /// file there, that file is removed.
    ///
    /// # Errors
    /// `AddrInUse` if a server listens on the path; `AlreadyExists` if the file is not a socket;
    /// otherwise the errors of `bind`.
    pub fn bind(path: &Path) -> io::Result<Self> {
        remove_stale(path)?;
        // `bind` creates the file with a mode that depends on the umask, so the file is created in
        // a private directory first.
        let private = PrivateDirectory::beside(path)?;
        let made = private.file();
        let socket = StdListener::bind(&made)?;
        fs::set_permissions(&made, Permissions::from_mode(MODE))?;
        // A hard link fails if the path exists. A rename would replace the socket of a server that
        // was started in the meantime.
        fs::hard_link(&made, path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => io::ErrorKind::AddrInUse.into(),
            _ => error,
        })?;
        Self::new(socket, path, Some(identity(path)?))
    }

    /// Takes over a socket that is already listening, such as one that a service manager passes.
    /// Its file belongs to the manager and is not removed.
    ///
    /// # Errors
    /// `InvalidInput` if the socket has no path, because the permissions of the file decide who may
    /// connect; another error if it is not a Unix socket or no runtime is running.
    pub fn adopt(socket: StdListener) -> io::Result<Self> {
        let address = socket.local_addr()?;
        let path = address.as_pathname().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a Unix socket without a path")
        })?;
        Self::new(socket, path, None)
    }

    fn new(socket: StdListener, path: &Path, file: Option<(u64, u64)>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let socket = watch(socket)?;
        Ok(Self { socket, path: path.into(), file, errors: AcceptErrors::default() })
    }

    /// The path of the socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for the next connection. Never fails, like [`super::Listener::accept`]. Cancel safe.
    pub async fn accept(&self) -> Unregistered<UnixStream> {
        loop {
            match self.socket.async_io(Interest::READABLE, accept_now).await {
                Ok((socket, _nameless)) => return Unregistered(socket.into()),
                Err(error) => self.errors.wait_out(&self.path.display(), &error).await,
            }
        }
    }
}

impl Drop for UnixListener {
    fn drop(&mut self) {
        if self.file.is_some() && identity(&self.path).ok() == self.file {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A private directory for one file. Dropping it removes the directory and the file.
struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    /// Creates the directory beside `path`. Its name is short, because the path of a socket has at
    /// most 107 bytes (unix(7)).
    fn beside(path: &Path) -> io::Result<Self> {
        let random = getrandom::u32().unwrap_or_else(|_| std::process::id());
        let directory = path.with_file_name(format!(".{random:08x}"));
        DirBuilder::new().mode(0o700).create(&directory)?;
        Ok(Self(directory))
    }

    fn file(&self) -> PathBuf {
        self.0.join("s")
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.file());
        let _ = fs::remove_dir(&self.0);
    }
}

fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(file) if !file.file_type().is_socket() => Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            // A server listens on the path.
            Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
            Err(error) => Err(error),
        },
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn files(directory: &Path) -> Vec<String> {
        let files = fs::read_dir(directory).unwrap();
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[tokio::test]
    async fn who_may_not_connect_never_could_and_nothing_is_left_behind() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("server.sock");
        // A thread checks the mode all the time. It starts before the socket exists.
        let done = Arc::new(AtomicBool::new(false));
        let (looks_at, is_done) = (path.clone(), Arc::clone(&done));
        let looking = std::thread::spawn(move || {
            let mut modes = BTreeSet::new();
            while !is_done.load(Ordering::Relaxed) {
                modes.extend(fs::symlink_metadata(&looks_at).map(|file| file.mode() & 0o777));
            }
            modes
        });
        for _ in 0..200 {
            let listener = UnixListener::bind(&path).unwrap();
            assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o777, MODE);
            assert_eq!(files(directory.path()), ["server.sock"]);
            let _client = UnixStream::connect(&path).unwrap();
            listener.accept().await;
            let error = UnixListener::bind(&path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            drop(listener);
            assert_eq!(files(directory.path()), [""; 0]);
        }
        done.store(true, Ordering::Relaxed);
        let others = looking.join().unwrap().into_iter().filter(|mode| *mode != MODE);
        assert_eq!(others.count(), 0);
    }
}
