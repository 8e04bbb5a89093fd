//! The figures for people: on the terminal, as a page, as a chart.

pub(crate) mod chart;
pub(crate) mod page;
pub(crate) mod sheet;
pub(crate) mod table;

use std::io::Write as _;
use std::process::ExitCode;

use crate::cli::ReportOptions;
use crate::goals::{self, Verdict};
use crate::metric::Metric;
use crate::results::{Measured, Results, Role};
use page::Section;

/// Prints the figures, and writes them where that was asked for. The exit code says whether goals
/// are met, if that was asked for. `section` answers what the page tells about how it was
/// measured.
///
/// # Errors
/// When something cannot be written.
pub(crate) fn give(
    results: &Results,
    options: &ReportOptions,
    section: Section,
    how: impl FnOnce(&Results) -> String,
) -> anyhow::Result<ExitCode> {
    let verdicts = goals::judge(results);
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", table::of(results))?;
    for verdict in &verdicts {
        writeln!(out, "{verdict}")?;
    }
    if let Some(path) = &options.svg {
        chart::write(results, path)?;
    }
    if let Some(path) = &options.markdown {
        let text = page::figures(results, &verdicts, section, &how(results))?;
        page::write(path, section, &text)?;
    }
    let missed = options.check && verdicts.iter().any(|verdict| !Verdict::is_met(verdict));
    Ok(if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// `801 µs (1.00)`: the median and its ratio to the best peer.
fn cell(results: &Results, program: &Measured, metric: Metric) -> String {
    let Some(figure) = program.median(metric) else { return "–".to_owned() };
    let shown = metric.show(figure);
    match results.best_peer(metric) {
        Some((_, best)) if metric.is_compared() => format!("{shown} ({:.2})", figure / best),
        _ => shown,
    }
}

/// The name, and the version if it has one.
fn title(program: &Measured) -> String {
    match program.role {
        Role::Floor => program.name.clone(),
        Role::Ours | Role::Peer => format!("{} {}", program.name, program.version),
    }
}
