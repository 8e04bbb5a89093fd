//! The gate beside its peers: rounds in which each program is measured once, one after the other.

pub(crate) mod cases;
mod page;
pub(crate) mod peers;
pub(crate) mod setup;

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};

use crate::cli::gate::GateOptions;
use crate::client::Closed;
use crate::report::{self, page::Section};
use crate::results::{Measured, Results, Role, Rounds};
use crate::slow;
use cases::Case;
use setup::{Contender, Stage};

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
    let needed = slow::files_for(slow::CLIENTS);
    ensure!(
        files >= needed || !options.cases.contains(&Case::SlowHandshakes),
        "{} slow clients need {needed} open files, {files} are allowed: raise `ulimit -Hn`",
        slow::CLIENTS
    );
    let directory = tempfile::Builder::new().prefix("bench-").tempdir()?;
    let stage = Stage::new(options.offer(), directory.path())?;
    let contenders = stage.contenders(options)?;
    let (results, abrupt) = measure(options, &stage, &contenders).await?;
    report::give(&results, &options.report, Section::Gate, |results| {
        page::how(options, results, &abrupt)
    })
}

/// Answers also who closed without `close_notify`.
async fn measure(
    options: &GateOptions,
    stage: &Stage,
    contenders: &[Contender],
) -> anyhow::Result<(Results, Vec<String>)> {
    let programs = contenders
        .iter()
        .map(|contender| Measured::new(contender.name(), contender.version(), contender.role()));
    let steps = options.rounds as usize * contenders.len() * options.cases.len();
    let mut rounds = Rounds::new(programs.collect(), steps as u64);
    let mut abrupt = BTreeSet::new();
    for round in 1..=options.rounds {
        for (number, contender) in contenders.iter().enumerate() {
            for case in &options.cases {
                rounds.step(format!("round {round}, {}: {case}", contender.name()));
                let outcome = case
                    .measure(options, stage, contender)
                    .await
                    .with_context(|| format!("{case} through {}", contender.name()))?;
                rounds.record(number, outcome.figures);
                if outcome.closed == Closed::Abruptly {
                    ensure!(
                        contender.role() == Role::Peer,
                        "{case} through {}: a connection was closed without close_notify",
                        contender.name()
                    );
                    abrupt.insert(contender.name().to_owned());
                }
            }
        }
    }
    Ok((rounds.finish(), abrupt.into_iter().collect()))
}
