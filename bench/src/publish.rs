//! Messages accepted a second.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::cli::load::PublishOptions;
use crate::load::interrupt::Interrupt;
use crate::load::senders::{Plan, Senders};
use crate::load::target::Target;
use crate::process::Meter;
use crate::report::sheet::{Sheet, micros, quantiles};
use crate::servers::subject::Subject;

/// Of the same load, before it is measured.
const WARM_UP: Duration = Duration::from_secs(2);

/// What senders cost a server.
pub(crate) struct Taken {
    pub(crate) messages: u64,
    pub(crate) time: Duration,
    /// CPU of the server for one, in microseconds.
    pub(crate) micros: Option<f64>,
    /// Nanoseconds from sending to the answer.
    pub(crate) latencies: Histogram<u64>,
}

impl Taken {
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    pub(crate) fn per_second(&self) -> f64 {
        self.messages as f64 / self.time.as_secs_f64()
    }
}

/// Sends for `warm_up`, then measures for `time`.
///
/// # Errors
/// When a message is refused, or no answer comes any more.
pub(crate) fn measure(
    target: &Arc<Target>,
    plan: Plan,
    pid: Option<u32>,
    (warm_up, time): (Duration, Duration),
    interrupt: &Interrupt,
) -> anyhow::Result<Taken> {
    let mut senders = Senders::new(target, plan, interrupt.clone())?;
    let begun = Instant::now();
    senders.send(|_| begun.elapsed() >= warm_up)?;
    senders.measure();
    let mut meter = pid.map(Meter::start);
    let (begun, before) = (Instant::now(), senders.accepted().messages);
    senders.send(|_| begun.elapsed() >= time)?;
    let time = begun.elapsed();
    let messages = senders.accepted().messages - before;
    let cpu = meter.as_mut().map(Meter::sample);
    let latencies = senders.accepted().latencies.clone();
    senders.finish()?;
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let micros = cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / messages as f64);
    Ok(Taken { messages, time, micros, latencies })
}

/// Measures and prints.
///
/// # Errors
/// When the server is missing, or a message is refused.
pub(crate) fn run(options: &PublishOptions, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    let tags = [options.tag.clone()];
    let subject = Subject::of(&options.to, &tags)?;
    let plan = Plan {
        way: options.over,
        senders: options.publishers as usize,
        in_flight: options.in_flight as usize,
        tag: options.tag.clone(),
        size: options.size as usize,
        mids: !options.without_mid,
    };
    let times = (WARM_UP, Duration::from_secs(options.seconds.into()));
    let taken = measure(&subject.target, plan, subject.pid, times, interrupt)?;
    let mut sheet = Sheet::new();
    sheet.row("messages accepted", Some(taken.messages.to_string()));
    sheet.row("a second", Some(format!("{:.0}", taken.per_second())));
    sheet.row("CPU of a message", taken.micros.map(micros));
    sheet.row("a second and core", taken.micros.map(|micros| format!("{:.0}", 1e6 / micros)));
    for (name, value) in quantiles(&taken.latencies) {
        sheet.row(&format!("until the answer, {name}"), Some(value));
    }
    writeln!(std::io::stdout().lock(), "{sheet}")?;
    Ok(ExitCode::SUCCESS)
}
