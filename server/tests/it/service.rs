//! Under a service manager: a socket that outlives the server, and what it tells.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Client, PATIENCE, program, request};

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One server after the other in the same socket, and what each tells, as a manager has it.
struct Manager {
    socket: TcpListener,
    told: UnixDatagram,
    path: PathBuf,
    _dir: TempDir,
}

impl Manager {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("notify");
        let told = UnixDatagram::bind(&path).unwrap();
        told.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket: TcpListener::bind("127.0.0.1:0").unwrap(), told, path, _dir: dir }
    }

    /// Descriptor 3 and two variables, as systemd gives them: the shell is what a manager does
    /// between fork and exec, and `$$` stays the same through `exec`.
    fn start(&self) -> Running {
        self.start_with(&[])
    }

    fn start_with(&self, environment: &[(&str, &str)]) -> Running {
        let child = Command::new("/bin/sh")
            .env_clear()
            .arg("-c")
            .arg("export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$0\" \"$@\" 3<&0 </dev/null")
            .arg(program().get_program())
            .args(["--admin", "off", "--log", "warn"])
            .env("NOTIFY_SOCKET", &self.path)
            .envs(environment.iter().copied())
            .stdin(OwnedFd::from(self.socket.try_clone().unwrap()))
            .stdout(std::process::Stdio::null())
            .spawn();
        let running = Running(child.unwrap());
        self.told("READY=1");
        running
    }

    fn told(&self, what: &str) {
        let mut message = [0; 256];
        loop {
            let length = self.told.recv(&mut message).expect("nothing was told");
            if std::str::from_utf8(&message[..length]).unwrap().trim() == what {
                return;
            }
        }
    }
}

#[tokio::test]
async fn requests_wait_in_the_given_socket_while_the_server_is_restarted() {
    let manager = Manager::new();
    let address = manager.socket.local_addr().unwrap();
    for _ in 0..3 {
        // Nobody accepts yet, and nobody is refused.
        let waiting = tokio::spawn(async move { request(address, "GET /ws", &[], b"").await });
        tokio::task::yield_now().await;
        let mut running = manager.start_with(&[("WATCHDOG_USEC", "200000")]);
        assert_eq!(waiting.await.unwrap().status, 426);
        manager.told("WATCHDOG=1");
        kill_process(Pid::from_child(&running.0), Signal::TERM).unwrap();
        manager.told("STOPPING=1");
        assert_eq!(running.0.wait().unwrap().code(), Some(0));
    }
}

/// Listeners that are there when the server is restarted.
const LISTENERS: usize = 2_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_thousands_of_listeners_and_a_publisher_refuses_nobody() {
    let _files = shared::descriptors::raise_limit();
    let manager = Manager::new();
    let address = manager.socket.local_addr().unwrap();
    let mut running = manager.start();
    let mut listeners = Vec::new();
    for _ in 0..LISTENERS {
        listeners.push(listen(address).await);
    }
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let (begun, begins) = tokio::sync::oneshot::channel();
    let mut begun = Some(begun);
    // Each message on a connection of its own, as PHP sends them, one after the other.
    let publisher = tokio::spawn(async move {
        let message = json!({"action": "broadcast", "tag": "shop", "message": 1}).to_string();
        let mut reached = Vec::new();
        while !*stopped.borrow_and_update() {
            let answer = request(address, "POST /messages", &[], message.as_bytes()).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            let reply: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
            reached.push(reply["clients"].as_u64().unwrap());
            begun.take().map(|begun| begun.send(()));
        }
        reached
    });

    begins.await.unwrap();
    kill_process(Pid::from_child(&running.0), Signal::TERM).unwrap();
    let mut waits = Vec::new();
    for listener in listeners {
        waits.push(farewell(listener).await);
    }
    assert_eq!(running.0.wait().unwrap().code(), Some(0));
    // Each has its own moment to come back.
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > LISTENERS / 4 && *waits.last().unwrap() < 5_000, "{}", waits.len());

    let _next = manager.start();
    let mut again = Vec::new();
    for _ in 0..LISTENERS {
        again.push(listen(address).await);
    }
    stop.send(true).unwrap();
    let reached = publisher.await.unwrap();
    assert!(reached.contains(&(LISTENERS as u64)), "the first server was published to as well");
    let message = json!({"action": "broadcast", "tag": "shop", "message": 2}).to_string();
    let last = request(address, "POST /messages", &[], message.as_bytes()).await;
    let last: serde_json::Value = serde_json::from_str(&last.body).unwrap();
    assert_eq!(last["clients"], LISTENERS);
}

async fn listen(address: std::net::SocketAddr) -> Client {
    let mut client = Client::connect(address, "/ws", &[]).await.unwrap();
    client.send(&json!({"action": "set", "tag": "shop"})).await;
    assert_eq!(client.next().await["ok"], "set");
    client
}

/// What a listener is told at the end: when to come back.
async fn farewell(mut client: Client) -> u64 {
    let mut wait = None;
    loop {
        match client.next_or_closed().await {
            Ok(text) if text["event"] == "bye" => wait = text["retry_in_ms"].as_u64(),
            Ok(_message) => {}
            Err(code) => {
                assert_eq!(code, Some(1001));
                return wait.expect("no bye before the end");
            }
        }
    }
}
