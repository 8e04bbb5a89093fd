//! What can be asked about servers beside each other.

use std::path::PathBuf;

use clap::Args;

use super::{ReportOptions, Subject, named_server};
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
