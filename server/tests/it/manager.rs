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

/// The sockets that servers are given, one after the other.
pub(crate) struct Given {
    plain: TcpListener,
    /// Two at most, with their names.
    others: Vec<(OwnedFd, &'static str)>,
    dir: TempDir,
}

/// A server that was given them.
pub(crate) struct Running(Child);

impl Given {
    /// One, which has no name.
    pub(crate) fn new() -> Self {
        let plain = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { plain, others: Vec::new(), dir: TempDir::new().unwrap() }
    }

    /// One more with this name; the first then has one, too.
    pub(crate) fn and(mut self, socket: impl Into<OwnedFd>, name: &'static str) -> Self {
        self.others.push((socket.into(), name));
        self
    }

    /// Of the first.
    pub(crate) fn address(&self) -> SocketAddr {
        self.plain.local_addr().unwrap()
    }

    /// Descriptors from 3 on and some variables, as systemd gives them: the shell is what a manager
    /// does between fork and exec, and `$$` stays the same through `exec`.
    pub(crate) fn start(
        &self,
        environment: &[(&str, &OsStr)],
        arguments: &[impl AsRef<OsStr>],
    ) -> Running {
        let mut variables = format!("LISTEN_FDS={} LISTEN_PID=$$", 1 + self.others.len());
        if !self.others.is_empty() {
            variables += " LISTEN_FDNAMES=tocsin-server.socket";
            for (_, name) in &self.others {
                variables += &format!(":{name}");
            }
        }
        // A child inherits three descriptors in an orderly way; the log goes to a file.
        let moved = ["3<&0", "3<&0 4<&1", "3<&0 4<&1 5<&2"][self.others.len()];
        let ends = "</dev/null >/dev/null 2>>\"$log\"";
        let mut others = self.others.iter().map(|(socket, _)| socket.try_clone().unwrap());
        let mut other = || others.next().map_or_else(Stdio::null, Stdio::from);
        let child = Command::new("/bin/sh")
            .env_clear()
            .arg("-c")
            .arg(format!("export {variables}; log=$1; shift; exec \"$0\" \"$@\" {moved} {ends}"))
            .arg(program().get_program())
            .arg(self.dir.path().join("log"))
            .args(["--admin", "off", "--log", "warn"])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(OwnedFd::from(self.plain.try_clone().unwrap()))
            .stdout(other())
            .stderr(other())
            .spawn();
        Running(child.unwrap())
    }

    /// What the servers have logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
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
