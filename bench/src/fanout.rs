//! Broadcasts to many listeners of one server.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;

use crate::cli::load::FanoutOptions;
use crate::load::broadcast::Schedule;
use crate::load::interrupt::Interrupt;
use crate::load::session::Session;
use crate::report::sheet::{Sheet, micros, quantiles};
use crate::servers::probe::LINE;
use crate::servers::subject::Subject;

/// Of the same load, before it is measured.
const WARM_UP: Duration = Duration::from_secs(2);

/// Measures and prints.
///
/// # Errors
/// When the server is missing, or a message did not reach everyone once.
pub(crate) fn run(
    options: &FanoutOptions,
    files: usize,
    interrupt: &Interrupt,
) -> anyhow::Result<ExitCode> {
    let (count, burst) = (options.subscribers as usize, options.burst as usize);
    ensure!(
        files >= count + 200,
        "{count} listeners need {} open files, {files} are allowed: raise `ulimit -Hn`, or give \
         --subscribers less",
        count + 200
    );
    let tags = names(&options.tag, options.tags);
    let subject = Subject::of(&options.to, &tags)?;
    let mut session = Session::new(&subject.target, Arc::clone(&tags), subject.pid, interrupt)?;
    let opened = session.open(count, options.at_a_time as usize)?;
    let mut sheet = Sheet::new();
    sheet.row("CPU to connect, upgrade and register", opened.micros.map(micros));
    sheet.row("user memory of a listener", opened.bytes.map(|bytes| format!("{bytes:.0} B")));
    if options.seconds > 0 {
        let schedule = |time| Schedule::at(&tags, options.rate, burst, options.size as usize, time);
        let seconds = Duration::from_secs(options.seconds.into());
        let done = session.deliver(&schedule(WARM_UP), &schedule(seconds))?;
        if options.brief {
            let [p50, p99, max] = [0.5, 0.99, 1.0].map(|q| done.latencies.value_at_quantile(q));
            writeln!(std::io::stdout().lock(), "{LINE}{p50} {p99} {max}")?;
            return Ok(ExitCode::SUCCESS);
        }
        sheet.row("messages", Some(done.published.messages.to_string()));
        sheet.row("deliveries", Some(done.published.deliveries.to_string()));
        sheet.row("CPU of a delivery", done.micros.map(micros));
        for (name, value) in quantiles(&done.latencies) {
            sheet.row(&format!("latency, {name}"), Some(value));
        }
        sheet.row("publisher late by at most", Some(format!("{:.2?}", done.published.late)));
    }
    writeln!(std::io::stdout().lock(), "{sheet}")?;
    Ok(ExitCode::SUCCESS)
}

/// `tag`, or `tag-1`, `tag-2` and so on.
fn names(tag: &str, count: u32) -> Arc<[String]> {
    match count {
        1 => [tag.to_owned()].into(),
        count => (1..=count).map(|number| format!("{tag}-{number}")).collect(),
    }
}
