//! Starts the server in its own directory and on its own ports, and talks to it.

mod client;
mod http;
mod impostor;
mod line;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{PATIENCE, Program};
use tokio::net::TcpStream;

pub(crate) use client::{Client, Stream};
pub(crate) use http::{Answer, exchange, exchange_over, post_head, request};
pub(crate) use impostor::Impostor;
pub(crate) use line::Line;

/// Two IDs for tests. They are not secret, but one test makes sure that no log contains them.
pub(crate) const ALICE: &str = "a11ce-5f3c9a7e21b04d86";
pub(crate) const BOB: &str = "b0b00-91c2d3e4f5a6b7c8";

/// Returns a command that runs the program under test.
pub(crate) fn program() -> Command {
    testkit::command(env!("CARGO_BIN_EXE_server"))
}

/// A running server.
pub(crate) struct Server {
    program: Program,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// The address of `--listen-proxy`.
    pub(crate) proxied: Option<SocketAddr>,
    pub(crate) dir: TempDir,
}

/// Options that open everything, because most tests are not about keys.
pub(crate) const EVERYTHING_OPEN: [&str; 4] = ["--open", "*:send", "--open", "*:broadcast"];

/// The exit status and the output of a server that has ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// The lines that the server printed, then those that it logged.
    pub(crate) output: String,
}

impl Server {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_in(TempDir::new().unwrap(), args)
    }

    /// Starts a server with the files of `dir`. In arguments, `{dir}` stands for the path of `dir`.
    pub(crate) fn start_in(dir: TempDir, args: &[&str]) -> Self {
        Self::run(program(), dir, &[&EVERYTHING_OPEN, args].concat())
    }

    /// Starts as [`Server::start_in`], without opening anything.
    pub(crate) fn start_closed_in(dir: TempDir, args: &[&str]) -> Self {
        Self::run(program(), dir, args)
    }

    /// Starts a server with additional environment variables.
    pub(crate) fn start_with(environment: &[(&str, String)], args: &[&str]) -> Self {
        Self::start_closed_with(environment, &[&EVERYTHING_OPEN, args].concat())
    }

    /// Starts with these environment variables, without opening anything.
    pub(crate) fn start_closed_with(environment: &[(&str, String)], args: &[&str]) -> Self {
        let mut program = program();
        program.envs(environment.iter().map(|(name, value)| (name, value)));
        Self::run(program, TempDir::new().unwrap(), args)
    }

    /// Starts a server that may open at most `files` files and cannot raise this limit.
    pub(crate) fn start_with_files(files: u32, args: &[&str]) -> Self {
        let script = format!("ulimit -n {files} && exec \"$@\"");
        let launcher = ["/bin/sh", "-c", &script, "sh"];
        let limited = testkit::command_through(&launcher, env!("CARGO_BIN_EXE_server"));
        Self::run(limited, TempDir::new().unwrap(), &[&EVERYTHING_OPEN, args].concat())
    }

    fn run(mut command: Command, dir: TempDir, args: &[&str]) -> Self {
        let path = dir.path().to_str().unwrap();
        command
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            // The key that a server without one makes stays in its directory.
            .env("RUNTIME_DIRECTORY", "/proc/none")
            .env("XDG_STATE_HOME", path)
            .args(args.iter().map(|arg| arg.replace("{dir}", path)));
        let program = Program::start(command);
        let (mut address, mut proxied) = (None, None);
        // The admin port is announced last.
        let admin = loop {
            let (name, at) = program.announcement();
            match &*name {
                "server" if at.starts_with("unix:") => {}
                "server" => address = Some(at.parse().unwrap()),
                "server-proxy" => proxied = Some(at.parse().unwrap()),
                "admin" => break at.parse().unwrap(),
                _ => panic!("{name:?} is announced"),
            }
        };
        Self { program, address: address.unwrap(), admin, proxied, dir }
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

    /// Connects with additional headers. The error is the HTTP status of a refusal.
    pub(crate) async fn connect_with(
        &self,
        headers: &[(&'static str, &str)],
    ) -> Result<Client, u16> {
        Client::connect(self.address, "/ws", headers).await
    }

    /// Connects as a proxy does for a client at `from`. The error contains the status and the
    /// `Retry-After` header of a refusal.
    pub(crate) async fn connect_from(&self, from: &str) -> Result<Client, (u16, Option<String>)> {
        let stream = TcpStream::connect(self.proxied.unwrap()).await.unwrap();
        Client::connect_as_proxy(stream, from).await
    }

    /// Connects a client and registers it on `tag`.
    pub(crate) async fn listener(&self, tag: &str, id: Option<&str>) -> Client {
        let mut client = self.connect().await;
        client.set(tag, id).await;
        client
    }

    /// Connects and registers on the tag shop with an ID, whose inbox must have `waiting` unread
    /// messages. The client has already received them when it is returned.
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

    /// Connects and registers on the tag shop. Returns the reply, the messages before the `live`
    /// event, and the client.
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

    /// Returns the number of registrations and of IDs of a tag.
    pub(crate) async fn counts(&self, tag: &str) -> (u64, u64) {
        let status = self.status().await;
        let counts = &status["tags"][tag];
        let count = |name: &str| counts[name].as_u64().unwrap_or(0);
        (count("registrations"), count("ids"))
    }

    /// Asks until the counts are `wanted`, because the server notices some changes a little later,
    /// for example a reset.
    pub(crate) async fn until_counts(&self, tag: &str, wanted: (u64, u64)) {
        let asking = async { while self.counts(tag).await != wanted {} };
        let Ok(()) = tokio::time::timeout(PATIENCE, asking).await else {
            panic!("counts of {tag} stay {:?}, wanted {wanted:?}", self.counts(tag).await);
        };
    }

    pub(crate) fn pid(&self) -> Pid {
        self.program.pid()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.program.signal(signal);
    }

    /// Sends SIGTERM and waits until the server has ended.
    pub(crate) async fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Waits until the server has ended.
    pub(crate) async fn ended(self) -> Ended {
        let ended = self.program.ended().await;
        let lines = ended.stdout.into_iter().chain(ended.stderr);
        Ended { status: ended.status, output: lines.map(|line| line + "\n").collect() }
    }
}

/// Returns a PROXY protocol header, version 1, for a client at the address `from`.
pub(crate) fn proxy_line(from: &str) -> String {
    let family = if from.contains(':') { ("TCP6", "::1") } else { ("TCP4", "127.0.0.1") };
    format!("PROXY {} {from} {} 50000 9091\r\n", family.0, family.1)
}
