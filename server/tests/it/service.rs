//! Under a service manager: a socket that outlives the server, and what it tells.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::{PATIENCE, program, request};

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Descriptor 3 and two variables, as systemd gives them: the shell is what a manager does
/// between fork and exec, and `$$` stays the same through `exec`.
#[tokio::test]
async fn requests_wait_in_the_given_socket_while_the_server_is_restarted() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = |what: &str| {
        let mut message = [0; 256];
        loop {
            let length = manager.recv(&mut message).expect("nothing was told");
            if std::str::from_utf8(&message[..length]).unwrap().trim() == what {
                return;
            }
        }
    };
    for _ in 0..3 {
        // Nobody accepts yet, and nobody is refused.
        let waiting = tokio::spawn(async move { request(address, "GET /ws", &[], b"").await });
        tokio::task::yield_now().await;
        let child = Command::new("/bin/sh")
            .env_clear()
            .arg("-c")
            .arg("export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" \"$@\" 3<&0 </dev/null")
            .arg(program().get_program())
            .args(["--admin", "off", "--log", "warn"])
            .env("NOTIFY_SOCKET", &path)
            .env("WATCHDOG_USEC", "200000")
            .stdin(OwnedFd::from(socket.try_clone().unwrap()))
            .stdout(std::process::Stdio::null())
            .spawn();
        let mut running = Running(child.unwrap());
        told("READY=1");
        assert_eq!(waiting.await.unwrap().status, 426);
        told("WATCHDOG=1");
        kill_process(Pid::from_child(&running.0), Signal::TERM).unwrap();
        told("STOPPING=1");
        assert_eq!(running.0.wait().unwrap().code(), Some(0));
    }
}
