//! What a service manager does: it opens the socket, and is told how things stand.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::{PATIENCE, program};

/// What a server tells its manager.
pub(crate) struct Told {
    socket: UnixDatagram,
    path: PathBuf,
    _dir: TempDir,
}

impl Told {
    pub(crate) fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, path, _dir: dir }
    }

    /// For `NOTIFY_SOCKET`.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the server has said `what`.
    pub(crate) fn until(&self, what: &str) {
        let mut message = [0; 256];
        loop {
            let length = self.socket.recv(&mut message).expect("nothing was told");
            if std::str::from_utf8(&message[..length]).unwrap().lines().any(|line| line == what) {
                return;
            }
        }
    }
}

/// The socket that servers are given, one after the other.
pub(crate) struct Given(TcpListener);

/// A server that was given one.
pub(crate) struct Running(Child);

impl Given {
    pub(crate) fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Descriptor 3 and two variables, as systemd gives them: the shell is what a manager does
    /// between fork and exec, and `$$` stays the same through `exec`.
    pub(crate) fn start(
        &self,
        environment: &[(&str, &OsStr)],
        arguments: &[impl AsRef<OsStr>],
    ) -> Running {
        let child = Command::new("/bin/sh")
            .env_clear()
            .arg("-c")
            .arg("export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" \"$@\" 3<&0 </dev/null")
            .arg(program().get_program())
            .args(["--admin", "off", "--log", "warn"])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(OwnedFd::from(self.0.try_clone().unwrap()))
            .stdout(Stdio::null())
            .spawn();
        Running(child.unwrap())
    }
}

impl Running {
    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
    }

    /// Waits for the end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
