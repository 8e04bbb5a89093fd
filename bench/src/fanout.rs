//! Broadcasts to many listeners of one server.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use comfy_table::{CellAlignment, Table, presets};

use crate::cli::FanoutOptions;
use crate::load::broadcast::Schedule;
use crate::load::interrupt::Interrupt;
use crate::load::session::Session;
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
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    let mut row = |name: &str, value: Option<String>| {
        table.add_row([name.to_owned(), value.unwrap_or_else(|| "–".to_owned())]);
    };
    row("CPU to connect, upgrade and register", opened.micros.map(micros));
    row("user memory of a listener", opened.bytes.map(|bytes| format!("{bytes:.0} B")));
    if options.seconds > 0 {
        let schedule = |time| Schedule::at(&tags, options.rate, burst, options.size as usize, time);
        let seconds = Duration::from_secs(options.seconds.into());
        let done = session.deliver(&schedule(WARM_UP), &schedule(seconds))?;
        let latency = |quantile| {
            let nanos = done.latencies.value_at_quantile(quantile);
            Some(format!("{:.2} ms", Duration::from_nanos(nanos).as_secs_f64() * 1e3))
        };
        row("messages", Some(done.published.messages.to_string()));
        row("deliveries", Some(done.published.deliveries.to_string()));
        row("CPU of a delivery", done.micros.map(micros));
        row("latency, p50", latency(0.5));
        row("latency, p99", latency(0.99));
        row("latency, max", latency(1.0));
        row("publisher late by at most", Some(format!("{:.2?}", done.published.late)));
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    writeln!(std::io::stdout().lock(), "{table}")?;
    Ok(ExitCode::SUCCESS)
}

fn micros(micros: f64) -> String {
    format!("{micros:.2} µs")
}

/// `tag`, or `tag-1`, `tag-2` and so on.
fn names(tag: &str, count: u32) -> Arc<[String]> {
    match count {
        1 => [tag.to_owned()].into(),
        count => (1..=count).map(|number| format!("{tag}-{number}")).collect(),
    }
}
