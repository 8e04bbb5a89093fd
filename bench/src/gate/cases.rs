//! The measurements of one gate in one round.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use super::client::{Client, Handshake, Session};
use super::{Gate, RunningGate, slow_handshakes};
use crate::compare::{Case, Compared, Trial};
use crate::options::range;
use crate::programs::program::{Memory, Meter};
use crate::report::figure::Figures;
use crate::run;

/// How many handshakes are in a batch. The connections of a batch are open at the same time, for
/// the reason that [`Meter`] has.
const BATCH: usize = 50;

/// How many processes share the work of a round, one after the other. Each process assigns its
/// first connections to its workers by chance and keeps this assignment. The assignment decides how
/// often the process sleeps, so the figure of a single process can be wrong by a third.
const STARTS: usize = 3;

/// The number of slow clients.
const SLOW: usize = slow_handshakes::CLIENTS as usize;

/// The number of connections that make round trips.
const TALKERS: usize = 16;

/// The number of connections of the bulk transfer, which are opened at the same time, and the block
/// that each of them sends.
const PUMPS: usize = 4;
const BLOCK: usize = 64 * 1024;

/// The wait after the last event, so that the program's work for it falls into the measured time.
const SETTLE: Duration = Duration::from_millis(100);

/// How often the idle connections of our own builds are opened and closed, and the time until
/// memory is measured again.
const CYCLES: usize = 5;
const LATER: Duration = Duration::from_secs(15);

/// The load of a gate in a round.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct GateLoad {
    /// The number of handshakes in a round
    #[arg(long, default_value = "600", value_parser = range(1..=100_000))]
    pub(crate) handshakes: u32,

    /// Handshakes at the same time. With fewer, a program sleeps and wakes for each handshake,
    /// which costs CPU time
    #[arg(long, default_value = "16", value_parser = range(1..=50))]
    pub(crate) at_a_time: u32,

    /// Round trips in a round, on 16 connections together
    #[arg(long, default_value = "48000", value_parser = range(16..=10_000_000))]
    pub(crate) round_trips: u32,

    /// MiB echoed in a round, on 4 connections together
    #[arg(long, default_value = "192", value_parser = range(4..=65_536))]
    pub(crate) bulk: u32,

    /// The number of idle connections
    #[arg(long, default_value = "3000", value_parser = range(50..=20_000))]
    pub(crate) idle: u32,
}

/// A gate and its load.
pub(crate) struct Loaded {
    pub(crate) gate: Gate,
    pub(crate) load: GateLoad,
}

impl Compared for Loaded {
    const SECTION: &'static str = "gate";
    const ROUNDS: &'static str = "5";
    const CASES: &'static [Case<Self>] = &[
        Case { name: "handshake", connections: BATCH, measure },
        Case { name: "resumed", connections: BATCH, measure },
        Case { name: "round-trip", connections: TALKERS, measure },
        Case { name: "bulk", connections: PUMPS, measure },
        Case { name: "idle", connections: 0, measure },
        Case { name: "slow-handshakes", connections: SLOW, measure },
    ];
}

fn measure(trial: &Trial<'_, Loaded>) -> Result<Figures> {
    run::block_on(async {
        match trial.case {
            "idle" => idle(trial).await,
            "slow-handshakes" => among_slow(trial).await,
            figure => Ok(vec![(figure, Some(mean(trial).await?))]),
        }
    })
}

/// Returns the CPU time of an operation as the mean over several fresh processes.
async fn mean(trial: &Trial<'_, Loaded>) -> Result<f64> {
    let Loaded { gate, load } = trial.program;
    let mut sum = 0.0;
    for _ in 0..STARTS {
        let running = gate.start(trial.directory).await?;
        sum += match trial.case {
            "resumed" => handshakes(load, &running, Handshake::Resumed).await?,
            "round-trip" => round_trips(load, &running).await?,
            "bulk" => bulk(load, &running).await?,
            _ => handshakes(load, &running, Handshake::Full).await?,
        };
        gate.note(&running)?;
    }
    Ok(sum / STARTS as f64)
}

async fn handshakes(load: &GateLoad, running: &RunningGate, handshake: Handshake) -> Result<f64> {
    let client = Client::new(&running.endpoint, handshake)?;
    // These handshakes collect tickets and warm the program up.
    let at_a_time = load.at_a_time as usize;
    close(client.open_together(2 * at_a_time).await?, at_a_time).await?;
    close(open(&client, BATCH, at_a_time).await?, at_a_time).await?;
    let count = (load.handshakes as usize).div_ceil(STARTS);
    let mut left = count;
    tokio::time::sleep(SETTLE).await;
    let mut meter = Meter::start(running.program.pid);
    while left > 0 {
        let batch = left.min(BATCH);
        let sessions = open(&client, batch, at_a_time).await?;
        let resumed = sessions.iter().filter(|session| session.is_resumed()).count();
        let wanted = if handshake == Handshake::Resumed { batch } else { 0 };
        ensure!(resumed == wanted, "{resumed} of {batch} connections were resumed");
        meter.sample();
        close(sessions, at_a_time).await?;
        left -= batch;
    }
    tokio::time::sleep(SETTLE).await;
    Ok(meter.micros_each(count as f64))
}

async fn round_trips(load: &GateLoad, running: &RunningGate) -> Result<f64> {
    let each = (load.round_trips as usize).div_ceil(TALKERS * STARTS);
    repeat(running, TALKERS, each, Session::talk).await
}

async fn bulk(load: &GateLoad, running: &RunningGate) -> Result<f64> {
    let block: Arc<[u8]> = (0..BLOCK).map(|i| b"bulk of bytes "[i % 14]).collect();
    let blocks = (load.bulk as usize * 1024 * 1024).div_ceil(BLOCK * PUMPS * STARTS);
    let pump = |session: Session, count| session.pump(Arc::clone(&block), count);
    Ok(repeat(running, PUMPS, blocks, pump).await? / (BLOCK / 1024) as f64)
}

/// Returns the CPU time of one `work` in microseconds. Each connection first does a twentieth of
/// `times` to warm up, and then `times` that are measured.
async fn repeat<F>(
    running: &RunningGate,
    connections: usize,
    times: usize,
    work: impl Fn(Session, usize) -> F,
) -> Result<f64>
where
    F: Future<Output = Result<Session>> + Send + 'static,
{
    let sessions =
        open(&Client::new(&running.endpoint, Handshake::Full)?, connections, PUMPS).await?;
    let sessions = together(sessions, |session| work(session, times.div_ceil(20))).await?;
    tokio::time::sleep(SETTLE).await;
    let mut meter = Meter::start(running.program.pid);
    let sessions = together(sessions, |session| work(session, times)).await?;
    tokio::time::sleep(SETTLE).await;
    let micros = meter.micros_each((times * connections) as f64);
    close(sessions, PUMPS).await?;
    Ok(micros)
}

async fn idle(trial: &Trial<'_, Loaded>) -> Result<Figures> {
    let Loaded { gate, load } = trial.program;
    let running = gate.start(trial.directory).await?;
    let client = Client::new(&running.endpoint, Handshake::Full)?;
    let (count, at_a_time) = (load.idle as usize, load.at_a_time as usize);
    let memory = || Memory::of_tree(running.program.pid);
    tokio::time::sleep(SETTLE).await;
    let fresh = memory()?;
    let (mut full, mut empty) = (Vec::new(), Vec::new());
    for _ in 0..if gate.build.is_some() { CYCLES } else { 1 } {
        let sessions = open(&client, count, at_a_time).await?;
        tokio::time::sleep(SETTLE).await;
        full.push(memory()?);
        close(sessions, at_a_time).await?;
        gate.note(&running)?;
        tokio::time::sleep(SETTLE).await;
        empty.push(memory()?);
    }
    let mut figures = vec![("idle", Some((full[0].user - fresh.user) / count as f64))];
    if let ([first, .., last], [.., peak]) = (&empty[..], &full[..]) {
        tokio::time::sleep(LATER).await;
        let kept = (memory()?.resident - fresh.resident) / (peak.resident - fresh.resident);
        figures.push(("growth", Some(last.resident / first.resident)));
        figures.push(("kept", Some(kept)));
    }
    Ok(figures)
}

async fn among_slow(trial: &Trial<'_, Loaded>) -> Result<Figures> {
    let gate = &trial.program.gate;
    let running = gate.start(trial.directory).await?;
    let (clients, handshakes) = (slow_handshakes::CLIENTS, slow_handshakes::HANDSHAKES);
    let measured = slow_handshakes::measure(&running, clients, handshakes).await?;
    gate.note(&running)?;
    Ok(vec![("among-slow", Some(measured.ratio()))])
}

async fn open(client: &Client, count: usize, at_a_time: usize) -> Result<Vec<Session>> {
    stream::iter(0..count)
        .map(|_| {
            let client = client.clone();
            async move { tokio::spawn(async move { client.open().await }).await? }
        })
        .buffer_unordered(at_a_time)
        .try_collect()
        .await
}

/// Does `work` on all connections at the same time.
async fn together<F>(sessions: Vec<Session>, work: impl Fn(Session) -> F) -> Result<Vec<Session>>
where
    F: Future<Output = Result<Session>> + Send + 'static,
{
    let tasks: Vec<_> = sessions.into_iter().map(|session| tokio::spawn(work(session))).collect();
    stream::iter(tasks).then(|task| async { task.await? }).try_collect().await
}

async fn close(sessions: Vec<Session>, at_a_time: usize) -> Result<()> {
    stream::iter(sessions)
        .map(|session| async move { tokio::spawn(session.close()).await? })
        .buffer_unordered(at_a_time)
        .try_collect()
        .await
}
