//! Measures broadcasts to many listeners of one server.

use std::io::Write as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use rustix::process::Pid;
use tempfile::TempDir;

use super::{AT_A_TIME, MESSAGE_SIZE, Server, TAG, TargetOptions};
use crate::load::broadcast::{Published, Publisher, Schedule};
use crate::load::listeners::Listeners;
use crate::load::target::Target;
use crate::load::wire::{Latencies, now};
use crate::options::range;
use crate::programs::program::{Memory, Meter, Program};
use crate::report::{latencies, micros, of_rows, row};
use crate::run;

/// How long the load runs before it is measured.
pub(crate) const WARM_UP: Duration = Duration::from_secs(2);

/// The wait after the last event, so that the program's work for it falls into the measured time.
const SETTLE: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(crate) struct FanoutOptions {
    #[command(flatten)]
    to: TargetOptions,

    /// The number of listeners
    #[arg(long, default_value = "2000", value_parser = range(1..=1_000_000))]
    subscribers: u32,

    /// The number of tags, each with an equal share of the listeners
    #[arg(long, default_value = "1", value_parser = range(1..=10_000))]
    tags: u32,

    /// Name of the tag. Several tags are numbered
    #[arg(long, default_value = TAG)]
    tag: String,

    /// Messages a second
    #[arg(long, default_value = "10", value_parser = positive)]
    rate: f64,

    /// Messages of a burst. The time between two bursts follows from the rate
    #[arg(long, default_value = "1", value_parser = range(1..=1_000))]
    burst: u32,

    /// Bytes of a message
    #[arg(long, default_value = "125", value_parser = range(34..=65_536))]
    size: u32,

    /// Seconds of the measurement, after two seconds of the same load
    #[arg(long, default_value = "10", value_parser = range(0..=3_600))]
    seconds: u32,

    /// Connections opened at the same time
    #[arg(long, default_value = "16", value_parser = range(1..=100_000))]
    at_a_time: u32,

    /// Print one line of latencies, for a program that reads it
    #[arg(long, hide = true)]
    brief: bool,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.001 && number <= 1e6 => Ok(number),
        _ => Err("give a number above 0.001, and a million at most".to_owned()),
    }
}

/// The listeners of one server, and a publisher for them.
pub(crate) struct Fanout {
    target: Arc<Target>,
    listeners: Listeners,
    /// The publisher connects only when it is needed, because the floor takes a silent connection
    /// for a listener.
    publisher: Option<Publisher>,
    pid: Option<Pid>,
}

/// The cost of a listener.
pub(crate) struct JoinCost {
    /// The CPU time of connecting, upgrading and registering, in microseconds.
    pub(crate) micros: Option<f64>,
    /// The memory that a listener adds to [`Memory::user`], in bytes.
    pub(crate) bytes: Option<f64>,
}

/// The cost of deliveries.
pub(crate) struct Delivered {
    published: Published,
    /// The CPU time of a delivery in microseconds.
    pub(crate) micros: Option<f64>,
    /// Nanoseconds from sending to arrival.
    pub(crate) latencies: Latencies,
}

impl Fanout {
    /// Returns a load without any listener yet.
    pub(crate) fn new(server: &Server, tags: Arc<[String]>) -> Result<Self> {
        let (target, listeners) =
            (Arc::clone(&server.target), Listeners::new(&server.target, tags)?);
        Ok(Self { target, listeners, publisher: None, pid: server.pid })
    }

    /// Returns a load of `count` listeners on the tag of the comparisons.
    pub(crate) fn of(server: &Server, count: usize) -> Result<Self> {
        let mut fanout = Self::new(server, tag())?;
        fanout.open(count, AT_A_TIME)?;
        Ok(fanout)
    }

    /// Adds `count` listeners and spreads them evenly over the tags. Returns what one of them
    /// costs.
    ///
    /// # Errors
    /// When a listener cannot join, or the process has ended.
    pub(crate) fn open(&mut self, count: usize, at_a_time: usize) -> Result<JoinCost> {
        self.listeners.listen_for(SETTLE)?;
        let before = self.pid.map(Memory::of_tree).transpose()?;
        let mut meter = self.pid.map(Meter::start);
        self.listeners.open(count, at_a_time)?;
        self.listeners.listen_for(SETTLE)?;
        let micros = meter.as_mut().map(|meter| meter.micros_each(count as f64));
        let after = self.pid.map(Memory::of_tree).transpose()?;
        let bytes =
            before.zip(after).map(|(before, after)| (after.user - before.user) / count as f64);
        Ok(JoinCost { micros, bytes })
    }

    /// Publishes by the schedule `warm_up`, then by `schedule`, which is measured.
    ///
    /// # Errors
    /// When a listener missed a message or got it twice.
    pub(crate) fn deliver(&mut self, warm_up: &Schedule, schedule: &Schedule) -> Result<Delivered> {
        self.broadcast(warm_up)?;
        self.listeners.listen_for(SETTLE)?;
        self.listeners.measure_from(now());
        let mut meter = self.pid.map(Meter::start);
        let published = self.broadcast(schedule)?;
        self.listeners.listen_for(SETTLE)?;
        let micros = meter.as_mut().map(|meter| meter.micros_each(published.deliveries as f64));
        Ok(Delivered { published, micros, latencies: self.listeners.tally.latencies.clone() })
    }

    /// Listens until `stop` to what others publish. Returns the CPU of a delivery, in microseconds.
    ///
    /// # Errors
    /// When nothing was delivered.
    pub(crate) fn listen(mut self, stop: &AtomicBool) -> Result<f64> {
        let mut meter = Meter::start(self.pid.context("no process")?);
        let before = self.listeners.tally.messages;
        while !stop.load(Ordering::Relaxed) {
            self.listeners.listen_for(Duration::from_millis(50))?;
        }
        let messages = self.listeners.tally.messages - before;
        ensure!(messages > 0, "nothing was delivered");
        Ok(meter.micros_each(messages as f64))
    }

    fn broadcast(&mut self, schedule: &Schedule) -> Result<Published> {
        let publisher = match &mut self.publisher {
            Some(publisher) => publisher,
            absent => absent.insert(Publisher::connect(&self.target)?),
        };
        publisher.broadcast(&mut self.listeners, schedule)
    }
}

/// Gives two servers with the same listeners their messages in turn, so that other work of the machine
/// concerns both. Returns the mean of `value` for each, without the first turn.
pub(crate) fn in_turn(
    servers: [&Server; 2],
    listeners: usize,
    rate: f64,
    turns: u32,
    value: impl Fn(&Delivered) -> Result<f64>,
) -> Result<[f64; 2]> {
    let [one, other] = servers.map(|server| Fanout::of(server, listeners));
    let mut fanouts = [one?, other?];
    let mut sums = [0.0; 2];
    for turn in 0..=turns {
        for (fanout, sum) in fanouts.iter_mut().zip(&mut sums) {
            // Each server has slept while the other one worked, so it warms up first.
            let [warm_up, measured] = [500, 1_000].map(|time| schedule(rate, 1, time));
            let delivered = fanout.deliver(&warm_up, &measured)?;
            if turn > 0 {
                *sum += value(&delivered)?;
            }
        }
    }
    Ok(sums.map(|sum| sum / f64::from(turns)))
}

/// Returns a schedule on the tag of the comparisons for `millis` milliseconds.
pub(crate) fn schedule(rate: f64, burst: usize, millis: u64) -> Schedule {
    Schedule::at(&tag(), rate, burst, MESSAGE_SIZE as usize, Duration::from_millis(millis))
}

pub(crate) fn tag() -> Arc<[String]> {
    [TAG.to_owned()].into()
}

/// Measures the broadcasts and prints the figures.
///
/// # Errors
/// When the server is missing, or a listener missed a message.
pub(crate) fn run(options: &FanoutOptions) -> Result<()> {
    let count = options.subscribers as usize;
    run::ensure_open_files(count, "listeners", "give --subscribers less")?;
    let tags = names(&options.tag, options.tags);
    let server = Server::of(&options.to, &tags)?;
    let mut fanout = Fanout::new(&server, Arc::clone(&tags))?;
    let cost = fanout.open(count, options.at_a_time as usize)?;
    let mut rows = vec![
        row("CPU to connect, upgrade and register", cost.micros.map(micros)),
        row("user memory of a listener", cost.bytes.map(|bytes| format!("{bytes:.0} B"))),
    ];
    let mut out = std::io::stdout().lock();
    if options.seconds > 0 {
        let (burst, size) = (options.burst as usize, options.size as usize);
        let schedule = |time| Schedule::at(&tags, options.rate, burst, size, time);
        let seconds = Duration::from_secs(options.seconds.into());
        let done = fanout.deliver(&schedule(WARM_UP), &schedule(seconds))?;
        let times = done.latencies.quantiles();
        if options.brief {
            writeln!(out, "{LINE}{} {} {}", times[0], times[1], times[2])?;
            return Ok(());
        }
        rows.extend([
            row("messages", Some(done.published.messages.to_string())),
            row("deliveries", Some(done.published.deliveries.to_string())),
            row("CPU of a delivery", done.micros.map(micros)),
        ]);
        rows.extend(latencies("latency", times));
        rows.push(row("publisher late by at most", Some(format!("{:.2?}", done.published.late))));
    }
    Ok(writeln!(out, "{}", of_rows(rows))?)
}

/// Returns the tag alone, or with numbers: `tag-1`, `tag-2` and so on.
fn names(tag: &str, count: u32) -> Arc<[String]> {
    match count {
        1 => [tag.to_owned()].into(),
        count => (1..=count).map(|number| format!("{tag}-{number}")).collect(),
    }
}

/// The beginning of the line with the median, the 99th percentile and the maximum.
pub(crate) const LINE: &str = "latencies in ns: ";

/// The number of messages a second that the healthy client receives.
const RATE: u32 = 100;

/// How long the probe needs to start and to warm up: [`WARM_UP`], and half a second to start.
pub(crate) const PROBE_WARM_UP: Duration = Duration::from_millis(2_500);

/// A healthy client: a process with one listener of a tag, and a publisher for it.
pub(crate) struct Probe {
    program: Program,
    /// The directory is removed after the program has ended.
    _directory: TempDir,
}

impl Probe {
    /// Starts the probe. It measures for `time`, after two seconds of the same load.
    pub(crate) fn start(server: &Server, tag: &str, time: Duration) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("bench-").tempdir()?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["fanout", "--brief", "--subscribers", "1", "--url", &server.url])
            .args(["--tag", tag, "--rate", &RATE.to_string()])
            .args(["--seconds", &time.as_secs().to_string()]);
        for (option, file) in [("--key-file", &server.key_file), ("--ca", &server.ca)] {
            if let Some(file) = file {
                command.arg(option).arg(file);
            }
        }
        let program = Program::start("probe", command, directory.path())?;
        Ok(Self { program, _directory: directory })
    }

    /// Waits for the end of the probe. Returns the median, the 99th percentile and the maximum of
    /// its latencies, in nanoseconds.
    ///
    /// # Errors
    /// When one of the probe's messages was lost.
    pub(crate) fn finish(mut self) -> Result<[u64; 3]> {
        let [line] = self.program.announced([LINE]).context("the healthy client")?;
        let times = line.split(' ').map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        times.try_into().ok().context("the healthy client printed no latencies")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_positive() {
        assert_eq!(positive("0.5"), Ok(0.5));
        for bad in ["0", "-1", "NaN", "inf", "ten"] {
            assert!(positive(bad).is_err(), "{bad}");
        }
    }
}
