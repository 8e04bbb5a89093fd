//! What is measured of one program in one round.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use clap::ValueEnum;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::cli::GateOptions;
use crate::client::{Begin, Client, Closed, SMALL, Session};
use crate::gate::setup::{Contender, Running, Stage};
use crate::metric::Metric;
use crate::process::{Memory, Meter};

/// Connections being opened or closed at a time: httpGate's queue holds five.
const AT_A_TIME: usize = 4;

/// Connections of a batch of handshakes, all open for a moment: see [`Meter`].
const BATCH: usize = 50;

/// Connections of the round trips.
const TALKERS: u32 = 16;

/// Connections of the bulk transfer, and the block that each sends at once.
const PUMPS: usize = 4;
const BLOCK: usize = 64 * 1024;

/// Time for a program to finish what the last event left it to do, so that nothing moves past the
/// measured window.
const SETTLE: Duration = Duration::from_millis(300);

/// Cycles of opening and closing; when the rest is looked at again after the last one.
const CYCLES: usize = 5;
const LATER: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// A full handshake, the connection to the backend, one exchange, the close
    Handshake,
    /// The same with a ticket
    Resumed,
    /// A small message there and back
    RoundTrip,
    /// Large blocks there and back
    Bulk,
    /// Memory of connections that do nothing, in a fresh process; for our own builds also what
    /// five times opening and closing them leaves behind
    Idle,
}

/// The figures of one case, and how the connections were closed.
pub(crate) struct Outcome {
    pub(crate) figures: Vec<(Metric, f64)>,
    pub(crate) closed: Closed,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Handshake => "handshake",
            Self::Resumed => "resumed",
            Self::RoundTrip => "round-trip",
            Self::Bulk => "bulk",
            Self::Idle => "idle",
        })
    }
}

impl Case {
    pub(crate) const ALL: [Self; 5] =
        [Self::Handshake, Self::Resumed, Self::RoundTrip, Self::Bulk, Self::Idle];

    /// Measures it with a process started for this alone.
    ///
    /// # Errors
    /// Whatever went wrong with a connection or the program.
    pub(crate) async fn measure(
        self,
        options: &GateOptions,
        stage: &Stage,
        contender: &Contender,
    ) -> anyhow::Result<Outcome> {
        let running = stage.start(contender).await?;
        match self {
            Self::Handshake => {
                handshakes(options, stage, &running, Begin::Full, Metric::Handshake).await
            }
            Self::Resumed => {
                handshakes(options, stage, &running, Begin::Resumed, Metric::Resumed).await
            }
            Self::RoundTrip => round_trips(options, stage, &running).await,
            Self::Bulk => bulk(options, stage, &running).await,
            Self::Idle => {
                let cycles = if contender.is_peer() { 1 } else { CYCLES };
                idle(options, stage, &running, cycles).await
            }
        }
    }
}

async fn handshakes(
    options: &GateOptions,
    stage: &Stage,
    running: &Running,
    begin: Begin,
    metric: Metric,
) -> anyhow::Result<Outcome> {
    let client = stage.client(running, begin)?;
    // For tickets, and to warm the program up.
    close(client.open_together(2 * AT_A_TIME).await?).await?;
    close(open(&client, BATCH).await?).await?;
    let mut closed = Closed::Properly;
    let mut left = options.handshakes as usize;
    tokio::time::sleep(SETTLE).await;
    let mut meter = Meter::start(running.pid());
    while left > 0 {
        let count = left.min(BATCH);
        let sessions = open(&client, count).await?;
        let resumed = sessions.iter().filter(|session| session.is_resumed()).count();
        let wanted = if begin == Begin::Resumed { count } else { 0 };
        ensure!(resumed == wanted, "{resumed} of {count} connections were resumed");
        meter.sample();
        closed = worse(closed, close(sessions).await?);
        left -= count;
    }
    tokio::time::sleep(SETTLE).await;
    let each = micros(meter.sample()) / f64::from(options.handshakes);
    Ok(Outcome { figures: vec![(metric, each)], closed })
}

async fn round_trips(
    options: &GateOptions,
    stage: &Stage,
    running: &Running,
) -> anyhow::Result<Outcome> {
    let client = stage.client(running, Begin::Full)?;
    let each = options.round_trips.div_ceil(TALKERS);
    let sessions = talk(open(&client, TALKERS as usize).await?, each.div_ceil(20)).await?;
    let mut meter = Meter::start(running.pid());
    let sessions = talk(sessions, each).await?;
    let spent = micros(meter.sample()) / f64::from(each * TALKERS);
    let closed = close(sessions).await?;
    Ok(Outcome { figures: vec![(Metric::RoundTrip, spent)], closed })
}

async fn talk(sessions: Vec<Session>, times: u32) -> anyhow::Result<Vec<Session>> {
    let talking = sessions.into_iter().map(|mut session| {
        tokio::spawn(async move {
            let message: [u8; SMALL] = std::array::from_fn(|i| b"abcdefghijk"[i % 11]);
            let mut reply = [0; SMALL];
            for _ in 0..times {
                session.exchange(&message, &mut reply).await?;
            }
            anyhow::Ok(session)
        })
    });
    let talked: Vec<_> = talking.collect();
    stream::iter(talked).then(|task| async { task.await? }).try_collect().await
}

async fn bulk(options: &GateOptions, stage: &Stage, running: &Running) -> anyhow::Result<Outcome> {
    let client = stage.client(running, Begin::Full)?;
    let blocks = (options.bulk as usize * 1024 * 1024).div_ceil(BLOCK * PUMPS);
    let sessions = pump(open(&client, PUMPS).await?, blocks.div_ceil(20)).await?;
    tokio::time::sleep(SETTLE).await;
    let mut meter = Meter::start(running.pid());
    let sessions = pump(sessions, blocks).await?;
    tokio::time::sleep(SETTLE).await;
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let spent = micros(meter.sample()) / (blocks * PUMPS * BLOCK / 1024) as f64;
    let closed = close(sessions).await?;
    Ok(Outcome { figures: vec![(Metric::Bulk, spent)], closed })
}

async fn pump(sessions: Vec<Session>, blocks: usize) -> anyhow::Result<Vec<Session>> {
    let block: Arc<[u8]> = (0..BLOCK).map(|i| b"bulk of bytes "[i % 14]).collect();
    let pumping: Vec<_> = sessions
        .into_iter()
        .map(|session| tokio::spawn(session.pump(Arc::clone(&block), blocks)))
        .collect();
    stream::iter(pumping).then(|task| async { task.await? }).try_collect().await
}

async fn idle(
    options: &GateOptions,
    stage: &Stage,
    running: &Running,
    cycles: usize,
) -> anyhow::Result<Outcome> {
    let client = stage.client(running, Begin::Full)?;
    let count = options.idle as usize;
    tokio::time::sleep(SETTLE).await;
    let fresh = Memory::of_tree(running.pid())?;
    let mut closed = Closed::Properly;
    let mut user = Vec::new();
    let mut full = Vec::new();
    let mut empty = Vec::new();
    for _ in 0..cycles {
        let sessions = open(&client, count).await?;
        tokio::time::sleep(SETTLE).await;
        let memory = Memory::of_tree(running.pid())?;
        user.push(of(memory.user, fresh.user) / f64::from(options.idle));
        full.push(memory.resident);
        closed = worse(closed, close(sessions).await?);
        tokio::time::sleep(SETTLE).await;
        empty.push(Memory::of_tree(running.pid())?.resident);
    }
    let mut figures = vec![(Metric::Idle, user.first().copied().unwrap_or(f64::NAN))];
    if let ([first, .., last], [.., peak]) = (&empty[..], &full[..]) {
        tokio::time::sleep(LATER).await;
        let later = Memory::of_tree(running.pid())?.resident;
        figures.push((Metric::Growth, of(*last, 0) / of(*first, 0)));
        figures.push((Metric::Kept, of(later, fresh.resident) / of(*peak, fresh.resident)));
    }
    Ok(Outcome { figures, closed })
}

async fn open(client: &Client, count: usize) -> anyhow::Result<Vec<Session>> {
    stream::iter(0..count)
        .map(|_| {
            let client = client.clone();
            async move { tokio::spawn(async move { client.open().await }).await? }
        })
        .buffer_unordered(AT_A_TIME)
        .try_collect()
        .await
}

async fn close(sessions: Vec<Session>) -> anyhow::Result<Closed> {
    stream::iter(sessions)
        .map(|session| async move { tokio::spawn(session.close()).await? })
        .buffer_unordered(AT_A_TIME)
        .try_fold(Closed::Properly, |so_far, closed| async move { Ok(worse(so_far, closed)) })
        .await
}

fn worse(one: Closed, other: Closed) -> Closed {
    if one == Closed::Properly { other } else { one }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The bytes of `now` beyond those of `before`.
#[allow(clippy::cast_precision_loss, reason = "memory is far below 2^52 bytes")]
fn of(now: u64, before: u64) -> f64 {
    now as f64 - before as f64
}
