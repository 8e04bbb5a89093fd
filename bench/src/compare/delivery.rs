//! The comparison of what it costs the server to store messages.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use super::{Case, CompareOptions, Compared, Trial, ours};
use crate::load::broadcast::Publisher;
use crate::load::listeners::Listeners;
use crate::load::wire::{Latencies, message, now};
use crate::options::range;
use crate::programs::Build;
use crate::report::figure::{Figures, millis};
use crate::server::fanout::{PROBE_WARM_UP, Probe, in_turn, tag};
use crate::server::publish::{self, SENDERS, plan};
use crate::server::{AT_A_TIME, Launch, MESSAGE_SIZE, QUIET_TAG, TAG};

/// The load under which the cost of stored messages is measured: the listeners of each of the two
/// servers, and the number of turns.
const LISTENERS: usize = 2_000;
const TURNS: u32 = 7;

/// The number of clients that come back, and the number of messages that each has missed.
const RETURNING: usize = 10_000;
const MISSED: u64 = 20;

/// How long the server may take to notice that the clients are gone, and how long all of them may
/// take to catch up.
const GONE: Duration = Duration::from_secs(1);
const CAUGHT_UP: Duration = Duration::from_secs(60);

#[derive(Args)]
pub(crate) struct DeliveryOptions {
    /// The path of the server, or several builds if the option is repeated. The default is the
    /// server in the directory of this program
    #[arg(long = "server", value_name = "[NAME=]PATH", value_parser = Build::server)]
    servers: Vec<Build>,

    /// The directory in which data directories are created, on the disk to measure. The default is
    /// the directory of this program
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Messages on disk when the server is started
    #[arg(long, default_value = "1000000", value_parser = range(1..=100_000_000))]
    entries: u32,

    #[command(flatten)]
    compare: CompareOptions<Keeper>,
}

/// A server that stores messages.
pub(crate) struct Keeper {
    path: PathBuf,
    /// Messages on disk at the start.
    entries: u64,
}

impl Compared for Keeper {
    const SECTION: &'static str = "delivery";
    const ROUNDS: &'static str = "3";
    const CASES: &'static [Case<Self>] = &[
        Case { name: "durable", connections: SENDERS as usize, measure: durable },
        Case { name: "keeping", connections: 2 * LISTENERS, measure: keeping },
        Case { name: "resume", connections: RETURNING, measure: resume },
        Case { name: "start", connections: SENDERS as usize, measure: start },
    ];
}

/// Runs the comparison, prints the figures, and writes the files that the options ask for.
///
/// # Errors
/// When the server is missing or a measurement fails.
pub(crate) fn run(options: &DeliveryOptions) -> Result<()> {
    let entries = options.entries;
    let builds = Build::given_or_beside(&options.servers, "server")?;
    // The directory for temporary files is often in memory, where a sync takes no time.
    let own = std::env::current_exe()?;
    let beside = own.parent().context("this program is in no directory")?;
    let parent = options.dir.as_deref().unwrap_or(beside);
    let programs = ours(builds, |path| Keeper { path, entries: entries.into() });
    options.compare.run(programs, parent, || vec![("entries", entries.to_string())])
}

fn durable(trial: &Trial<'_, Keeper>) -> Result<Figures> {
    let fsync = sync(trial.directory)?;
    let library = slowed_sync(trial.directory)?;
    let measure = |data, preload| {
        let data = [format!("--data={}", trial.directory.join(data).display())];
        let launch = Launch::new(&trial.program.path, trial.directory);
        let server = Launch { more_options: &data, preload, ..launch }.start()?;
        let times = [1, 5].map(Duration::from_secs);
        publish::measure(&server, plan(1), times)
    };
    let here = measure("data", None)?;
    let slower = measure("slower", Some(library.as_path()))?;
    Ok(vec![
        ("durable", Some(slower.per_second)),
        ("durable-late", Some(millis(slower.latencies.quantiles()[1]))),
        ("durable-here", Some(here.per_second)),
        ("fsync", Some(fsync)),
    ])
}

fn keeping(trial: &Trial<'_, Keeper>) -> Result<Figures> {
    let second = trial.directory.join("second");
    std::fs::create_dir(&second)?;
    let [keeping, forgetting] = [(trial.directory, true), (&second, false)]
        .map(|(place, keeps)| Launch { keeps, ..Launch::new(&trial.program.path, place) }.start());
    let servers = [&keeping?, &forgetting?];
    let [keeping, forgetting] = in_turn(servers, LISTENERS, 10.0, TURNS, |delivered| {
        delivered.micros.context("the server has ended")
    })?;
    Ok(vec![("keeping", Some(keeping / forgetting))])
}

fn resume(trial: &Trial<'_, Keeper>) -> Result<Figures> {
    let server = Launch::new(&trial.program.path, trial.directory).start()?;
    let mut clients = Listeners::new(&server.target, tag())?;
    clients.open(RETURNING, AT_A_TIME)?;
    clients.listen_until(CAUGHT_UP, |tally| tally.live == RETURNING)?;
    let reply = clients.tally.first_reply.as_ref().context("no client was answered")?;
    let live = clients.tally.first_live.as_ref().context("no client is up to date")?;
    let epoch = field(reply, "epoch").context("an answer without an epoch")?;
    let seq = field(live, "seq").context("a live event without a seq")?;
    let more = format!(",\"since\":{{\"epoch\":{epoch},\"seq\":{seq}}}");
    clients.disconnect();
    let time = Duration::from_secs(5);
    let probe = Probe::start(&server, QUIET_TAG, time)?;
    clients.listen_for(GONE)?;
    let mut publisher = Publisher::connect(&server.target)?;
    for _ in 0..MISSED {
        publisher.publish(&[(TAG, message(now(), MESSAGE_SIZE as usize))])?;
    }
    clients.listen_for(PROBE_WARM_UP.saturating_sub(GONE))?;

    let begun = Instant::now();
    clients.reconnect(RETURNING, more)?;
    let all = MISSED * RETURNING as u64;
    clients.listen_until(CAUGHT_UP, |tally| tally.live == RETURNING && tally.messages >= all)?;
    let took = begun.elapsed();
    let reply = clients.tally.first_reply.as_ref().context("no client was answered")?;
    ensure!(reply.contains("\"recovered\":true"), "not recovered: {reply}");
    for (number, got) in clients.messages().enumerate() {
        ensure!(got == MISSED, "client {number} got {got} messages of {MISSED}");
    }
    clients.listen_for(time.saturating_sub(took))?;
    let [_, p99, _] = probe.finish()?;
    Ok(vec![("resume", Some(took.as_secs_f64())), ("resume-healthy", Some(millis(p99)))])
}

fn start(trial: &Trial<'_, Keeper>) -> Result<Figures> {
    let data = [format!("--data={}", trial.directory.join("data").display())];
    let launch = Launch::new(&trial.program.path, trial.directory);
    let launch = Launch { more_options: &data, ..launch };
    let (_, seconds) = launch.fill_and_restart(trial.program.entries)?;
    Ok(vec![("start", Some(seconds))])
}

/// Returns the value of a field of a flat JSON object as raw text. A string keeps its quotes.
fn field<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = object.split_once(&format!("\"{name}\":"))?;
    rest.split([',', '}']).next()
}

const TIMES: usize = 200;
const BLOCK: [u8; 4_096] = [b'x'; 4_096];

/// Syncs a file after each appended block. Returns the 99th percentile of the times in
/// milliseconds.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn sync(directory: &Path) -> Result<f64> {
    let mut file = File::create(directory.join("sync")).context("cannot write a file")?;
    let mut times = Latencies::default();
    for _ in 0..TIMES {
        file.write_all(&BLOCK)?;
        let begun = now();
        file.sync_data()?;
        times.record(begun, now());
    }
    Ok(millis(times.quantiles()[1]))
}

/// Compiles a library that makes every sync take at least a millisecond. It must be loaded before
/// the C library.
///
/// # Errors
/// When there is no C compiler.
pub(crate) fn slowed_sync(directory: &Path) -> Result<PathBuf> {
    let [source, library] = ["slow_sync.c", "slow_sync.so"].map(|name| directory.join(name));
    std::fs::write(&source, include_str!("slow_sync.c"))?;
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source);
    let output = compiler.output().context("a C compiler is needed")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(library)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        let live = r#"{"event":"live","tag":"bench","seq":44}"#;
        assert_eq!(field(live, "seq"), Some("44"));
        assert_eq!(field(r#"{"ok":"set","epoch":"k3","unread":[]}"#, "epoch"), Some("\"k3\""));
        assert_eq!(field(live, "epoch"), None);
    }
}
