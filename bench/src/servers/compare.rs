//! The server beside its peers: rounds in which each program is measured once, one after the other.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};

use super::cases::Case;
use super::ours::neighbour;
use super::page;
use super::start::{Kind, Places, version};
use crate::cli::Subject;
use crate::cli::server::ServerOptions;
use crate::load::interrupt::Interrupt;
use crate::report::{self, page::Section};
use crate::results::{Measured, Results, Role, Rounds};

/// A program to measure.
struct Contender {
    name: String,
    kind: Kind,
    places: Places,
}

impl Contender {
    fn role(&self) -> Role {
        match self.kind {
            Kind::Server => Role::Ours,
            Kind::Floor => Role::Floor,
            Kind::Uws | Kind::Ws | Kind::Nchan => Role::Peer,
        }
    }
}

/// Measures, prints and writes what was asked for. The exit code says whether goals are met.
///
/// # Errors
/// When a program is missing or anything went wrong with one: such a run is none.
pub(crate) fn run(
    options: &ServerOptions,
    files: usize,
    interrupt: &Interrupt,
) -> anyhow::Result<ExitCode> {
    let most = options.cases.iter().map(|case| case.listeners()).max().unwrap_or_default() + 200;
    ensure!(
        files >= most,
        "{most} open files are needed, {files} are allowed: raise `ulimit -Hn`, or choose other \
         --cases"
    );
    let directory = tempfile::Builder::new().prefix("bench-").tempdir()?;
    let contenders = contenders(options, directory.path())?;
    let results = measure(options, &contenders, interrupt)?;
    report::give(&results, &options.report, Section::Server, |results| page::how(options, results))
}

/// Our builds, then the peers.
fn contenders(options: &ServerOptions, directory: &Path) -> anyhow::Result<Vec<Contender>> {
    let ours = if options.servers.is_empty() {
        vec![Subject { name: Kind::Server.name().to_owned(), path: neighbour()? }]
    } else {
        options.servers.clone()
    };
    let places = |server: PathBuf| Places {
        directory: directory.to_owned(),
        server,
        peers: options.peers_dir.clone(),
    };
    let mut all = Vec::new();
    for Subject { name, path } in ours {
        ensure!(path.is_file(), "{} is no program", path.display());
        all.push(Contender { name, kind: Kind::Server, places: places(path) });
    }
    let peers = options.peers.iter().copied().filter(|kind| *kind != Kind::Server);
    for kind in peers.filter(|_| !options.alone) {
        let name = kind.name().to_owned();
        all.push(Contender { name, kind, places: places(PathBuf::new()) });
    }
    Ok(all)
}

fn measure(
    options: &ServerOptions,
    contenders: &[Contender],
    interrupt: &Interrupt,
) -> anyhow::Result<Results> {
    let mut programs = Vec::new();
    for contender in contenders {
        let version = version(contender.kind, &contender.places)?;
        programs.push(Measured::new(&contender.name, version, contender.role()));
    }
    let concerned =
        |case: Case| contenders.iter().filter(|contender| case.concerns(contender.kind)).count();
    let steps: usize = options.cases.iter().map(|case| concerned(*case)).sum();
    let mut rounds = Rounds::new(programs, steps as u64 * u64::from(options.rounds));
    for round in 1..=options.rounds {
        for case in &options.cases {
            for (number, contender) in contenders.iter().enumerate() {
                if !case.concerns(contender.kind) {
                    continue;
                }
                rounds.step(format!("round {round}, {}: {case}", contender.name));
                let figures = case
                    .measure(contender.kind, &contender.places, interrupt)
                    .with_context(|| format!("{case} of {}", contender.name))?;
                rounds.record(number, figures);
            }
        }
    }
    Ok(rounds.finish())
}
