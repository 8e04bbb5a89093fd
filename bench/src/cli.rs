//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::gate::cases::Case;
use crate::gate::peers::Peer;
use crate::load::url::Url;
use crate::servers::start::{Kind, default_peers};

/// Measures what a gate costs, beside other TLS proxies and against goals.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// CPU and memory of the gate and its peers: handshakes, round trips, bulk, idle connections
    Gate(GateOptions),
    /// Broadcasts to many listeners: CPU of each delivery, latency, memory, cost of connecting
    Fanout(FanoutOptions),
    /// A healthy client's handshake while thousands of others never finish theirs
    SlowHandshakes(SlowOptions),
    /// The backend of the others, in a process of its own: sends back what it gets
    Echo(EchoOptions),
    /// The least that a delivery can cost: one blocking write for each
    #[command(hide = true)]
    Floor,
}

/// Which server is loaded.
#[derive(Debug, Args)]
pub(crate) struct ServerOptions {
    /// One that runs: ws://HOST:PORT/ws, or wss. Without this, one is started for the occasion
    #[arg(long, value_name = "URL", conflicts_with_all = ["program", "server"])]
    pub(crate) url: Option<Url>,

    /// Certificates to trust, if not those that this system trusts
    #[arg(long, value_name = "FILE", requires = "url")]
    pub(crate) ca: Option<PathBuf>,

    /// A file whose first line is the key for `broadcast`, where that needs one
    #[arg(long, value_name = "FILE", requires = "url")]
    pub(crate) key_file: Option<PathBuf>,

    /// The process to meter, if it runs on this machine
    #[arg(long, requires = "url")]
    pub(crate) pid: Option<u32>,

    /// What to start
    #[arg(long, default_value_t = Kind::Server)]
    pub(crate) program: Kind,

    /// Our server; beside this program if not given
    #[arg(long, value_name = "PATH")]
    pub(crate) server: Option<PathBuf>,

    /// Where the programs for Node are
    #[arg(long, value_name = "DIR", default_value = default_peers())]
    pub(crate) peers: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct FanoutOptions {
    #[command(flatten)]
    pub(crate) to: ServerOptions,

    /// Listeners
    #[arg(long, default_value = "2000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) subscribers: u32,

    /// Tags, each with its share of the listeners
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) tags: u32,

    /// Name of the tag; of several, they are numbered
    #[arg(long, default_value = "bench")]
    pub(crate) tag: String,

    /// Messages a second
    #[arg(long, default_value = "10")]
    pub(crate) rate: f64,

    /// Messages back to back; bursts come as often as the rate demands
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) burst: u32,

    /// Bytes of a message
    #[arg(long, default_value = "125", value_parser = clap::value_parser!(u32).range(34..=65_536))]
    pub(crate) size: u32,

    /// How long to measure, after two seconds of the same
    #[arg(long, default_value = "10", value_parser = clap::value_parser!(u32).range(0..=3_600))]
    pub(crate) seconds: u32,

    /// Connections opened at a time
    #[arg(long, default_value = "16", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) at_a_time: u32,
}

#[derive(Debug, Args)]
pub(crate) struct GateOptions {
    /// The gate; again for another build beside it. Beside this program if not given
    #[arg(long = "gate", value_name = "[NAME=]PATH", value_parser = subject)]
    pub(crate) gates: Vec<Subject>,

    /// What to compare with; `none` for the gate alone
    #[arg(long, value_delimiter = ',', default_values_t = Peer::ALL)]
    pub(crate) peers: Vec<Peer>,

    /// What to measure
    #[arg(long, value_delimiter = ',', default_values_t = Case::ALL)]
    pub(crate) cases: Vec<Case>,

    /// The only cipher suite that the client offers
    #[arg(long, default_value = "aes128")]
    pub(crate) suite: Suite,

    /// The only key exchange group that the client offers. httpGate knows P-256 alone and gets
    /// that in any case
    #[arg(long, default_value = "p256")]
    pub(crate) group: Group,

    /// Rounds; in each, every program is measured once
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) rounds: u32,

    /// Handshakes a round
    #[arg(long, default_value = "600", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) handshakes: u32,

    /// Handshakes at a time: with fewer, a program sleeps and wakes for each, which costs CPU too
    #[arg(long, default_value = "16", value_parser = clap::value_parser!(u8).range(1..=50))]
    pub(crate) at_a_time: u8,

    /// Round trips a round, on 16 connections together
    #[arg(long, default_value = "48000", value_parser = clap::value_parser!(u32).range(16..=10_000_000))]
    pub(crate) round_trips: u32,

    /// MiB echoed a round, on 4 connections together
    #[arg(long, default_value = "192", value_parser = clap::value_parser!(u32).range(4..=65_536))]
    pub(crate) bulk: u32,

    /// Idle connections
    #[arg(long, default_value = "3000", value_parser = clap::value_parser!(u32).range(50..=20_000))]
    pub(crate) idle: u32,

    /// Write the figures as a page
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,

    /// Write the figures as a chart
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,

    /// Fail when a goal is missed
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SlowOptions {
    /// The gate; beside this program if not given
    #[arg(long, value_name = "[NAME=]PATH", value_parser = subject)]
    pub(crate) gate: Option<Subject>,

    /// Slow clients, from 16 addresses
    #[arg(long, default_value = "4000", value_parser = clap::value_parser!(u32).range(16..=20_000))]
    pub(crate) slow: u32,

    /// Handshakes of the healthy client, before and during
    #[arg(long, default_value = "300", value_parser = clap::value_parser!(u32).range(20..=10_000))]
    pub(crate) handshakes: u32,

    /// Fail when a goal is missed
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EchoOptions {
    /// Where to listen; port 0 takes a free one. 127.0.0.1 and ::1 if not given
    pub(crate) listen: Option<SocketAddr>,

    /// End with the program that started this one
    #[arg(long, hide = true)]
    pub(crate) with_parent: bool,
}

impl GateOptions {
    pub(crate) fn offer(&self) -> Offer {
        Offer { suite: self.suite, group: self.group }
    }
}

/// A build of the gate, under the name that the tables give it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

fn subject(text: &str) -> Result<Subject, String> {
    let (name, path) = text.split_once('=').unwrap_or(("gate", text));
    if name.is_empty() || path.is_empty() {
        return Err("give PATH, or NAME=PATH".to_owned());
    }
    Ok(Subject { name: name.to_owned(), path: path.into() })
}

/// Browsers offer the first one first; the second one's hash has no CPU instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// `TLS13_AES_128_GCM_SHA256`
    Aes128,
    /// `TLS13_AES_256_GCM_SHA384`
    Aes256,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    P256,
    X25519,
}

/// What the client offers, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) suite: Suite,
    pub(crate) group: Group,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_have_names() {
        let named = subject("mimalloc=/opt/gate").unwrap();
        assert_eq!(
            (named.name.as_str(), named.path.as_os_str()),
            ("mimalloc", "/opt/gate".as_ref())
        );
        assert_eq!(subject("/opt/gate").unwrap().name, "gate");
        assert!(subject("=x").is_err());
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
