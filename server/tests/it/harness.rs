//! Starts the program in a directory of its own, on ports of its own, and talks to it.

mod client;
mod impostor;
mod line;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) use client::{Client, Stream};
pub(crate) use impostor::Impostor;
pub(crate) use line::Line;

/// Two IDs for tests. They are no secrets, but the trace test looks for them in logs.
pub(crate) const ALICE: &str = "a11ce-5f3c9a7e21b04d86";
pub(crate) const BOB: &str = "b0b00-91c2d3e4f5a6b7c8";

/// A failing test ends after this; a passing one never waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The program under test.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_server"));
    command.env_clear().stdin(Stdio::null());
    command
}

pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// Of `--listen-proxy`.
    pub(crate) proxied: Option<SocketAddr>,
    pub(crate) dir: TempDir,
    stdout: JoinHandle<String>,
    stderr: JoinHandle<String>,
}

/// What a program left behind.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
}

impl Server {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_in(TempDir::new().unwrap(), args)
    }

    /// Starts with files that `dir` holds already; `{dir}` in an argument stands for its path.
    pub(crate) fn start_in(dir: TempDir, args: &[&str]) -> Self {
        Self::run(program(), dir, args)
    }

    /// Starts with these variables.
    pub(crate) fn start_with(environment: &[(&str, String)], args: &[&str]) -> Self {
        let mut program = program();
        program.envs(environment.iter().map(|(name, value)| (name, value)));
        Self::run(program, TempDir::new().unwrap(), args)
    }

    /// Starts one that may open so many files and cannot raise that.
    pub(crate) fn start_with_files(files: u32, args: &[&str]) -> Self {
        let mut limited = Command::new("/bin/sh");
        limited.env_clear().stdin(Stdio::null());
        limited.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &files.to_string()]);
        limited.arg(program().get_program());
        Self::run(limited, TempDir::new().unwrap(), args)
    }

    fn run(mut program: Command, dir: TempDir, args: &[&str]) -> Self {
        let path = dir.path().to_str().unwrap();
        let mut child = program
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(args.iter().map(|arg| arg.replace("{dir}", path)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (mut address, mut proxied) = (None, None);
        let admin = loop {
            let line = lines.next().map(Result::unwrap);
            let Some(line) = line else {
                panic!("the server ended at its start: {}", stderr.join().unwrap())
            };
            match line.strip_prefix("listening ").unwrap().split_once(' ').unwrap() {
                ("server", path) if path.starts_with("unix:") => {}
                ("server", at) => address = Some(at.parse().unwrap()),
                ("server-proxy", at) => proxied = Some(at.parse().unwrap()),
                ("admin", at) => break at.parse().unwrap(),
                other => panic!("{other:?} is announced"),
            }
        };
        let address = address.unwrap();
        let stdout = std::thread::spawn(move || lines.map_while(Result::ok).collect());
        Self { child, address, admin, proxied, dir, stdout, stderr }
    }

    /// Writes a file into the server's directory.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) async fn connect(&self) -> Client {
        self.connect_with(&[]).await.unwrap()
    }

    /// Connects with more headers; answers the status of a refusal.
    pub(crate) async fn connect_with(
        &self,
        headers: &[(&'static str, &str)],
    ) -> Result<Client, u16> {
        Client::connect(self.address, "/ws", headers).await
    }

    /// Connects as a proxy would for a client at `from`; answers status and `Retry-After` of a
    /// refusal.
    pub(crate) async fn connect_from(&self, from: &str) -> Result<Client, (u16, Option<String>)> {
        let stream = TcpStream::connect(self.proxied.unwrap()).await.unwrap();
        Client::introduced(stream, from).await
    }

    /// Connects and registers.
    pub(crate) async fn listener(&self, tag: &str, id: Option<&str>) -> Client {
        let mut client = self.connect().await;
        client.set(tag, id).await;
        client
    }

    /// Connects and registers on the tag shop, where so many messages wait for the ID.
    pub(crate) async fn listener_with_inbox(&self, id: &str, waiting: usize) -> Client {
        let mut client = self.connect().await;
        let reply = client.ask(&json!({"action": "set", "tag": "shop", "id": id})).await;
        assert_eq!(reply["unread"].as_array().map(Vec::len), Some(waiting), "{reply}");
        for _ in 0..waiting {
            client.message().await;
        }
        assert_eq!(client.next().await["event"], "live");
        client
    }

    /// Registers on the tag shop and takes what is handed over until it is live: the reply, the
    /// messages, the client.
    pub(crate) async fn come_back(&self, id: &str, since: &Value) -> (Value, Vec<Value>, Client) {
        let mut client = self.connect().await;
        let reply = client.ask(&json!({"action":"set","tag":"shop","id":id,"since":since})).await;
        assert_eq!(reply["ok"], "set", "{reply}");
        let mut messages = Vec::new();
        loop {
            let next = client.next().await;
            if next["event"] == "live" {
                return (reply, messages, client);
            }
            messages.push(next["message"].clone());
        }
    }

    pub(crate) async fn post(&self, body: &Value) -> (u16, Value) {
        self.post_with(&body.to_string(), &[]).await
    }

    pub(crate) async fn post_with(&self, body: &str, headers: &[&str]) -> (u16, Value) {
        let answer = request(self.address, "POST /messages", headers, body.as_bytes()).await;
        (answer.status, serde_json::from_str(&answer.body).unwrap_or(Value::Null))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        request(self.address, &format!("GET {path}"), &[], b"").await
    }

    pub(crate) async fn status(&self) -> Value {
        let answer = request(self.admin, "GET /status", &[], b"").await;
        serde_json::from_str(&answer.body).unwrap()
    }

    /// The counts of a tag: registrations, IDs.
    pub(crate) async fn counts(&self, tag: &str) -> (u64, u64) {
        let status = self.status().await;
        let counts = &status["tags"][tag];
        let count = |name: &str| counts[name].as_u64().unwrap_or(0);
        (count("registrations"), count("ids"))
    }

    /// Asks until the counts are so: for what the server learns by itself, such as a reset.
    pub(crate) async fn until_counts(&self, tag: &str, wanted: (u64, u64)) {
        let asking = async { while self.counts(tag).await != wanted {} };
        let Ok(()) = tokio::time::timeout(PATIENCE, asking).await else {
            panic!("counts of {tag} stay {:?}, wanted {wanted:?}", self.counts(tag).await);
        };
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) async fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Waits for the end; one that does not come fails the test.
    pub(crate) async fn ended(mut self) -> Ended {
        let ending = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let status = tokio::time::timeout(PATIENCE, ending).await.expect("an end in time");
        tokio::task::spawn_blocking(move || {
            let ended = |thread: &mut JoinHandle<String>| {
                std::mem::replace(thread, std::thread::spawn(String::new)).join().unwrap()
            };
            let output = ended(&mut self.stdout) + &ended(&mut self.stderr);
            Ended { status, output }
        })
        .await
        .unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The PROXY header, version 1, of a client at this address.
pub(crate) fn proxy_line(from: &str) -> String {
    let family = if from.contains(':') { ("TCP6", "::1") } else { ("TCP4", "127.0.0.1") };
    format!("PROXY {} {from} {} 50000 9091\r\n", family.0, family.1)
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    /// As a text, and as it came.
    pub(crate) body: String,
    pub(crate) bytes: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// One HTTP request on a connection of its own. `Host` is the address unless given.
pub(crate) async fn request(to: SocketAddr, line: &str, headers: &[&str], body: &[u8]) -> Answer {
    let mut head =
        format!("{line} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|header| header.starts_with("Host:")) {
        head.push_str(&format!("Host: {to}\r\n"));
    }
    for header in headers {
        head.push_str(header);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    exchange(to, &[head.as_bytes(), body].concat()).await
}

/// Sends bytes, or as many as the server takes before it refuses, and reads to the end.
pub(crate) async fn exchange(to: SocketAddr, bytes: &[u8]) -> Answer {
    exchange_over(TcpStream::connect(to).await.unwrap(), bytes).await
}

/// The same over a stream that is connected.
pub(crate) async fn exchange_over(mut stream: impl Stream, bytes: &[u8]) -> Answer {
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    // A reset may follow the answer.
    let reading = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let _ = reading.expect("an answer in time");
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a whole head");
    let bytes = answer.split_off(end + 4);
    let head = String::from_utf8(answer).unwrap().trim_end().to_owned();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: String::from_utf8_lossy(&bytes).into_owned(), bytes }
}
