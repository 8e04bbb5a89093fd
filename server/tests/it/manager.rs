//! Starts servers to which a service manager passes their sockets.

use std::ffi::OsStr;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use tempfile::TempDir;
use testkit::{Process, service_manager};

use crate::harness::{EVERYTHING_OPEN, program};

/// Sockets that are passed to several servers in turn.
pub(crate) struct Given {
    plain: TcpListener,
    /// At most two further sockets, each with its name.
    others: Vec<(OwnedFd, &'static str)>,
    dir: TempDir,
}

impl Given {
    /// Opens one socket without a name.
    pub(crate) fn new() -> Self {
        let plain = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { plain, others: Vec::new(), dir: TempDir::new().unwrap() }
    }

    /// Adds a socket with this name. The first socket then gets a name too.
    pub(crate) fn and(mut self, socket: impl Into<OwnedFd>, name: &'static str) -> Self {
        self.others.push((socket.into(), name));
        self
    }

    /// Returns the address of the first socket.
    pub(crate) fn address(&self) -> SocketAddr {
        self.plain.local_addr().unwrap()
    }

    /// Starts a server and passes the sockets to it, as systemd does. The server logs to a file.
    pub(crate) fn start(
        &self,
        environment: &[(&str, &OsStr)],
        arguments: &[impl AsRef<OsStr>],
    ) -> Process {
        let name = if self.others.is_empty() { "" } else { "tocsin-server.socket" };
        let plain = (self.plain.try_clone().unwrap().into(), name);
        let others = self.others.iter().map(|(socket, name)| (socket.try_clone().unwrap(), *name));
        let sockets = std::iter::once(plain).chain(others);
        let log = self.dir.path().join("log");
        let redirections = format!("</dev/null >/dev/null 2>>'{}'", log.display());
        let mut server =
            service_manager::activated(program().get_program(), sockets, &redirections);
        server.args(["--admin", "off", "--log", "warn"]).args(EVERYTHING_OPEN).args(arguments);
        server.envs(environment.iter().copied());
        Process::start(server)
    }

    /// Returns the lines that the servers have logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap()
    }
}
