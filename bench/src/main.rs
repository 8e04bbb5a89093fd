//! A load generator and a side-by-side comparison of gates and of servers.
//!
//! Everything runs on the loopback interface, with programs that this one starts and ends, unless
//! the user gives the address of a running server.

mod compare;
mod gate;
mod load;
mod options;
mod programs;
mod report;
mod run;
mod server;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use compare::cluster::{self, ClusterOptions};
use compare::delivery::{self, DeliveryOptions};
use compare::server::{self as servers, ServerOptions};
use gate::GateOptions;
use gate::echo::{self, EchoOptions};
use gate::slow_handshakes::{self, SlowOptions};
use server::fanout::{self, FanoutOptions};
use server::floor;
use server::publish::{self, PublishOptions};
use server::storm::{self, StormOptions};

/// Time for an interrupted command to end the programs that it has started.
const LAST_STEPS: Duration = Duration::from_secs(30);

/// Measures the CPU time, memory and latency of a gate and a server, beside their peers and against
/// goals
#[derive(Parser)]
#[command(name = "bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// CPU time and memory of the gate and its peers: handshakes, round trips, bulk transfers, idle
    /// connections, and a healthy client among slow ones
    Gate(GateOptions),
    /// The handshakes of a healthy client while thousands of other clients never finish theirs
    SlowHandshakes(SlowOptions),
    /// CPU, memory and latency of the server and its peers: deliveries, connecting, idle listeners
    Server(ServerOptions),
    /// The cost of keeping messages: messages on disk, clients that resume, restarts
    Delivery(DeliveryOptions),
    /// Servers that share a log in NATS JetStream
    Cluster(ClusterOptions),
    /// Broadcasts to many listeners: CPU of each delivery, latency, memory, cost of connecting
    Fanout(FanoutOptions),
    /// Many senders: messages accepted a second, CPU of each, time until the answer
    Publish(PublishOptions),
    /// All clients reconnect at once: how long that takes, and how it delays a healthy client
    Storm(StormOptions),
    /// The backend of the gates, in a process of its own: it sends back all that it receives
    Echo(EchoOptions),
    /// The lowest cost of a delivery: one blocking write for each
    #[command(hide = true)]
    Floor,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The limit of open files must suffice for thousands of connections. The started programs
    // inherit it.
    let _ = shared::descriptors::raise_limit();
    let outcome = Runtime::new().context("cannot start the runtime").and_then(|runtime| {
        let outcome = runtime.block_on(until_interrupted(cli.command));
        runtime.shutdown_background();
        outcome
    });
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    let _ = writeln!(std::io::stderr(), "bench: {error:#}");
    ExitCode::FAILURE
}

/// Runs the command on a thread that may block. An interrupted command gets some time to end the
/// programs that it has started.
async fn until_interrupted(command: Command) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle signals")?;
    let mut work = tokio::task::spawn_blocking(move || execute(&command));
    let reason = tokio::select! {
        outcome = &mut work => return outcome?,
        _ = tokio::signal::ctrl_c() => "interrupted",
        _ = terminate.recv() => "terminated",
    };
    run::interrupt();
    let _ = tokio::time::timeout(LAST_STEPS, work).await;
    bail!(reason)
}

fn execute(command: &Command) -> Result<()> {
    match command {
        Command::Gate(options) => gate::run(options),
        Command::SlowHandshakes(options) => slow_handshakes::run(options),
        Command::Server(options) => servers::run(options),
        Command::Delivery(options) => delivery::run(options),
        Command::Cluster(options) => cluster::run(options),
        Command::Fanout(options) => fanout::run(options),
        Command::Publish(options) => publish::run(options),
        Command::Storm(options) => storm::run(options),
        Command::Echo(options) => echo::run(options),
        Command::Floor => floor::run(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Compared as _;
    use crate::gate::cases::Loaded;
    use crate::options::Choice;
    use crate::programs::peers::PEERS;

    #[test]
    fn everything_has_a_default() {
        let Command::Gate(options) = Cli::try_parse_from(["bench", "gate"]).unwrap().command else {
            panic!("gate was asked for");
        };
        assert!(
            options
                .peers
                .iter()
                .map(|peer| peer.option())
                .eq(PEERS.gate[1..].iter().map(Choice::option))
        );
        assert!(
            options.compare.cases.iter().map(|case| case.name).eq(options::names(Loaded::CASES))
        );
    }
}
