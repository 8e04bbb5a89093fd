//! Load generator and side-by-side comparison: what a gate costs, on any machine.
//!
//! Everything happens on the loopback interface, with programs that this one starts and ends.

mod certificate;
mod cli;
mod client;
mod echo;
mod gate;
mod goals;
mod machine;
mod metric;
mod process;
mod program;
mod report;
mod slow;
mod tickets;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Thousands of connections at once, and what is started here inherits the limit.
    let files = shared::descriptors::raise_limit();
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(until_interrupted(cli.command, files)));
    match outcome {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Dropping the unfinished work ends every program that it started.
async fn until_interrupted(command: Command, files: usize) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle signals")?;
    tokio::select! {
        outcome = run(command, files) => outcome,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}

async fn run(command: Command, files: usize) -> anyhow::Result<ExitCode> {
    match command {
        Command::Gate(options) => gate::run(&options, files).await,
        Command::SlowHandshakes(options) => slow::run(&options, files).await,
        Command::Echo(options) => echo::run(&options).await.map(|()| ExitCode::SUCCESS),
    }
}
