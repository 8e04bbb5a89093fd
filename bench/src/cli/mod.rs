//! The command line.

pub(crate) mod gate;
pub(crate) mod load;
pub(crate) mod server;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use gate::{EchoOptions, GateOptions, SlowOptions};
use load::{FanoutOptions, PublishOptions, StormOptions};
use server::{ClusterOptions, DeliveryOptions, ServerOptions};

/// Measures what a gate and a server cost, beside others of their kind and against goals.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// CPU and memory of the gate and its peers: handshakes, round trips, bulk, idle connections; and
    /// a healthy client among slow ones
    Gate(GateOptions),
    /// A healthy client's handshake while thousands of others never finish theirs
    SlowHandshakes(SlowOptions),
    /// CPU, memory and latency of the server and its peers: deliveries, connecting, idle listeners
    Server(ServerOptions),
    /// What the server keeps: messages on disk, clients that resume, restarts
    Delivery(DeliveryOptions),
    /// Measure servers that share a log in NATS JetStream
    Cluster(ClusterOptions),
    /// Broadcasts to many listeners: CPU of each delivery, latency, memory, cost of connecting
    Fanout(FanoutOptions),
    /// Many senders: messages accepted a second, CPU of each, time until the answer
    Publish(PublishOptions),
    /// Everyone reconnects at once: how long that takes, and what a healthy client sees of it
    Storm(StormOptions),
    /// The backend of the others, in a process of its own: sends back what it gets
    Echo(EchoOptions),
    /// The least that a delivery can cost: one blocking write for each
    #[command(hide = true)]
    Floor,
}

/// Where figures go, and whether they must be good.
#[derive(Debug, Args)]
pub(crate) struct ReportOptions {
    /// Write the figures into a page, in place of its section about the same
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,

    /// Write the figures as a chart
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,

    /// Fail when a goal is missed
    #[arg(long)]
    pub(crate) check: bool,
}

/// A build of one of our programs, under the name that the tables give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

fn named_gate(text: &str) -> Result<Subject, String> {
    subject(text, "gate")
}

fn named_server(text: &str) -> Result<Subject, String> {
    subject(text, "server")
}

fn subject(text: &str, default: &str) -> Result<Subject, String> {
    let (name, path) = text.split_once('=').unwrap_or((default, text));
    if name.is_empty() || path.is_empty() {
        return Err("give PATH, or NAME=PATH".to_owned());
    }
    Ok(Subject { name: name.to_owned(), path: path.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::cases::Case;
    use crate::gate::peers::Peer;

    #[test]
    fn builds_have_names() {
        let named = named_gate("mimalloc=/opt/gate").unwrap();
        assert_eq!(
            (named.name.as_str(), named.path.as_os_str()),
            ("mimalloc", "/opt/gate".as_ref())
        );
        assert_eq!(named_gate("/opt/gate").unwrap().name, "gate");
        assert!(named_gate("=x").is_err());
    }

    #[test]
    fn everything_has_a_default() {
        let Command::Gate(options) = Cli::try_parse_from(["bench", "gate"]).unwrap().command else {
            panic!("gate was asked for");
        };
        assert_eq!(options.peers, Peer::ALL);
        assert_eq!(options.cases, Case::ALL);
    }
}
