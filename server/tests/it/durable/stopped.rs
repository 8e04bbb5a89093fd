//! SIGTERM under load.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::load::{Load, Otherwise, kept, verify};
use super::{arguments, random, start};
use crate::harness::program;

/// A server that takes the socket of its manager.
struct Running(Child);

impl Running {
    fn start(socket: &TcpListener, dir: &Path) -> Self {
        let child = Command::new("/bin/sh")
            .env_clear()
            .arg("-c")
            .arg("export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" \"$@\" 3<&0 </dev/null")
            .arg(program().get_program())
            .args(["--admin", "off", "--log", "warn"])
            .args(arguments(dir))
            .stdin(OwnedFd::from(socket.try_clone().unwrap()))
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn restarts_under_load_lose_nothing_and_refuse_nobody() {
    let dir = TempDir::new().unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut server = Running::start(&socket, dir.path());
    let mut load = Load::begin(address, 8, Otherwise::Again);
    for _ in 0..3 {
        load.acknowledged(100 + random(200)).await;
        kill_process(Pid::from_child(&server.0), Signal::TERM).unwrap();
        assert_eq!(server.0.wait().unwrap().code(), Some(0));
        // Everything is in one file when it ends.
        assert!(!dir.path().join("data/log.sqlite3-wal").exists());
        server = Running::start(&socket, dir.path());
    }
    load.acknowledged(100).await;
    let said = load.quiet().await;
    let kept = kept(address).await;
    verify(&said, &kept);
    assert_eq!(said.len(), kept.len());
    assert_eq!(load.refused(), 0);
    assert!(load.heard(kept.last().unwrap().0).await == kept);
}

#[tokio::test]
async fn a_second_server_on_the_same_directory_is_refused() {
    let dir = TempDir::new().unwrap();
    let server = start(dir.path());
    let output = program()
        .args(["--listen", "127.0.0.1:0", "--admin", "off", "--log", "error"])
        .args(arguments(dir.path()))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{errors}");
    let data = dir.path().join("data");
    assert!(errors.contains(data.to_str().unwrap()) && errors.contains("process "), "{errors}");
    assert_eq!(errors.lines().count(), 1);
    // Nothing has happened to the first.
    assert_eq!(kept(server.address).await.len(), 0);
    server.stop().await;
    start(dir.path());
}
