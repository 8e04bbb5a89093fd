//! The gate beside its peers: rounds in which each program is measured once, one after the other.

pub(crate) mod cases;
pub(crate) mod peers;
pub(crate) mod setup;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::GateOptions;
use crate::client::Closed;
use crate::goals;
use crate::machine::Machine;
use crate::metric::Metric;
use crate::report;
use setup::{Contender, Stage};

/// The figures of all rounds, and what they were taken from.
pub(crate) struct Results {
    pub(crate) machine: Machine,
    /// In the order of the tables: our builds first.
    pub(crate) programs: Vec<Measured>,
}

/// One program's figures.
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) version: String,
    /// A peer, and not one of our builds.
    pub(crate) is_peer: bool,
    /// Whether every connection was closed with `close_notify`.
    pub(crate) closes_properly: bool,
    /// One figure a round.
    pub(crate) figures: BTreeMap<Metric, Vec<f64>>,
}

impl Results {
    /// The best of the peers in one metric: its name and its median.
    pub(crate) fn best_peer(&self, metric: Metric) -> Option<(&str, f64)> {
        self.programs
            .iter()
            .filter(|program| program.is_peer)
            .filter_map(|program| Some((program.name.as_str(), program.median(metric)?)))
            .min_by(|one, other| one.1.total_cmp(&other.1))
    }
}

impl Measured {
    /// The middle one of the rounds' figures.
    pub(crate) fn median(&self, metric: Metric) -> Option<f64> {
        let mut figures = self.figures.get(&metric)?.clone();
        figures.sort_by(f64::total_cmp);
        let middle = figures.len() / 2;
        if figures.len().is_multiple_of(2) {
            Some(f64::midpoint(*figures.get(middle.checked_sub(1)?)?, *figures.get(middle)?))
        } else {
            figures.get(middle).copied()
        }
    }

    /// Half the distance between the rounds' extremes, relative to the median.
    pub(crate) fn spread(&self, metric: Metric) -> Option<f64> {
        let figures = self.figures.get(&metric)?;
        let most = figures.iter().copied().max_by(f64::total_cmp)?;
        let least = figures.iter().copied().min_by(f64::total_cmp)?;
        Some((most - least) / 2.0 / self.median(metric)?)
    }
}

/// Measures, prints and writes what was asked for. The exit code says whether goals are met.
///
/// # Errors
/// When a program is missing or anything went wrong with one: such a run is none.
pub(crate) async fn run(options: &GateOptions, files: usize) -> anyhow::Result<ExitCode> {
    // Each connection is two descriptors of a program under test, and one here.
    let needed = options.idle as usize * 2 + 1_000;
    ensure!(
        files >= needed,
        "{} idle connections need {needed} open files, {files} are allowed: raise `ulimit -Hn`, \
         or give --idle less",
        options.idle
    );
    let directory = tempfile::Builder::new().prefix("bench-").tempdir()?;
    let stage = Stage::new(options.offer(), directory.path())?;
    let contenders = stage.contenders(options)?;
    let results = measure(options, &stage, &contenders).await?;

    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", report::table::of(&results))?;
    let verdicts = goals::judge(&results);
    for verdict in &verdicts {
        writeln!(out, "{verdict}")?;
    }
    if let Some(path) = &options.svg {
        report::chart::write(&results, path)?;
    }
    if let Some(path) = &options.markdown {
        report::markdown::write(options, &results, &verdicts, path)?;
    }
    let missed = options.check && verdicts.iter().any(|verdict| !verdict.is_met());
    Ok(if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn measure(
    options: &GateOptions,
    stage: &Stage,
    contenders: &[Contender],
) -> anyhow::Result<Results> {
    let mut programs: Vec<Measured> = contenders
        .iter()
        .map(|contender| Measured {
            name: contender.name().to_owned(),
            version: contender.version(),
            is_peer: contender.is_peer(),
            closes_properly: true,
            figures: BTreeMap::new(),
        })
        .collect();
    let steps = options.rounds as usize * contenders.len() * options.cases.len();
    let bar = progress(steps as u64);
    for round in 1..=options.rounds {
        for (contender, measured) in contenders.iter().zip(&mut programs) {
            for case in &options.cases {
                bar.set_message(format!("round {round}, {}: {case}", contender.name()));
                let outcome = case
                    .measure(options, stage, contender)
                    .await
                    .with_context(|| format!("{case} through {}", contender.name()))?;
                for (metric, figure) in outcome.figures {
                    measured.figures.entry(metric).or_default().push(figure);
                }
                ensure!(
                    contender.is_peer() || outcome.closed == Closed::Properly,
                    "{case} through {}: a connection was closed without close_notify",
                    contender.name()
                );
                measured.closes_properly &= outcome.closed == Closed::Properly;
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    Ok(Results { machine: Machine::this(), programs })
}

fn progress(steps: u64) -> ProgressBar {
    let bar = ProgressBar::new(steps);
    if let Ok(style) =
        ProgressStyle::with_template("{elapsed_precise} [{bar:32}] {pos}/{len} {msg}")
    {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}
