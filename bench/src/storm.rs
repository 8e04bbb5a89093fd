//! Everyone comes back at once, and a healthy client tries to go on.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::cli::load::StormOptions;
use crate::load::crowd::{Crowd, Join};
use crate::load::interrupt::Interrupt;
use crate::load::message::Clock;
use crate::load::target::Target;
use crate::process::Meter;
use crate::report::sheet::{Sheet, micros, millis};
use crate::servers::probe::{Errand, Probe, Seen};
use crate::servers::subject::Subject;

/// The healthy client's messages a second, and the time that it has for its own warm-up.
const RATE: u32 = 100;
const WARM_UP: Duration = Duration::from_millis(2_500);

/// How long it is watched without a storm, for comparison.
const ALONE: Duration = Duration::from_secs(3);

/// Connections on their way at a time, before the storm.
const AT_A_TIME: usize = 64;

/// Time for the server to be done with the last client.
const SETTLE: Duration = Duration::from_millis(500);

/// What a storm does.
pub(crate) struct Stormed {
    /// Until all were back.
    pub(crate) took: Duration,
    /// Attempts that failed.
    pub(crate) retries: usize,
    /// CPU of leaving and coming back, in microseconds.
    pub(crate) micros: Option<f64>,
    /// What the healthy client saw meanwhile.
    pub(crate) seen: Seen,
}

/// `count` clients of `tag` lose their connections and come back at once, while a healthy client
/// is on its errand, which lasts from a moment before the storm on.
///
/// # Errors
/// When a client does not come back, or the healthy one loses a message.
pub(crate) fn measure(
    target: &Arc<Target>,
    pid: Option<u32>,
    (tag, count): (&str, usize),
    errand: &Errand<'_>,
    directory: &Path,
    interrupt: &Interrupt,
) -> anyhow::Result<Stormed> {
    let mut crowd = Crowd::new(Arc::clone(target), Clock::start(), interrupt.clone())?;
    let join = |_| Join { tag: tag.to_owned(), more: String::new() };
    crowd.open(count, AT_A_TIME, join)?;
    let probe = Probe::start(errand, directory)?;
    crowd.linger(WARM_UP)?;
    let mut meter = pid.map(Meter::start);
    crowd.leave()?;
    let begun = Instant::now();
    let retries = crowd.come_back(count, join)?;
    let took = begun.elapsed();
    crowd.linger(SETTLE)?;
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let micros = meter.as_mut().map(|meter| meter.sample().as_secs_f64() * 1e6 / count as f64);
    crowd.linger(errand.time.saturating_sub(begun.elapsed()))?;
    Ok(Stormed { took, retries, micros, seen: probe.finish()? })
}

/// Measures and prints.
///
/// # Errors
/// When the server is missing, a client does not come back, or the healthy one loses a message.
pub(crate) fn run(
    options: &StormOptions,
    files: usize,
    interrupt: &Interrupt,
) -> anyhow::Result<ExitCode> {
    let count = options.clients as usize;
    ensure!(
        files >= count + 200,
        "{count} clients need {} open files, {files} are allowed: raise `ulimit -Hn`, or give \
         --clients less",
        count + 200
    );
    let quiet = format!("{}-quiet", options.tag);
    let subject = Subject::of(&options.to, &[options.tag.clone(), quiet.clone()])?;
    let directory = tempfile::Builder::new().prefix("bench-").tempdir()?;
    let errand = Errand {
        url: subject.url.clone(),
        tag: &quiet,
        key_file: subject.key_file.clone(),
        ca: options.to.ca.clone(),
        rate: RATE,
        time: Duration::from_secs(options.seconds.into()),
    };
    let shortly = Errand { time: ALONE, ..errand.clone() };
    let alone = Probe::start(&shortly, directory.path())?.finish()?;
    let clients = (options.tag.as_str(), count);
    let stormed =
        measure(&subject.target, subject.pid, clients, &errand, directory.path(), interrupt)?;

    let mut sheet = Sheet::new();
    sheet.row("clients", Some(count.to_string()));
    sheet.row("until all were back", Some(format!("{:.2} s", stormed.took.as_secs_f64())));
    sheet.row("attempts that failed", Some(stormed.retries.to_string()));
    sheet.row("CPU of each leaving and coming back", stormed.micros.map(micros));
    for (name, seen) in [("alone", alone), ("meanwhile", stormed.seen)] {
        for (quantile, nanos) in [("p50", seen.p50), ("p99", seen.p99), ("max", seen.max)] {
            sheet.row(&format!("healthy client {name}, {quantile}"), Some(millis(nanos)));
        }
    }
    writeln!(std::io::stdout().lock(), "{sheet}")?;
    Ok(ExitCode::SUCCESS)
}
