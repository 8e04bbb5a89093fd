//! Thousands of clients that never finish their handshakes, and a healthy one among them.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use comfy_table::{Table, presets};
use hdrhistogram::Histogram;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::cli::gate::{Group, Offer, SlowOptions, Suite};
use crate::client::{Begin, Client};
use crate::gate::setup::{Contender, Stage, neighbour};
use crate::goals::Verdict;

/// The addresses of the slow clients: 127.0.0.2 and following. The healthy one has 127.0.0.1.
const ADDRESSES: u8 = 16;

/// Pause between two bytes of a slow client, and before it comes back when it is turned away.
const PAUSE: Duration = Duration::from_secs(1);

/// Time for the slow clients to connect, and pause between two handshakes of the healthy one.
const GATHER: Duration = Duration::from_secs(5);
const BETWEEN: Duration = Duration::from_millis(20);

/// The healthy client's median may be this many times that without the slow ones.
const MOST: f64 = 2.0;

/// What browsers prefer among what needs no post-quantum group.
const OFFER: Offer = Offer { suite: Suite::Aes128, group: Group::X25519 };

/// The beginning of a TLS record with a handshake of 508 bytes, of which a client hello of 504
/// bytes; what follows never makes it whole.
const BEGINNING: [u8; 9] = [0x16, 3, 1, 0x01, 0xfc, 0x01, 0x00, 0x01, 0xf8];

/// Measures and prints.
///
/// # Errors
/// When the gate is missing or a healthy handshake fails.
pub(crate) async fn run(options: &SlowOptions, files: usize) -> anyhow::Result<ExitCode> {
    let needed = options.slow as usize + 200;
    ensure!(
        files >= needed,
        "{} slow clients need {needed} open files, {files} are allowed: raise `ulimit -Hn`, or \
         give --slow less",
        options.slow
    );
    let directory = tempfile::Builder::new().prefix("bench-").tempdir()?;
    let stage = Stage::new(OFFER, directory.path())?;
    let subject = options.gate.clone().map_or_else(neighbour, Ok)?;
    let running = stage.start(&Contender::Ours(subject)).await?;
    let client = stage.client(&running, Begin::Full)?;

    let quiet = healthy(&client, options.handshakes).await?;
    let open = Arc::new(AtomicUsize::new(0));
    let mut slow = JoinSet::new();
    for number in 0..options.slow {
        let last = 2 + u8::try_from(number % u32::from(ADDRESSES))?;
        let source = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0);
        slow.spawn(slowly(source, running.address(), Arc::clone(&open)));
    }
    tokio::time::sleep(GATHER).await;
    let before = open.load(Ordering::Relaxed);
    let loaded = healthy(&client, options.handshakes).await?;
    let after = open.load(Ordering::Relaxed);
    slow.abort_all();

    let ratio = micros(&loaded, 0.5) / micros(&quiet, 0.5);
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", table(&quiet, &loaded))?;
    writeln!(out, "slow clients connected: {before} at the beginning, {after} at the end")?;
    let verdict = Verdict::new(
        "healthy handshake among slow ones".to_owned(),
        ratio,
        MOST,
        format!("{ratio:.2} × its unloaded time (medians), goal {MOST:.2}"),
    );
    writeln!(out, "{verdict}")?;
    let missed = options.check && !verdict.is_met();
    Ok(if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Microseconds of handshakes, one at a time.
async fn healthy(client: &Client, count: u32) -> anyhow::Result<Histogram<u64>> {
    let mut times = Histogram::new(3)?;
    for _ in 0..count {
        let begun = Instant::now();
        let session = client.handshake().await.context("the healthy client")?;
        times.record(u64::try_from(begun.elapsed().as_micros())?)?;
        session.close().await?;
        tokio::time::sleep(BETWEEN).await;
    }
    Ok(times)
}

/// One byte a second, for as long as it is let; and then again.
async fn slowly(source: SocketAddr, gate: SocketAddr, open: Arc<AtomicUsize>) {
    loop {
        if let Ok(stream) = connect(source, gate).await {
            open.fetch_add(1, Ordering::Relaxed);
            trickle(stream).await;
            open.fetch_sub(1, Ordering::Relaxed);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn connect(source: SocketAddr, gate: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(source)?;
    let stream = socket.connect(gate).await?;
    // Thousands of ports would otherwise wait for a minute after each round.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(stream)
}

async fn trickle(mut stream: TcpStream) {
    let mut next: &[u8] = &BEGINNING;
    let mut reply = [0];
    while stream.write_all(next).await.is_ok() {
        next = &[0];
        // The gate says nothing to an unfinished hello: whatever comes is the end.
        if tokio::time::timeout(PAUSE, stream.read(&mut reply)).await.is_ok() {
            return;
        }
    }
}

fn micros(times: &Histogram<u64>, quantile: f64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "microseconds of some seconds")]
    let micros = times.value_at_quantile(quantile) as f64;
    micros
}

fn table(quiet: &Histogram<u64>, loaded: &Histogram<u64>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["healthy client's handshake", "p50", "p99", "max"]);
    for (name, times) in [("alone", quiet), ("among slow clients", loaded)] {
        let show = |micros: f64| format!("{:.2} ms", micros / 1e3);
        table.add_row([
            name.to_owned(),
            show(micros(times, 0.5)),
            show(micros(times, 0.99)),
            show(micros(times, 1.0)),
        ]);
    }
    table
}
