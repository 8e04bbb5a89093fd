//! The runner of all comparisons: rounds in which every case is measured once with every program.

pub(crate) mod cluster;
pub(crate) mod delivery;
mod disk;
pub(crate) mod server;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use crate::interrupt::Interrupt;
use crate::options::Choice;
use crate::programs::{Build, machine};
use crate::report::figure::{Figures, Section};
use crate::report::results::{Role, Rounds, Subject};
use crate::report::{ReportOptions, report};
use crate::run::{OTHER_FILES, Run};

/// What is measured of one program in one round. `P` is all that the case needs to know of it.
pub(crate) struct Case<P: 'static> {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    /// The kinds of programs that it is measured with; none means all.
    pub(crate) only: &'static [&'static str],
    /// Connections at the same time, each of which is an open file here and in the program.
    pub(crate) connections: usize,
    pub(crate) measure: fn(&Trial<'_, P>) -> anyhow::Result<Figures>,
}

impl<P> Choice for Case<P> {
    fn option(&self) -> &str {
        self.name
    }

    fn help(&self) -> &str {
        self.help
    }
}

/// One measurement of one program.
pub(crate) struct Trial<'a, P> {
    pub(crate) program: &'a P,
    /// For this measurement alone.
    pub(crate) directory: &'a Path,
    pub(crate) interrupt: &'a Interrupt,
}

/// A program to measure.
pub(crate) struct Contestant<P> {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) role: Role,
    pub(crate) kind: &'static str,
    pub(crate) program: P,
}

impl<P> Contestant<P> {
    /// Builds of our program.
    pub(crate) fn of_builds(builds: Vec<Build>, program: impl Fn(PathBuf) -> P) -> Vec<Self> {
        let contestants = builds.into_iter().map(|Build { name, path }| Self {
            name,
            version: machine::version_of(&path),
            role: Role::Ours,
            kind: "ours",
            program: program(path),
        });
        contestants.collect()
    }
}

pub(crate) struct Comparison<'a, P: 'static> {
    pub(crate) section: Section,
    pub(crate) programs: Vec<Contestant<P>>,
    pub(crate) cases: &'a [&'static Case<P>],
    pub(crate) rounds: u32,
    /// Where the directories of the measurements are made.
    pub(crate) directory: PathBuf,
    pub(crate) report: &'a ReportOptions,
}

impl<P> Comparison<'_, P> {
    /// Measures, prints, and writes the page and the chart. `values` answers the values of the run
    /// that the text of the section names.
    ///
    /// # Errors
    /// When a program is missing or fails: figures of such a run would mislead.
    pub(crate) fn run(
        self,
        run: &Run,
        values: impl FnOnce() -> Vec<(&'static str, String)>,
    ) -> anyhow::Result<ExitCode> {
        let most = self.cases.iter().map(|case| case.connections).max().unwrap_or_default();
        run.ensure_files(most + OTHER_FILES, "these cases", "choose other --cases")?;
        let subjects = self.programs.iter().map(|contestant| {
            Subject::new(&contestant.name, contestant.version.clone(), contestant.role)
        });
        let steps: Vec<_> = (1..=self.rounds)
            .flat_map(|round| self.cases.iter().map(move |case| (round, *case)))
            .flat_map(|(round, case)| {
                self.programs
                    .iter()
                    .enumerate()
                    .map(move |(number, program)| (round, case, number, program))
            })
            .filter(|(_, case, _, program)| {
                case.only.is_empty() || case.only.contains(&program.kind)
            })
            .collect();
        let mut rounds = Rounds::new(subjects.collect(), steps.len());
        for (round, case, number, Contestant { name, program, .. }) in steps {
            rounds.begin(format!("round {round}, {name}: {}", case.name));
            let directory =
                tempfile::Builder::new().prefix("bench-").tempdir_in(&self.directory)?;
            let trial = Trial { program, directory: directory.path(), interrupt: &run.interrupt };
            let figures = (case.measure)(&trial);
            rounds.record(number, figures.with_context(|| format!("{} of {name}", case.name))?);
        }
        let mut values = values();
        values.extend([("rounds", self.rounds.to_string()), ("machine", machine::description())]);
        report(&rounds.finish(), self.report, self.section, &values)
    }
}
