//! What a service manager such as systemd does: it opens the sockets of a service, and is notified.

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
    /// Opens one in a directory of its own.
    ///
    /// # Panics
    /// When it cannot be opened.
    #[expect(clippy::new_without_default, reason = "it makes a file")]
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, path, _dir: dir }
    }

    /// The value of `NOTIFY_SOCKET`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next notification, which may have several lines. Blocks the thread.
    ///
    /// # Panics
    /// When none comes within [`PATIENCE`].
    pub fn next(&self) -> String {
        let mut message = [0; 256];
        let length = self.socket.recv(&mut message).expect("no notification in time");
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    /// Waits for a notification with this line. Blocks the thread.
    ///
    /// # Panics
    /// When no more notifications come.
    pub fn until(&self, line: &str) {
        while !self.next().lines().any(|found| found == line) {}
    }
}

/// A command that passes sockets to `program` as systemd does: as descriptors from 3 on, with three
/// variables. It takes at most three sockets, each with its name. If all names are empty, it leaves
/// out `LISTEN_FDNAMES`. `redirections` are those of the shell for the program's input and output.
///
/// A shell executes the program, so that `LISTEN_PID` can be the process ID of the shell, `$$`: it
/// stays the same through `exec`. The shell gets the sockets as its stdin, stdout and stderr, the
/// descriptors that a child inherits without `unsafe` code.
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
