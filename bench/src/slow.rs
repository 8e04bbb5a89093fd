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
use crate::client::{Begin, Client, Closed};
use crate::gate::setup::{Contender, Running, Stage, neighbour};
use crate::goals::{self, Verdict};
use crate::metric::Metric;
use crate::results::{Measured, Role, Rounds};

/// Slow clients, and handshakes of the healthy one before and during, if nothing else is asked for.
pub(crate) const CLIENTS: u32 = 4_000;
pub(crate) const HANDSHAKES: u32 = 300;

/// The addresses of the slow clients: 127.0.0.2 and following. The healthy one has 127.0.0.1.
const ADDRESSES: u8 = 16;

/// Pause between two bytes of a slow client, and before it comes back when it is turned away at
/// once.
const PAUSE: Duration = Duration::from_secs(1);

/// Time over which the slow clients come, so that they are not given up all at once later; time for
/// the last ones to connect; and pause between two handshakes of the healthy one.
const GATHER: Duration = Duration::from_secs(5);
const SETTLE: Duration = Duration::from_secs(1);
const BETWEEN: Duration = Duration::from_millis(20);

/// What browsers prefer among what needs no post-quantum group.
const OFFER: Offer = Offer { suite: Suite::Aes128, group: Group::X25519 };

/// The beginning of a TLS record with a handshake of 508 bytes, of which a client hello of 504
/// bytes; what follows never makes it whole.
const BEGINNING: [u8; 9] = [0x16, 3, 1, 0x01, 0xfc, 0x01, 0x00, 0x01, 0xf8];

/// Measures and prints.
///
/// # Errors
/// When the gate is missing, a healthy handshake fails or slow clients are missing.
pub(crate) async fn run(options: &SlowOptions, files: usize) -> anyhow::Result<ExitCode> {
    let needed = files_for(options.slow);
    ensure!(
        files >= needed,
        "{} slow clients need {needed} open files, {files} are allowed: raise `ulimit -Hn`, or \
         give --slow less",
        options.slow
    );
    let directory = tempfile::Builder::new().prefix("bench-").tempdir()?;
    let stage = Stage::new(OFFER, directory.path())?;
    let subject = options.gate.clone().map_or_else(neighbour, Ok)?;
    let contender = Contender::Ours(subject);
    let running = stage.start(&contender).await?;
    let measured = measure(&stage, &running, options.slow, options.handshakes).await?;

    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", measured.table())?;
    writeln!(out, "slow clients connected: {} of {} at least", measured.least, options.slow)?;
    let program = Measured::new(contender.name(), contender.version(), Role::Ours);
    let mut rounds = Rounds::new(vec![program], 1);
    rounds.record(0, [(Metric::AmongSlow, measured.ratio())]);
    let verdicts = goals::judge(&rounds.finish());
    for verdict in &verdicts {
        writeln!(out, "{verdict}")?;
    }
    let missed = options.check && !verdicts.iter().all(Verdict::is_met);
    Ok(if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Descriptors of this program and of the gate.
pub(crate) fn files_for(slow: u32) -> usize {
    slow as usize + 200
}

/// Handshakes of a healthy client.
pub(crate) struct Outcome {
    alone: Histogram<u64>,
    among_slow: Histogram<u64>,
    /// Slow clients that were connected at each of the handshakes among them.
    least: usize,
    pub(crate) closed: Closed,
}

impl Outcome {
    /// How many times the median without the slow ones.
    pub(crate) fn ratio(&self) -> f64 {
        micros(&self.among_slow, 0.5) / micros(&self.alone, 0.5)
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(["healthy client's handshake", "p50", "p99", "max"]);
        for (name, times) in [("alone", &self.alone), ("among slow clients", &self.among_slow)] {
            let show = |quantile| format!("{:.2} ms", micros(times, quantile) / 1e3);
            table.add_row([name.to_owned(), show(0.5), show(0.99), show(1.0)]);
        }
        table
    }
}

/// `handshakes` without and among `slow` clients.
///
/// # Errors
/// When a healthy handshake fails, or more than one slow client in ten is not there: such a run is
/// none.
pub(crate) async fn measure(
    stage: &Stage,
    running: &Running,
    slow: u32,
    handshakes: u32,
) -> anyhow::Result<Outcome> {
    let client = stage.client(running, Begin::Full)?;
    let open = Arc::new(AtomicUsize::new(0));
    let alone = healthy(&client, handshakes, &open).await?;
    let mut clients = JoinSet::new();
    for number in 0..slow {
        let last = 2 + u8::try_from(number % u32::from(ADDRESSES))?;
        let source = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0);
        let first = GATHER.mul_f64(f64::from(number) / f64::from(slow));
        clients.spawn(slowly(source, running.address(), first, Arc::clone(&open)));
    }
    tokio::time::sleep(GATHER + SETTLE).await;
    let among_slow = healthy(&client, handshakes, &open).await?;
    clients.shutdown().await;
    let least = among_slow.least;
    ensure!(
        least * 10 >= slow as usize * 9,
        "no more than {least} of {slow} slow clients were connected at one of the handshakes"
    );
    Ok(Outcome {
        alone: alone.times,
        among_slow: among_slow.times,
        least,
        closed: alone.closed.or(among_slow.closed),
    })
}

struct Healthy {
    /// In microseconds.
    times: Histogram<u64>,
    /// Slow clients.
    least: usize,
    closed: Closed,
}

/// Handshakes, one at a time.
async fn healthy(client: &Client, count: u32, slow: &AtomicUsize) -> anyhow::Result<Healthy> {
    let mut times = Histogram::new(3)?;
    let mut least = usize::MAX;
    let mut closed = Closed::Properly;
    for _ in 0..count {
        let begun = Instant::now();
        let session = client.handshake().await.context("the healthy client")?;
        times.record(u64::try_from(begun.elapsed().as_micros())?)?;
        least = least.min(slow.load(Ordering::Relaxed));
        closed = closed.or(session.close().await?);
        tokio::time::sleep(BETWEEN).await;
    }
    Ok(Healthy { times, least, closed })
}

/// One byte a second, for as long as it is let; and then again.
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
