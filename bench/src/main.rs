//! Load generator and side-by-side comparison: what a gate and a server cost, on any machine.
//!
//! Everything happens on the loopback interface, with programs that this one starts and ends,
//! unless it is given the address of a server that runs.

mod certificate;
mod cli;
mod client;
mod cluster;
mod delivery;
mod echo;
mod fanout;
mod gate;
mod goals;
mod load;
mod machine;
mod metric;
mod process;
mod program;
mod publish;
mod report;
mod results;
mod servers;
mod slow;
mod storm;
mod tickets;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use cli::{Cli, Command};
use load::interrupt::Interrupt;

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

/// Dropping the unfinished work ends every program that it started; work on a thread of its own
/// ends by itself when it is told so.
async fn until_interrupted(command: Command, files: usize) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle signals")?;
    let interrupt = Interrupt::default();
    let outcome = tokio::select! {
        outcome = run(command, files, interrupt.clone()) => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow!("terminated")),
    };
    interrupt.set();
    outcome
}

async fn run(command: Command, files: usize, interrupt: Interrupt) -> anyhow::Result<ExitCode> {
    let on_a_thread = |work: Box<dyn FnOnce() -> anyhow::Result<ExitCode> + Send>| async {
        tokio::task::spawn_blocking(work).await?
    };
    match command {
        Command::Server(options) => {
            on_a_thread(Box::new(move || servers::compare::run(&options, files, &interrupt))).await
        }
        Command::Delivery(options) => {
            on_a_thread(Box::new(move || delivery::run(&options, files, &interrupt))).await
        }
        Command::Cluster(options) => {
            on_a_thread(Box::new(move || cluster::run(&options, &interrupt))).await
        }
        Command::Fanout(options) => {
            on_a_thread(Box::new(move || fanout::run(&options, files, &interrupt))).await
        }
        Command::Publish(options) => {
            on_a_thread(Box::new(move || publish::run(&options, &interrupt))).await
        }
        Command::Storm(options) => {
            on_a_thread(Box::new(move || storm::run(&options, files, &interrupt))).await
        }
        Command::Floor => servers::floor::run().map(|()| ExitCode::SUCCESS),
        Command::Gate(options) => gate::run(&options, files).await,
        Command::SlowHandshakes(options) => slow::run(&options, files).await,
        Command::Echo(options) => echo::run(&options).await.map(|()| ExitCode::SUCCESS),
    }
}
