//! What the server keeps, and what that costs.

pub(crate) mod cases;
mod disk;
mod page;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};

use crate::cli::Subject;
use crate::cli::server::DeliveryOptions;
use crate::load::interrupt::Interrupt;
use crate::machine;
use crate::report::{self, page::Section};
use crate::results::{Measured, Results, Role, Rounds};
use crate::servers::ours::neighbour;
use crate::servers::start::Kind;
use cases::Stage;

/// Measures, prints and writes what was asked for. The exit code says whether goals are met.
///
/// # Errors
/// When the server is missing or anything went wrong: such a run is none.
pub(crate) fn run(
    options: &DeliveryOptions,
    files: usize,
    interrupt: &Interrupt,
) -> anyhow::Result<ExitCode> {
    let most = options.cases.iter().map(|case| case.listeners()).max().unwrap_or_default() + 200;
    ensure!(
        files >= most,
        "{most} open files are needed, {files} are allowed: raise `ulimit -Hn`, or choose other \
         --cases"
    );
    let servers = if options.servers.is_empty() {
        vec![Subject { name: Kind::Server.name().to_owned(), path: neighbour()? }]
    } else {
        options.servers.clone()
    };
    let results = measure(options, &servers, interrupt)?;
    report::give(&results, &options.report, Section::Delivery, |results| {
        page::how(options, results)
    })
}

fn measure(
    options: &DeliveryOptions,
    servers: &[Subject],
    interrupt: &Interrupt,
) -> anyhow::Result<Results> {
    let mut programs = Vec::new();
    for Subject { name, path } in servers {
        ensure!(path.is_file(), "{} is no program", path.display());
        programs.push(Measured::new(name, machine::version_of(path), Role::Ours));
    }
    let dir = match &options.dir {
        Some(dir) => dir.clone(),
        None => beside_this_program()?,
    };
    let steps = options.cases.len() * servers.len();
    let mut rounds = Rounds::new(programs, steps as u64 * u64::from(options.rounds));
    for round in 1..=options.rounds {
        for case in &options.cases {
            for (number, Subject { name, path }) in servers.iter().enumerate() {
                rounds.step(format!("round {round}, {name}: {case}"));
                let directory = tempfile::Builder::new().prefix("bench-").tempdir_in(&dir)?;
                let stage = Stage {
                    server: path,
                    directory: directory.path(),
                    entries: options.entries,
                    interrupt,
                };
                let figures = case.measure(&stage).with_context(|| format!("{case} of {name}"))?;
                rounds.record(number, figures);
            }
        }
    }
    Ok(rounds.finish())
}

/// Temporary files are often kept in memory, which syncs in no time.
fn beside_this_program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.parent().context("this program is nowhere")?.to_owned())
}
