//! Shows the figures on the terminal, on a page and as a chart.

pub(crate) mod figure;
mod page;
pub(crate) mod results;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};

use crate::run::fill;
use figure::{Figure, Section, millis};
use results::{Results, Role, Subject, Verdict, judge};

/// Where the figures are written, and whether they must meet the goals.
#[derive(Debug, Args)]
pub(crate) struct ReportOptions {
    /// Write the figures into a page, in place of its section about this comparison
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// Write the figures as a chart
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Fail when a goal is missed
    #[arg(long)]
    check: bool,
}

type Values<'a> = [(&'a str, String)];

impl ReportOptions {
    /// Prints the figures, and writes the page and the chart if the user asked for them. `values`
    /// replace the names in braces in the section's text.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn write(
        &self,
        results: &Results,
        section: &Section,
        values: &Values,
    ) -> Result<()> {
        writeln!(std::io::stdout().lock(), "{}", of_results(results))?;
        if let Some(path) = &self.svg {
            page::write_chart(results, path)?;
        }
        if let Some(path) = &self.markdown {
            let how = fill(&section.how, values);
            page::write(path, section, &page::figures(results, section, &how))?;
        }
        print_verdicts(results, self.check)
    }
}

/// Prints whether the goals are met.
///
/// # Errors
/// When `check` is set and a goal is missed.
pub(crate) fn print_verdicts(results: &Results, check: bool) -> Result<()> {
    let verdicts = judge(results);
    let mut out = std::io::stdout().lock();
    for verdict in &verdicts {
        writeln!(out, "{verdict}")?;
    }
    ensure!(!check || verdicts.iter().all(Verdict::is_met), "a goal is missed");
    Ok(())
}

/// Returns a row with the names of the programs, and then a row for each figure. Each cell has the
/// median, its ratio to the best peer and, if `spread` is wanted, how far the rounds differ.
pub(crate) fn figure_rows(results: &Results, spread: bool) -> Vec<Vec<String>> {
    let cell = |subject: &Subject, figure: &Figure| match subject.spread(figure) {
        Some(part) if spread => format!("{} ±{:.0}%", cell(results, subject, figure), part * 100.0),
        _ => cell(results, subject, figure),
    };
    let row = |name: &str, cell: &dyn Fn(&Subject) -> String| {
        [name.to_owned()].into_iter().chain(results.subjects.iter().map(cell)).collect()
    };
    let head = row("", &|subject| match subject.role {
        Role::Floor => subject.name.clone(),
        Role::Ours | Role::Peer => format!("{} {}", subject.name, subject.version),
    });
    let figures =
        results.figures().map(|figure| row(&figure.name, &|subject| cell(subject, figure)));
    [head].into_iter().chain(figures).collect()
}

/// Returns the median and its ratio to the best peer's median, for example `801 µs (1.00)`.
fn cell(results: &Results, subject: &Subject, figure: &Figure) -> String {
    let Some(median) = subject.median(figure) else { return "–".to_owned() };
    let shown = figure.show(median);
    match results.best_peer(figure) {
        Some((_, best)) if figure.compared => format!("{shown} ({:.2})", median / best),
        _ => shown,
    }
}

/// Returns the table of the figures of all programs.
pub(crate) fn of_results(results: &Results) -> Table {
    let mut rows = figure_rows(results, true).into_iter();
    let head = rows.next().unwrap_or_default();
    let mut table = of_rows(rows);
    table.set_header(head);
    table
}

/// Returns a table of `rows`. All columns except the first one are aligned to the right.
pub(crate) fn of_rows<R: Into<comfy_table::Row>>(rows: impl IntoIterator<Item = R>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED).add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The name of a figure and its value. A figure that was not measured is a dash.
pub(crate) fn row(name: &str, value: Option<String>) -> [String; 2] {
    [name.to_owned(), value.unwrap_or_else(|| "–".to_owned())]
}

/// Returns microseconds as they are shown in tables.
pub(crate) fn micros(micros: f64) -> String {
    format!("{micros:.2} µs")
}

/// Returns a row each for the median, the 99th percentile and the maximum, which are given in
/// nanoseconds.
pub(crate) fn latencies(name: &str, times: [u64; 3]) -> [[String; 2]; 3] {
    let [p50, p99, max] = times.map(|nanos| Some(format!("{:.2} ms", millis(nanos))));
    [("p50", p50), ("p99", p99), ("max", max)]
        .map(|(quantile, time)| row(&format!("{name}, {quantile}"), time))
}
