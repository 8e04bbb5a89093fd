//! What can be asked about servers beside each other.

use std::path::PathBuf;

use clap::Args;

use super::{ReportOptions, Subject, named_server};
use crate::cluster;
use crate::delivery;
use crate::servers::cases::Case;
use crate::servers::start::{Kind, default_peers};

#[derive(Debug, Args)]
pub(crate) struct ServerOptions {
    /// The server; again for another build beside it. Beside this program if not given
    #[arg(long = "server", value_name = "[NAME=]PATH", value_parser = named_server)]
    pub(crate) servers: Vec<Subject>,

    /// What to compare with
    #[arg(long, value_delimiter = ',', default_values_t = Kind::OTHERS)]
    pub(crate) peers: Vec<Kind>,

    /// Compare with nothing
    #[arg(long, conflicts_with = "peers")]
    pub(crate) alone: bool,

    /// Where the programs for Node are
    #[arg(long, value_name = "DIR", default_value = default_peers())]
    pub(crate) peers_dir: PathBuf,

    /// What to measure
    #[arg(long, value_delimiter = ',', default_values_t = Case::ALL)]
    pub(crate) cases: Vec<Case>,

    /// Rounds; in each, every program is measured once
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) rounds: u32,

    #[command(flatten)]
    pub(crate) report: ReportOptions,
}

#[derive(Debug, Args)]
pub(crate) struct DeliveryOptions {
    /// The server; again for another build beside it. Beside this program if not given
    #[arg(long = "server", value_name = "[NAME=]PATH", value_parser = named_server)]
    pub(crate) servers: Vec<Subject>,

    /// Where to make data directories, on the disk in question. Beside this program if not given
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// What to measure
    #[arg(long, value_delimiter = ',', default_values_t = delivery::cases::Case::ALL)]
    pub(crate) cases: Vec<delivery::cases::Case>,

    /// Rounds; in each, everything is measured once
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) rounds: u32,

    /// Messages on disk when the server is started
    #[arg(long, default_value = "1000000", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) entries: u64,

    #[command(flatten)]
    pub(crate) report: ReportOptions,
}

/// Options of `bench cluster`.
#[derive(Debug, Args)]
pub(crate) struct ClusterOptions {
    /// The server; beside this program if not given
    #[arg(long, value_name = "PATH")]
    pub(crate) server: Option<PathBuf>,

    /// nats-server
    #[arg(long, value_name = "PATH", env = "NATS_SERVER")]
    pub(crate) nats: PathBuf,

    /// What to measure
    #[arg(long, value_delimiter = ',', default_values_t = cluster::cases::Case::ALL)]
    pub(crate) cases: Vec<cluster::cases::Case>,

    /// Rounds; in each, everything is measured once
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) rounds: u32,

    /// Entries in the stream when the server is started
    #[arg(long, default_value = "1000000", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(crate) entries: u64,

    #[command(flatten)]
    pub(crate) report: ReportOptions,
}
