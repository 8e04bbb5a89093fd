//! The figures for people: on the terminal, as a page, as a chart.

mod chart;
pub(crate) mod figure;
mod goals;
mod page;
pub(crate) mod results;
pub(crate) mod table;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;

use crate::template::fill;
use figure::Section;
use goals::Verdict;
use results::Results;

/// Where the figures go, and whether they must meet the goals.
#[derive(Debug, Args)]
pub(crate) struct ReportOptions {
    /// Write the figures into a page, in place of its section about the same
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,

    /// Write the figures as a chart
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// Fail when a goal is missed
    #[arg(long)]
    check: bool,
}

/// Prints the figures, and writes the page and the chart if the user asked for them. `values` are
/// those that the section's text about how it was measured names.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn report(
    results: &Results,
    options: &ReportOptions,
    section: &Section,
    values: &[(&str, String)],
) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{}", table::of_results(results))?;
    if let Some(path) = &options.svg {
        chart::write(results, path)?;
    }
    if let Some(path) = &options.markdown {
        let how = fill(&section.how, values);
        page::write(path, section, &page::figures(results, &goals::judge(results), section, &how))?;
    }
    print_verdicts(results, options.check)
}

/// Prints whether the goals are met.
///
/// # Errors
/// With `check`, when one is missed.
pub(crate) fn print_verdicts(results: &Results, check: bool) -> Result<()> {
    let verdicts = goals::judge(results);
    let mut out = std::io::stdout().lock();
    for verdict in &verdicts {
        writeln!(out, "{verdict}")?;
    }
    ensure!(!check || verdicts.iter().all(Verdict::is_met), "a goal is missed");
    Ok(())
}
