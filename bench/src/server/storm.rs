//! All clients reconnect at once, while a healthy client goes on receiving.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use super::fanout::{PROBE_WARM_UP, Probe};
use super::{Server, TAG, TargetOptions};
use crate::load::listeners::Listeners;
use crate::options::range;
use crate::programs::program::Meter;
use crate::report::{latencies, micros, of_rows, row};
use crate::run;

/// How long the healthy client is measured without a storm, for comparison.
const ALONE: Duration = Duration::from_secs(3);

/// The number of connections that are opened at the same time before the storm.
const AT_A_TIME: usize = 64;

/// How long the measurement waits for the server to finish its work for the last client.
const SETTLE: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(crate) struct StormOptions {
    #[command(flatten)]
    to: TargetOptions,

    /// Clients that reconnect
    #[arg(long, default_value = "10000", value_parser = range(1..=1_000_000))]
    clients: u32,

    /// Tag of the clients; that of the healthy client ends in `-quiet`
    #[arg(long, default_value = TAG)]
    tag: String,

    /// Seconds for which the healthy client is measured, from the beginning of the storm
    #[arg(long, default_value = "8", value_parser = range(3..=3_600))]
    seconds: u32,
}

pub(crate) struct StormCost {
    /// The time until all clients were back.
    pub(crate) time: Duration,
    /// The number of failed attempts to reconnect.
    retries: usize,
    /// CPU time of the server for each client that leaves and comes back, in microseconds.
    micros: Option<f64>,
    /// The latencies of the healthy client during the storm: median, 99th percentile and maximum,
    /// in nanoseconds.
    pub(crate) healthy: [u64; 3],
}

/// Disconnects `count` clients of one tag, which then reconnect at once. A healthy client of
/// another tag is measured for `time`, from a moment before the storm.
///
/// # Errors
/// When a client does not come back, or the healthy one loses a message.
pub(crate) fn measure(
    server: &Server,
    [tag, quiet_tag]: &[String; 2],
    count: usize,
    time: Duration,
) -> Result<StormCost> {
    let mut clients = Listeners::new(&server.target, [tag.clone()].into())?;
    clients.open(count, AT_A_TIME)?;
    let probe = Probe::start(server, quiet_tag, time)?;
    clients.listen_for(PROBE_WARM_UP)?;
    let mut meter = server.pid.map(Meter::start);
    clients.disconnect();
    let begun = Instant::now();
    let retries = clients.reconnect(count, String::new())?;
    let took = begun.elapsed();
    clients.listen_for(SETTLE)?;
    let micros = meter.as_mut().map(|meter| meter.micros_each(count as f64));
    clients.listen_for(time.saturating_sub(begun.elapsed()))?;
    Ok(StormCost { time: took, retries, micros, healthy: probe.finish()? })
}

/// Measures the storm and prints the result.
///
/// # Errors
/// When the server is missing, a client does not come back, or the healthy one loses a message.
pub(crate) fn run(options: &StormOptions) -> Result<()> {
    let count = options.clients as usize;
    run::ensure_open_files(count, "clients", "give --clients less")?;
    let tags = [options.tag.clone(), format!("{}-quiet", options.tag)];
    let server = Server::of(&options.to, &tags)?;
    let alone = Probe::start(&server, &tags[1], ALONE)?.finish()?;
    let cost = measure(&server, &tags, count, Duration::from_secs(options.seconds.into()))?;
    let mut rows = vec![
        row("clients", Some(count.to_string())),
        row("until all were back", Some(format!("{:.2} s", cost.time.as_secs_f64()))),
        row("attempts that failed", Some(cost.retries.to_string())),
        row("CPU of each leaving and coming back", cost.micros.map(micros)),
    ];
    rows.extend(latencies("healthy client alone", alone));
    rows.extend(latencies("healthy client meanwhile", cost.healthy));
    Ok(writeln!(std::io::stdout().lock(), "{}", of_rows(rows))?)
}
