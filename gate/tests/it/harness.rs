//! Starts the program on a port of its own with a certificate of its own, and talks to it.

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};
use rustls_pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) use crate::pki::Pki;

/// A failing test ends after this; a passing one never waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Longer than any test: for limits that must not matter to one.
pub(crate) const NEVER: &str = "1h";

pub(crate) const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// The program under test.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gate"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// The program under test, started by another one that becomes it.
pub(crate) fn program_by(launcher: &[&str]) -> Command {
    let mut command = Command::new(launcher[0]);
    command.args(&launcher[1..]).arg(program().get_program());
    command.env_clear().stdin(Stdio::null());
    command
}

/// The program under test without root's leave to read every file and to bind every port, whoever
/// runs the tests.
pub(crate) fn program_of_a_user() -> Command {
    if !geteuid().is_root() {
        return program();
    }
    let without = "-dac_override,-dac_read_search,-net_bind_service";
    program_by(&["setpriv", "--bounding-set", without, "--inh-caps", without, "--"])
}

/// A running gate.
pub(crate) struct Gate {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) pki: Pki,
    /// What it was given: a file's path, or several with commas.
    pub(crate) pem: PathBuf,
    log: Receiver<String>,
    stdout: BufReader<ChildStdout>,
    dir: Option<TempDir>,
}

impl Gate {
    /// Starts one that forwards to `backend`, with a fresh certificate.
    pub(crate) fn start(backend: impl ToString, options: &[&str]) -> Self {
        let pki = Pki::new();
        let together = pki.together();
        Self::start_with(pki, &[("cert.pem", &together)], backend, options)
    }

    /// Starts one with these files, as `FILE,FILE` if there are several.
    pub(crate) fn start_with(
        pki: Pki,
        files: &[(&str, &str)],
        backend: impl ToString,
        options: &[&str],
    ) -> Self {
        Self::start_at("127.0.0.1:0", pki, files, backend, options)
    }

    /// Starts one that listens elsewhere.
    pub(crate) fn start_at(
        listen: &str,
        pki: Pki,
        files: &[(&str, &str)],
        backend: impl ToString,
        options: &[&str],
    ) -> Self {
        let dir = TempDir::new().unwrap();
        let paths: Vec<PathBuf> = files.iter().map(|(name, _)| dir.path().join(name)).collect();
        for (path, (_, content)) in paths.iter().zip(files) {
            write_secret(path, content);
        }
        let paths: Vec<&str> = paths.iter().filter_map(|path| path.to_str()).collect();
        let mut gate = Self::start_all(listen, pki, &paths.join(","), backend, options);
        gate.dir = Some(dir);
        gate
    }

    /// Starts one with the files of `pem`, which are the caller's.
    pub(crate) fn start_from(
        pki: Pki,
        pem: &str,
        backend: impl ToString,
        options: &[&str],
    ) -> Self {
        Self::start_all("127.0.0.1:0", pki, pem, backend, options)
    }

    fn start_all(
        listen: &str,
        pki: Pki,
        pem: &str,
        backend: impl ToString,
        options: &[&str],
    ) -> Self {
        let mut command = program();
        command.args([listen, &backend.to_string(), pem]).args(options);
        if !options.contains(&"--log") {
            command.args(["--log", "debug"]);
        }
        let mut gate = Self::launch(command, pki);
        gate.pem = pem.into();
        gate
    }

    /// Starts the gate that `command` is.
    pub(crate) fn launch(mut command: Command, pki: Pki) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (line, log) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|l| line.send(l))
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let Some(address) = announced(&mut stdout, "gate") else {
            panic!("the gate ended at its start: {:?}", log.iter().collect::<Vec<_>>())
        };
        Self { address, child, pki, pem: PathBuf::new(), log, stdout, dir: None }
    }

    /// Where administrators ask, of a gate that was started with `--admin`.
    pub(crate) fn admin(&mut self) -> SocketAddr {
        announced(&mut self.stdout, "admin").expect("no admin port is announced")
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The next log line that contains `text`.
    pub(crate) fn log_line(&self, text: &str) -> String {
        let mut seen = Vec::new();
        while let Ok(line) = self.log.recv_timeout(PATIENCE) {
            if line.contains(text) {
                return line;
            }
            seen.push(line);
        }
        panic!("no log line says {text:?}: {seen:?}");
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory of the process, in KiB.
    pub(crate) fn resident(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for the end of the program.
    pub(crate) async fn ended(mut self) -> (ExitStatus, Vec<String>) {
        // Its stderr ends when it does.
        let log = std::mem::replace(&mut self.log, mpsc::channel().1);
        let lines = tokio::task::spawn_blocking(move || log.iter().collect());
        let lines = soon(lines).await.unwrap();
        (self.child.wait().unwrap(), lines)
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// The same gate under another address of this machine.
    pub(crate) fn reached_at(&mut self, ip: impl Into<IpAddr>) {
        self.address.set_ip(ip.into());
    }

    /// A TLS 1.3 client after its handshake.
    pub(crate) async fn client(&self) -> TlsStream<TcpStream> {
        self.client_of(self.pki.client(&TLS13)).await
    }

    pub(crate) async fn client_of(&self, config: Arc<ClientConfig>) -> TlsStream<TcpStream> {
        soon(TlsConnector::from(config).connect(name(), self.tcp().await)).await.unwrap()
    }
}

/// The address after `listening NAME`; nothing if the program ended instead.
fn announced(stdout: &mut impl BufRead, name: &str) -> Option<SocketAddr> {
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    line.trim().strip_prefix(&format!("listening {name} ")).map(|it| it.parse().unwrap())
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes a file that others cannot read, or writes into it.
pub(crate) fn write_secret(path: &Path, content: impl AsRef<[u8]>) {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.unwrap().write_all(content.as_ref()).unwrap();
}

pub(crate) fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

/// Waits for what comes soon unless the test fails.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("this takes too long")
}

/// A listener on a free port, and that port.
pub(crate) async fn backend() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A backend that sends back what it gets.
pub(crate) async fn echo() -> SocketAddr {
    let (listener, address) = backend().await;
    tokio::spawn(echo_from(listener));
    address
}

pub(crate) async fn echo_from(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let (mut from, mut to) = stream.split();
            let _ = tokio::io::copy(&mut from, &mut to).await;
            let _ = to.shutdown().await;
        });
    }
}

/// The next connection to a backend.
pub(crate) async fn accept(listener: &TcpListener) -> TcpStream {
    soon(listener.accept()).await.unwrap().0
}

/// Sends a few bytes through an echo and back.
pub(crate) async fn round_trip(client: &mut TlsStream<TcpStream>) {
    soon(async {
        client.write_all(b"over and out").await.unwrap();
        let mut answer = [0; 12];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"over and out");
    })
    .await;
}

/// Everything until the end of the stream. From a client: fails without `close_notify`.
pub(crate) async fn rest(
    stream: &mut (impl tokio::io::AsyncRead + Unpin),
) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    soon(stream.read_to_end(&mut bytes)).await.map(|_| bytes)
}

/// Bytes in which loss, doubling and disorder all show: random, and repeated after a prime number
/// of them, which no buffer's size divides.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    const PRIME: usize = 1_048_573;
    // splitmix64
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let random = std::iter::repeat_with(|| next().to_le_bytes()).flatten();
    let mut bytes: Vec<u8> = random.take(length.min(PRIME)).collect();
    let block = bytes.clone();
    while bytes.len() < length {
        bytes.extend_from_slice(&block[..block.len().min(length - bytes.len())]);
    }
    bytes
}
