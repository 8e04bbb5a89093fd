//! Starts the program on a free port with a new certificate, and connects to it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::Arc;

use rustix::process::{Pid, Signal, geteuid};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SupportedProtocolVersion};
use rustls_pki_types::ServerName;
use tempfile::TempDir;
use testkit::{Program, proc};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) use testkit::files::write_secret;
pub(crate) use testkit::{listener as backend, soon};

pub(crate) use crate::pki::Pki;

/// A time limit longer than any test, for limits that must not take effect.
pub(crate) const NEVER: &str = "1h";

pub(crate) const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// The program under test.
pub(crate) fn program() -> Command {
    testkit::command(env!("CARGO_BIN_EXE_gate"))
}

/// The program under test, started by a launcher that then executes it.
pub(crate) fn program_by(launcher: &[&str]) -> Command {
    testkit::command_through(launcher, env!("CARGO_BIN_EXE_gate"))
}

/// The program under test without root's privileges to read every file and open every port, even if
/// root runs the tests.
pub(crate) fn program_of_a_user() -> Command {
    if !geteuid().is_root() {
        return program();
    }
    let without = "-dac_override,-dac_read_search,-net_bind_service";
    program_by(&["setpriv", "--bounding-set", without, "--inh-caps", without, "--"])
}

/// A running gate.
pub(crate) struct Gate {
    program: Program,
    pub(crate) address: SocketAddr,
    pub(crate) pki: Pki,
    /// The argument that names the PEM file, or several files separated by commas.
    pub(crate) pem: PathBuf,
    dir: Option<TempDir>,
}

impl Gate {
    /// Starts a gate that forwards to `backend`, with a fresh certificate.
    pub(crate) fn start(backend: impl ToString, options: &[&str]) -> Self {
        let pki = Pki::new();
        let together = pki.together();
        Self::start_with(pki, &[("cert.pem", &together)], backend, options)
    }

    /// Starts a gate with `files`, which are given to it as `FILE,FILE` if there are several.
    pub(crate) fn start_with(
        pki: Pki,
        files: &[(&str, &str)],
        backend: impl ToString,
        options: &[&str],
    ) -> Self {
        Self::start_at("127.0.0.1:0", pki, files, backend, options)
    }

    /// Starts a gate that listens on `listen`.
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

    /// Starts a gate with the PEM files named by `pem`, which belong to the caller.
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

    /// Starts a gate by running `command`.
    pub(crate) fn launch(command: Command, pki: Pki) -> Self {
        let program = Program::start(command);
        let address = program.announced("gate").parse().unwrap();
        Self { program, address, pki, pem: PathBuf::new(), dir: None }
    }

    /// The address of the admin port of a gate that was started with `--admin`.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.program.announced("admin").parse().unwrap()
    }

    pub(crate) fn pid(&self) -> Pid {
        self.program.pid()
    }

    /// The next log line that contains `text`.
    #[track_caller]
    pub(crate) fn log_line(&self, text: &str) -> String {
        self.program.stderr.find_blocking(text)
    }

    /// Resident memory of the process, in KiB.
    pub(crate) fn resident(&self) -> usize {
        proc::resident_kib(self.pid())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.program.signal(signal);
    }

    /// Waits for the end of the program. Returns its exit status and the unread log lines.
    pub(crate) async fn ended(self) -> (ExitStatus, Vec<String>) {
        let ended = self.program.ended().await;
        (ended.status, ended.stderr)
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Connects to the gate at another address of this machine from now on.
    pub(crate) fn reached_at(&mut self, ip: impl Into<IpAddr>) {
        self.address.set_ip(ip.into());
    }

    /// A TLS 1.3 client after its handshake.
    pub(crate) async fn client(&self) -> TlsStream<TcpStream> {
        self.client_of(self.pki.client(&TLS13)).await
    }

    /// A TLS 1.3 client, and its connection at the backend.
    pub(crate) async fn connect(&self, backend: &TcpListener) -> (TlsStream<TcpStream>, TcpStream) {
        self.connect_by(&TLS13, backend).await
    }

    /// A client with this TLS version, and its connection at the backend.
    pub(crate) async fn connect_by(
        &self,
        version: &'static SupportedProtocolVersion,
        backend: &TcpListener,
    ) -> (TlsStream<TcpStream>, TcpStream) {
        let client = self.client_of(self.pki.client(version)).await;
        (client, accept(backend).await)
    }

    pub(crate) async fn client_of(&self, config: Arc<ClientConfig>) -> TlsStream<TcpStream> {
        soon(TlsConnector::from(config).connect(name(), self.tcp().await)).await.unwrap()
    }
}

pub(crate) fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

/// Starts a backend that sends all received bytes back.
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

/// Accepts the next connection to a backend.
pub(crate) async fn accept(listener: &TcpListener) -> TcpStream {
    soon(listener.accept()).await.unwrap().0
}

/// Sends 12 bytes to an echo backend and reads them back.
pub(crate) async fn round_trip(client: &mut TlsStream<TcpStream>) {
    soon(async {
        client.write_all(b"over and out").await.unwrap();
        let mut answer = [0; 12];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"over and out");
    })
    .await;
}

/// Reads until the end of the stream. On a TLS client, this fails if the stream ends without a
/// `close_notify`.
pub(crate) async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    soon(stream.read_to_end(&mut bytes)).await.map(|_| bytes)
}

/// Sends `length` bytes in each direction at once, and then the end. Both streams must arrive
/// complete.
pub(crate) async fn carries_both_ways(
    client: TlsStream<TcpStream>,
    server: impl AsyncRead + AsyncWrite,
    length: usize,
) {
    let version = client.get_ref().1.protocol_version();
    let (up, down) = (noise(1, length), noise(2, length));
    let (mut client_in, mut client_out) = tokio::io::split(client);
    let (mut server_in, mut server_out) = tokio::io::split(server);
    let send_up = async {
        client_out.write_all(&up).await.unwrap();
        client_out.shutdown().await.unwrap();
    };
    let send_down = async {
        server_out.write_all(&down).await.unwrap();
        server_out.shutdown().await.unwrap();
    };
    let ((), (), at_server, at_client) = soon(async {
        tokio::join!(send_up, send_down, rest(&mut server_in), rest(&mut client_in))
    })
    .await;
    assert!(at_server.unwrap() == up, "{version:?}: client to server");
    assert!(at_client.unwrap() == down, "{version:?}: server to client");
}

/// Bytes that reveal lost, doubled or reordered blocks. They are random and repeat after a prime
/// number of bytes, which is not a multiple of any buffer size.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    const PRIME: usize = 1_048_573;
    // The random generator splitmix64.
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
