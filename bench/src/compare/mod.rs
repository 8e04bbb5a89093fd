//! Runs all comparisons. In each round, every case is measured once for every program.

pub(crate) mod cluster;
pub(crate) mod delivery;
pub(crate) mod server;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::options::{Choice, names, one_of, range};
use crate::programs::peers::Peer;
use crate::programs::{Build, description, version_of};
use crate::report::ReportOptions;
use crate::report::figure::{Figures, section};
use crate::report::results::{Results, Role, Subject};
use crate::run;

/// A measurement of one program in one round.
pub(crate) struct Case<P: 'static> {
    pub(crate) name: &'static str,
    /// How many connections are open at the same time. Each is an open file here and in the
    /// program.
    pub(crate) connections: usize,
    pub(crate) measure: fn(&Trial<'_, P>) -> Result<Figures>,
}

/// A kind of program that is compared. The type holds what the cases need of one program.
pub(crate) trait Compared: Sized + 'static {
    const SECTION: &'static str;
    /// The default number of rounds.
    const ROUNDS: &'static str;
    const CASES: &'static [Case<Self>];
}

/// One measurement of one program.
pub(crate) struct Trial<'a, P> {
    pub(crate) case: &'static str,
    pub(crate) program: &'a P,
    /// A directory for this measurement alone.
    pub(crate) directory: &'a Path,
}

#[derive(Args)]
pub(crate) struct CompareOptions<P: Compared> {
    /// The cases to measure
    #[arg(long, value_delimiter = ',', default_values = names(P::CASES), value_parser = one_of(P::CASES))]
    pub(crate) cases: Vec<&'static Case<P>>,

    /// The number of rounds. In each round, every program is measured once
    #[arg(long, default_value = P::ROUNDS, value_parser = range(1..=99))]
    rounds: u32,

    #[command(flatten)]
    report: ReportOptions,
}

impl<P: Compared> Choice for Case<P> {
    fn option(&self) -> &str {
        self.name
    }

    fn help(&self) -> &str {
        &section(P::SECTION).case(self.name).help
    }
}

/// Pairs each build of our program with its entry for the results.
pub(crate) fn ours<P>(builds: Vec<Build>, program: impl Fn(PathBuf) -> P) -> Vec<(Subject, P)> {
    let subject = |Build { name, path }| {
        (Subject::new(name, "ours", version_of(&path), Role::Ours), program(path))
    };
    builds.into_iter().map(subject).collect()
}

/// Describes a peer for the results. `peers` is the directory with the packages for Node.
///
/// # Errors
/// When the peer is not installed.
pub(crate) fn theirs(peer: &'static Peer, peers: &Path) -> Result<Subject> {
    let role = if peer.option == "floor" { Role::Floor } else { Role::Peer };
    Ok(Subject::new(peer.name.clone(), &peer.option, peer.version(peers)?, role))
}

impl<P: Compared> CompareOptions<P> {
    /// Measures the programs, each in a directory of its own in `parent`, prints the figures, and
    /// writes the page and the chart. `values` returns what replaces the names in braces in the
    /// text of the section.
    ///
    /// # Errors
    /// When a program is missing or fails, because the figures of such a run would mislead.
    pub(crate) fn run(
        &self,
        programs: Vec<(Subject, P)>,
        parent: &Path,
        values: impl FnOnce() -> Vec<(&'static str, String)>,
    ) -> Result<()> {
        let most = self.cases.iter().map(|case| case.connections).max().unwrap_or_default();
        run::ensure_open_files(most, "these cases", "choose other --cases")?;
        let (subjects, programs): (Vec<Subject>, Vec<P>) = programs.into_iter().unzip();
        let mut steps = Vec::new();
        for case in &self.cases {
            let only = &section(P::SECTION).case(case.name).only;
            let subjects = subjects.iter().map(|subject| subject.kind).enumerate();
            let concerned = subjects.filter(|(_, kind)| {
                only.as_ref().is_none_or(|only| only.iter().any(|only| only == kind))
            });
            steps.extend(concerned.map(|(number, _)| (*case, number)));
        }
        let mut results = Results::new(subjects);
        let style = ProgressStyle::with_template("{elapsed_precise} [{bar:32}] {pos}/{len} {msg}")?;
        let bar = ProgressBar::new(steps.len() as u64 * u64::from(self.rounds))
            .with_style(style.progress_chars("=> "));
        for round in 1..=self.rounds {
            for (case, number) in &steps {
                let what = format!("{} of {}", case.name, results.subjects[*number].name);
                bar.set_message(format!("round {round}: {what}"));
                let directory = tempfile::Builder::new().prefix("bench-").tempdir_in(parent)?;
                let (program, directory) = (&programs[*number], directory.path());
                let trial = Trial { case: case.name, program, directory };
                results.record(*number, (case.measure)(&trial).context(what)?);
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        let mut values = values();
        values.extend([("rounds", self.rounds.to_string()), ("machine", description())]);
        self.report.write(&results, section(P::SECTION), &values)
    }
}
