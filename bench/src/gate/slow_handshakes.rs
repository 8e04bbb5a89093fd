//! Measures the handshakes of a healthy client among thousands of clients that never finish theirs.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use super::client::{Client, Group, Handshake, Offer, Suite};
use super::{Environment, Gate, RunningGate};
use crate::load::wire::{Latencies, now};
use crate::options::range;
use crate::programs::peers::PEERS;
use crate::programs::{Build, version_of};
use crate::report::figure::millis;
use crate::report::results::{Results, Role, Subject};
use crate::report::{of_rows, print_verdicts};
use crate::run;

/// The number of slow clients, and the number of handshakes of the healthy client, which are
/// measured once without slow clients and once among them.
pub(crate) const CLIENTS: u32 = 4_000;
pub(crate) const HANDSHAKES: u32 = 300;

/// The number of addresses of the slow clients, from 127.0.0.2 on. The healthy client has
/// 127.0.0.1.
const ADDRESSES: u8 = 16;

/// The pause between two bytes of a slow client, and before it reconnects if it was rejected at
/// once.
const PAUSE: Duration = Duration::from_secs(1);

/// Three times in this order: the period over which the slow clients connect, so that the gate does
/// not close all of them at once; a reserve for the last of them; and the pause between two
/// handshakes of the healthy client.
const GATHER: Duration = Duration::from_secs(5);
const SETTLE: Duration = Duration::from_secs(1);
const BETWEEN: Duration = Duration::from_millis(20);

/// The suite and group that browsers prefer, apart from post-quantum groups.
const OFFER: Offer = Offer { suite: Suite::Aes128, group: Group::X25519 };

/// The first bytes of a TLS record with a client hello. The record claims 508 bytes (0x01fc), and
/// the hello 504 (0x01f8). The bytes that follow never complete it.
const BEGINNING: [u8; 9] = [0x16, 3, 1, 0x01, 0xfc, 0x01, 0x00, 0x01, 0xf8];

#[derive(Args)]
pub(crate) struct SlowOptions {
    /// The path of the gate. The default is the gate in the directory of this program
    #[arg(long, value_name = "[NAME=]PATH", value_parser = Build::gate)]
    gate: Option<Build>,

    /// The number of slow clients, which have 16 addresses
    #[arg(long, default_value_t = CLIENTS, value_parser = range(16..=20_000))]
    slow: u32,

    /// Handshakes of the healthy client, once without slow clients and once among them
    #[arg(long, default_value_t = HANDSHAKES, value_parser = range(20..=10_000))]
    handshakes: u32,

    /// Fail when a goal is missed
    #[arg(long)]
    check: bool,
}

/// Measures the handshakes and prints the times.
///
/// # Errors
/// When the gate is missing, a handshake of the healthy client fails, or slow clients are missing.
pub(crate) fn run(options: &SlowOptions) -> Result<()> {
    let slow = options.slow;
    run::ensure_open_files(slow as usize, "slow clients", "give --slow less")?;
    let directory = tempfile::Builder::new().prefix("bench-").tempdir()?;
    let environment = Environment::new(OFFER)?;
    let Build { name, path } =
        Build::given_or_beside(options.gate.as_slice(), "gate")?.swap_remove(0);
    let version = version_of(&path);
    let gate = Gate { environment, kind: &PEERS.our_gate, build: Some(path) };
    let measured = run::block_on(async {
        let running = gate.start(directory.path()).await?;
        measure(&running, slow, options.handshakes).await
    })?;
    let row = |name: &str, times: &Latencies| {
        let times = times.quantiles().map(|nanos| format!("{:.2} ms", millis(nanos)));
        [name.to_owned()].into_iter().chain(times)
    };
    let mut table =
        of_rows([row("alone", &measured.alone), row("among slow clients", &measured.among_slow)]);
    table.set_header(["healthy client's handshake", "p50", "p99", "max"]);
    let mut out = std::io::stdout().lock();
    writeln!(out, "{table}\nslow clients connected: {} of {slow} at least", measured.least)?;
    let mut results = Results::new(vec![Subject::new(name, "ours", version, Role::Ours)]);
    results.record(0, vec![("among-slow", Some(measured.ratio()))]);
    print_verdicts(&results, options.check)
}

/// The handshake times of a healthy client.
pub(crate) struct SlowHandshakes {
    /// Handshake times without slow clients, in nanoseconds.
    alone: Latencies,
    among_slow: Latencies,
    /// The smallest number of slow clients that were connected during a handshake.
    least: usize,
}

impl SlowHandshakes {
    /// Returns the median among slow clients, divided by the median without them.
    pub(crate) fn ratio(&self) -> f64 {
        let [alone, among_slow] =
            [&self.alone, &self.among_slow].map(|times| millis(times.quantiles()[0]));
        among_slow / alone
    }
}

/// Measures `count` handshakes without slow clients, and then `count` among `slow` slow clients.
///
/// # Errors
/// When a handshake of the healthy client fails, or more than one slow client in ten is missing.
pub(crate) async fn measure(gate: &RunningGate, slow: u32, count: u32) -> Result<SlowHandshakes> {
    let client = Client::new(&gate.endpoint, Handshake::Full)?;
    let open = Arc::new(AtomicUsize::new(0));
    let (alone, _) = healthy(&client, count, &open).await?;
    let mut clients = JoinSet::new();
    for number in 0..slow {
        let last = 2 + u8::try_from(number % u32::from(ADDRESSES))?;
        let source = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0);
        let first = GATHER.mul_f64(f64::from(number) / f64::from(slow));
        clients.spawn(slowly(source, gate.endpoint.address, first, Arc::clone(&open)));
    }
    tokio::time::sleep(GATHER + SETTLE).await;
    let (among_slow, least) = healthy(&client, count, &open).await?;
    clients.shutdown().await;
    ensure!(least * 10 >= slow as usize * 9, "only {least} of {slow} slow clients were connected");
    Ok(SlowHandshakes { alone, among_slow, least })
}

/// Handshakes one after the other. Returns their times in nanoseconds, and the smallest number of slow
/// clients meanwhile.
async fn healthy(client: &Client, count: u32, slow: &AtomicUsize) -> Result<(Latencies, usize)> {
    let mut times = Latencies::default();
    let mut least = usize::MAX;
    for _ in 0..count {
        let begun = now();
        let session = client.handshake().await.context("the healthy client")?;
        times.record(begun, now());
        least = least.min(slow.load(Ordering::Relaxed));
        session.close().await?;
        tokio::time::sleep(BETWEEN).await;
    }
    Ok((times, least))
}

/// Sends one byte a second until the gate closes the connection, and then reconnects.
async fn slowly(source: SocketAddr, gate: SocketAddr, first: Duration, open: Arc<AtomicUsize>) {
    tokio::time::sleep(first).await;
    loop {
        let begun = Instant::now();
        if let Ok(stream) = connect(source, gate).await {
            open.fetch_add(1, Ordering::Relaxed);
            trickle(stream).await;
            open.fetch_sub(1, Ordering::Relaxed);
        }
        if begun.elapsed() < PAUSE {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn connect(source: SocketAddr, gate: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(source)?;
    let stream = socket.connect(gate).await?;
    // Without this option, thousands of ports stay in TIME_WAIT for a minute after each round.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(stream)
}

async fn trickle(mut stream: TcpStream) {
    let mut next: &[u8] = &BEGINNING;
    let mut reply = [0];
    while stream.write_all(next).await.is_ok() {
        next = &[0];
        // The gate does not answer an unfinished hello, so any event means that the connection has
        // ended.
        if tokio::time::timeout(PAUSE, stream.read(&mut reply)).await.is_ok() {
            return;
        }
    }
}
