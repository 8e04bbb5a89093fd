//! Measures many senders on one server.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

use super::fanout::WARM_UP;
use super::{MESSAGE_SIZE, Server, TAG, TargetOptions};
use crate::load::senders::{SendPlan, Senders};
use crate::load::wire::{Latencies, PublishMethod};
use crate::options::range;
use crate::programs::program::Meter;
use crate::report::{latencies, micros, of_rows, row};

/// The number of senders in the comparisons.
pub(crate) const SENDERS: u32 = 64;

#[derive(Debug, Args)]
pub(crate) struct PublishOptions {
    #[command(flatten)]
    to: TargetOptions,

    #[command(flatten)]
    plan: SendPlan,

    /// Seconds of the measurement, after two seconds of the same load
    #[arg(long, default_value = "10", value_parser = range(1..=3_600))]
    seconds: u32,
}

/// The cost that senders cause for a server.
pub(crate) struct SendCost {
    messages: u64,
    pub(crate) per_second: f64,
    /// CPU time of the server for one message, in microseconds.
    pub(crate) micros: Option<f64>,
    /// Nanoseconds from sending to the answer.
    pub(crate) latencies: Latencies,
}

/// Sends messages and measures the server's cost. `times` holds the warm-up time and then the time
/// of the measurement.
///
/// # Errors
/// When a message is refused, or no answer arrives any more.
pub(crate) fn measure(server: &Server, plan: SendPlan, times: [Duration; 2]) -> Result<SendCost> {
    let [warm_up, time] = times;
    let mut senders = Senders::new(&server.target, plan)?;
    let begun = Instant::now();
    senders.send_until(|_| begun.elapsed() >= warm_up)?;
    senders.traffic.accepted.latencies.0.clear();
    let mut meter = server.pid.map(Meter::start);
    let (begun, before) = (Instant::now(), senders.traffic.accepted.messages);
    senders.send_until(|_| begun.elapsed() >= time)?;
    let time = begun.elapsed();
    let messages = senders.traffic.accepted.messages - before;
    let micros = meter.as_mut().map(|meter| meter.micros_each(messages as f64));
    let latencies = senders.traffic.accepted.latencies.clone();
    senders.finish()?;
    let per_second = messages as f64 / time.as_secs_f64();
    Ok(SendCost { messages, per_second, micros, latencies })
}

/// Returns the plan for the senders of the comparisons.
pub(crate) fn plan(in_flight: u32) -> SendPlan {
    let (over, tag) = (PublishMethod::WebSocket, TAG.to_owned());
    SendPlan { over, publishers: SENDERS, in_flight, tag, size: MESSAGE_SIZE, without_mid: false }
}

/// Measures the cost of senders and prints the result.
///
/// # Errors
/// When the server is missing, or a message is refused.
pub(crate) fn run(options: &PublishOptions) -> Result<()> {
    let server = Server::of(&options.to, std::slice::from_ref(&options.plan.tag))?;
    let times = [WARM_UP, Duration::from_secs(options.seconds.into())];
    let cost = measure(&server, options.plan.clone(), times)?;
    let per_core = cost.micros.map(|micros| format!("{:.0}", 1e6 / micros));
    let mut rows = vec![
        row("messages accepted", Some(cost.messages.to_string())),
        row("a second", Some(format!("{:.0}", cost.per_second))),
        row("CPU of a message", cost.micros.map(micros)),
        row("a second and core", per_core),
    ];
    rows.extend(latencies("until the answer", cost.latencies.quantiles()));
    Ok(writeln!(std::io::stdout().lock(), "{}", of_rows(rows))?)
}
