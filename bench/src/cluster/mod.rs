//! Servers that share a log in NATS JetStream, and what that costs.

pub(crate) mod cases;
mod nats;

use std::process::ExitCode;

use anyhow::{Context as _, ensure};

use crate::cli::server::ClusterOptions;
use crate::load::interrupt::Interrupt;
use crate::machine;
use crate::report::{self, page::Section};
use crate::results::{Measured, Results, Role, Rounds};
use crate::servers::ours::neighbour;
use cases::Stage;

/// Measures, prints and writes what was asked for. The exit code says whether goals are met.
///
/// # Errors
/// When a program is missing or anything went wrong: such a run is none.
pub(crate) fn run(options: &ClusterOptions, interrupt: &Interrupt) -> anyhow::Result<ExitCode> {
    let server = options.server.clone().map_or_else(neighbour, Ok)?;
    for path in [&server, &options.nats] {
        ensure!(path.is_file(), "{} is no program", path.display());
    }
    let ours = Measured::new("server", machine::version_of(&server), Role::Ours);
    let steps = options.cases.len() as u64 * u64::from(options.rounds);
    let mut rounds = Rounds::new(vec![ours], steps);
    for round in 1..=options.rounds {
        for case in &options.cases {
            rounds.step(format!("round {round}: {case}"));
            let directory = tempfile::Builder::new().prefix("bench-").tempdir()?;
            let stage = Stage {
                server: &server,
                nats: &options.nats,
                directory: directory.path(),
                entries: options.entries,
                interrupt,
            };
            rounds.record(0, case.measure(&stage).with_context(|| case.to_string())?);
        }
    }
    let results = rounds.finish();
    report::give(&results, &options.report, Section::Cluster, |results| how(options, results))
}

fn how(options: &ClusterOptions, results: &Results) -> String {
    let nats = machine::version_of(&options.nats);
    format!(
        "- {} rounds with fresh processes and one node of NATS ({nats}), an R1 stream and the \
         defaults of NATS, which syncs every two minutes. Messages are 125 bytes of JSON.\n\
         - {}; load, servers and NATS share them.\n\
         - For the latency, two servers with 100 listeners each get their messages in turn, one of \
         them with the log in memory.\n\
         - Of several servers the first publishes and each delivers to 1,000 listeners of its own. \
         The figure is the mean over the servers.\n\
         - For the start, {} messages are published first, by 64 senders with 32 each under way.\n",
        options.rounds, results.machine, options.entries
    )
}
