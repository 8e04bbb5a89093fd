//! What is measured of one program in one round.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use clap::ValueEnum;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::cli::gate::GateOptions;
use crate::client::{Begin, Client, Closed, SMALL, Session};
use crate::gate::setup::{Contender, Running, Stage};
use crate::metric::Metric;
use crate::process::{Memory, Meter};
use crate::results::Role;
use crate::slow;

/// Connections of a batch of handshakes, all open for a moment: see [`Meter`].
const BATCH: usize = 50;

/// Processes that share a round's work, one after the other. How a program happens to spread its
/// first connections over its workers stays for the life of the process, and decides how often it
/// sleeps: one process alone may be a third off.
const STARTS: u32 = 3;

/// Connections of the round trips.
const TALKERS: u32 = 16;

/// Connections of the bulk transfer, which are few enough to be opened at once, and the block that each sends at once.
const PUMPS: usize = 4;
const BLOCK: usize = 64 * 1024;

/// Time for a program to finish what the last event left it to do, so that nothing moves past the
/// measured window.
const SETTLE: Duration = Duration::from_millis(100);

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
    /// For our own builds: a healthy client's handshake while thousands never finish theirs
    SlowHandshakes,
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
            Self::SlowHandshakes => "slow-handshakes",
        })
    }
}

impl Case {
    pub(crate) const ALL: [Self; 6] = [
        Self::Handshake,
        Self::Resumed,
        Self::RoundTrip,
        Self::Bulk,
        Self::Idle,
        Self::SlowHandshakes,
    ];

    /// Measures it with processes started for this alone.
    ///
    /// # Errors
    /// Whatever went wrong with a connection or the program.
    pub(crate) async fn measure(
        self,
        options: &GateOptions,
        stage: &Stage,
        contender: &Contender,
    ) -> anyhow::Result<Outcome> {
        if self == Self::Idle {
            let running = stage.start(contender).await?;
            let cycles = if contender.role() == Role::Ours { CYCLES } else { 1 };
            return idle(options, stage, &running, cycles).await;
        }
        if self == Self::SlowHandshakes {
            return slow_handshakes(stage, contender).await;
        }
        let mut sum = 0.0;
        let mut closed = Closed::Properly;
        for _ in 0..STARTS {
            let running = stage.start(contender).await?;
            let (figure, how) = match self {
                Self::Handshake | Self::Idle | Self::SlowHandshakes => {
                    handshakes(options, stage, &running, Begin::Full).await?
                }
                Self::Resumed => handshakes(options, stage, &running, Begin::Resumed).await?,
                Self::RoundTrip => round_trips(options, stage, &running).await?,
                Self::Bulk => bulk(options, stage, &running).await?,
            };
            sum += figure;
            closed = closed.or(how);
        }
        Ok(Outcome { figures: vec![(self.metric(), sum / f64::from(STARTS))], closed })
    }

    fn metric(self) -> Metric {
        match self {
            Self::Handshake => Metric::Handshake,
            Self::Resumed => Metric::Resumed,
            Self::RoundTrip => Metric::RoundTrip,
            Self::Bulk => Metric::Bulk,
            Self::Idle => Metric::Idle,
            Self::SlowHandshakes => Metric::AmongSlow,
        }
    }
}

async fn handshakes(
    options: &GateOptions,
    stage: &Stage,
    running: &Running,
    begin: Begin,
) -> anyhow::Result<(f64, Closed)> {
    let client = stage.client(running, begin)?;
    // For tickets, and to warm the program up.
    let at_a_time = usize::from(options.at_a_time);
    close(client.open_together(2 * at_a_time).await?, at_a_time).await?;
    close(open(&client, BATCH, at_a_time).await?, at_a_time).await?;
    let mut closed = Closed::Properly;
    let count = options.handshakes.div_ceil(STARTS);
    let mut left = count as usize;
    tokio::time::sleep(SETTLE).await;
    let mut meter = Meter::start(running.pid());
    while left > 0 {
        let batch = left.min(BATCH);
        let sessions = open(&client, batch, at_a_time).await?;
        let resumed = sessions.iter().filter(|session| session.is_resumed()).count();
        let wanted = if begin == Begin::Resumed { batch } else { 0 };
        ensure!(resumed == wanted, "{resumed} of {batch} connections were resumed");
        meter.sample();
        closed = closed.or(close(sessions, at_a_time).await?);
        left -= batch;
    }
    tokio::time::sleep(SETTLE).await;
    Ok((micros(meter.sample()) / f64::from(count), closed))
}

async fn round_trips(
    options: &GateOptions,
    stage: &Stage,
    running: &Running,
) -> anyhow::Result<(f64, Closed)> {
    let client = stage.client(running, Begin::Full)?;
    let each = options.round_trips.div_ceil(TALKERS * STARTS);
    let sessions = talk(open(&client, TALKERS as usize, PUMPS).await?, each.div_ceil(20)).await?;
    let mut meter = Meter::start(running.pid());
    let sessions = talk(sessions, each).await?;
    let spent = micros(meter.sample()) / f64::from(each * TALKERS);
    Ok((spent, close(sessions, PUMPS).await?))
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

async fn bulk(
    options: &GateOptions,
    stage: &Stage,
    running: &Running,
) -> anyhow::Result<(f64, Closed)> {
    let client = stage.client(running, Begin::Full)?;
    let blocks = (options.bulk as usize * 1024 * 1024).div_ceil(BLOCK * PUMPS * STARTS as usize);
    let sessions = pump(open(&client, PUMPS, PUMPS).await?, blocks.div_ceil(20)).await?;
    tokio::time::sleep(SETTLE).await;
    let mut meter = Meter::start(running.pid());
    let sessions = pump(sessions, blocks).await?;
    tokio::time::sleep(SETTLE).await;
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let spent = micros(meter.sample()) / (blocks * PUMPS * BLOCK / 1024) as f64;
    Ok((spent, close(sessions, PUMPS).await?))
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
    let at_a_time = usize::from(options.at_a_time);
    tokio::time::sleep(SETTLE).await;
    let fresh = Memory::of_tree(running.pid())?;
    let mut closed = Closed::Properly;
    let mut user = Vec::new();
    let mut full = Vec::new();
    let mut empty = Vec::new();
    for _ in 0..cycles {
        let sessions = open(&client, count, at_a_time).await?;
        tokio::time::sleep(SETTLE).await;
        let memory = Memory::of_tree(running.pid())?;
        user.push(of(memory.user, fresh.user) / f64::from(options.idle));
        full.push(memory.resident);
        closed = closed.or(close(sessions, at_a_time).await?);
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

/// Nothing of peers: each has other bounds, and few of them any.
async fn slow_handshakes(stage: &Stage, contender: &Contender) -> anyhow::Result<Outcome> {
    if contender.role() != Role::Ours {
        return Ok(Outcome { figures: Vec::new(), closed: Closed::Properly });
    }
    let running = stage.start(contender).await?;
    let measured = slow::measure(stage, &running, slow::CLIENTS, slow::HANDSHAKES).await?;
    Ok(Outcome { figures: vec![(Metric::AmongSlow, measured.ratio())], closed: measured.closed })
}

async fn open(client: &Client, count: usize, at_a_time: usize) -> anyhow::Result<Vec<Session>> {
    stream::iter(0..count)
        .map(|_| {
            let client = client.clone();
            async move { tokio::spawn(async move { client.open().await }).await? }
        })
        .buffer_unordered(at_a_time)
        .try_collect()
        .await
}

async fn close(sessions: Vec<Session>, at_a_time: usize) -> anyhow::Result<Closed> {
    stream::iter(sessions)
        .map(|session| async move { tokio::spawn(session.close()).await? })
        .buffer_unordered(at_a_time)
        .try_fold(Closed::Properly, |so_far, closed| async move { Ok(so_far.or(closed)) })
        .await
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// The bytes of `now` beyond those of `before`.
#[allow(clippy::cast_precision_loss, reason = "memory is far below 2^52 bytes")]
fn of(now: u64, before: u64) -> f64 {
    now as f64 - before as f64
}
