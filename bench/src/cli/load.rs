//! What can be asked about one server.

use std::path::PathBuf;

use clap::Args;

use crate::load::answers::Way;
use crate::load::url::Url;
use crate::servers::start::{Kind, default_peers};

/// Which server is loaded.
#[derive(Debug, Args)]
pub(crate) struct TargetOptions {
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
    pub(crate) peers_dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct FanoutOptions {
    #[command(flatten)]
    pub(crate) to: TargetOptions,

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
    #[arg(long, default_value = "10", value_parser = positive)]
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

    /// For a program that reads it: one line of latencies
    #[arg(long, hide = true)]
    pub(crate) brief: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PublishOptions {
    #[command(flatten)]
    pub(crate) to: TargetOptions,

    /// How they send
    #[arg(long, default_value_t = Way::Post)]
    pub(crate) over: Way,

    /// Senders, each on a connection that stays open
    #[arg(long, default_value = "64", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) publishers: u32,

    /// Messages of one sender that are sent and not yet answered
    #[arg(long, default_value = "1", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) in_flight: u32,

    /// Their tag
    #[arg(long, default_value = "bench")]
    pub(crate) tag: String,

    /// Bytes of a message
    #[arg(long, default_value = "125", value_parser = clap::value_parser!(u32).range(34..=65_536))]
    pub(crate) size: u32,

    /// Give no message a name (`mid`) of its own, which makes a retry safe
    #[arg(long)]
    pub(crate) without_mid: bool,

    /// How long to measure, after two seconds of the same
    #[arg(long, default_value = "10", value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub(crate) seconds: u32,
}

#[derive(Debug, Args)]
pub(crate) struct StormOptions {
    #[command(flatten)]
    pub(crate) to: TargetOptions,

    /// Clients that reconnect
    #[arg(long, default_value = "10000", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) clients: u32,

    /// Their tag; the healthy client's is the same with `-quiet`
    #[arg(long, default_value = "bench")]
    pub(crate) tag: String,

    /// How long the healthy client is watched from the beginning of the storm on
    #[arg(long, default_value = "8", value_parser = clap::value_parser!(u32).range(3..=3_600))]
    pub(crate) seconds: u32,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.001 && number <= 1e6 => Ok(number),
        _ => Err("give a number above 0.001, and a million at most".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_positive() {
        assert_eq!(positive("0.5"), Ok(0.5));
        for bad in ["0", "-1", "NaN", "inf", "ten"] {
            assert!(positive(bad).is_err(), "{bad}");
        }
    }
}
