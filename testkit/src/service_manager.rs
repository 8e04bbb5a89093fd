//! Acts as a service manager such as systemd, which opens the sockets of a service and receives its
//! notifications.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::deadline::PATIENCE;
use crate::process::command;

/// The socket to which a service sends notifications such as `READY=1`: sd_notify(3).
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    path: PathBuf,
    _dir: TempDir,
}

impl NotifySocket {
    /// Opens a socket in a directory of its own.
    ///
    /// # Panics
    /// If the socket cannot be opened.
    #[expect(clippy::new_without_default, reason = "it makes a file")]
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, path, _dir: dir }
    }

    /// The path of the socket, which is the value of `NOTIFY_SOCKET`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next notification, which may have several lines. Blocks the thread.
    ///
    /// # Panics
    /// If no notification comes within [`PATIENCE`].
    pub fn next(&self) -> String {
        let mut message = [0; 256];
        let length = self.socket.recv(&mut message).expect("no notification in time");
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    /// Waits for a notification that has the line `line`. Blocks the thread.
    ///
    /// # Panics
    /// If the next notification does not come within [`PATIENCE`].
    pub fn until(&self, line: &str) {
        while !self.next().lines().any(|found| found == line) {}
    }
}

/// A command that passes sockets to `program` as systemd does: as file descriptors from 3 on, with
/// three environment variables. At most three sockets are possible, each with its name. If all
/// names are empty, `LISTEN_FDNAMES` is not set. `redirections` are shell redirections for the
/// program's input and output.
///
/// A shell sets `LISTEN_PID` to its own process ID, `$$`, and then executes the program, which
/// keeps this ID. The shell gets the sockets as its stdin, stdout and stderr, because a child
/// inherits these descriptors without `unsafe` code.
pub fn activated(
    program: &OsStr,
    sockets: impl IntoIterator<Item = (OwnedFd, &'static str)>,
    redirections: &str,
) -> Command {
    let (sockets, names): (Vec<OwnedFd>, Vec<&str>) = sockets.into_iter().unzip();
    let mut variables = format!("LISTEN_FDS={} LISTEN_PID=$$", sockets.len());
    if names.iter().any(|name| !name.is_empty()) {
        variables += &format!(" LISTEN_FDNAMES={}", names.join(":"));
    }
    let moved = ["", "3<&0", "3<&0 4<&1", "3<&0 4<&1 5<&2"][sockets.len()];
    let mut shell = command("/bin/sh");
    shell
        .arg("-c")
        .arg(format!("export {variables}; exec \"$0\" \"$@\" {moved} {redirections}"))
        .arg(program);
    let mut sockets = sockets.into_iter();
    sockets.next().map(|socket| shell.stdin(socket));
    sockets.next().map(|socket| shell.stdout(socket));
    sockets.next().map(|socket| shell.stderr(socket));
    shell
}
