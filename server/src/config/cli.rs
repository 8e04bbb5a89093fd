//! The command line of the program.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::given::GivenOptions;
use crate::client::args::ClientCommand;

/// Realtime notifications for an existing website: a WebSocket server on localhost.
///
/// Browsers register a tag and an ID and stay connected; PHP, cron jobs and administrators send
/// one notification to one person or broadcast to a tag.
#[derive(Debug, Parser)]
#[command(name = "server", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// `None` runs the server.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The options of the server, used if no command is given.
    #[command(flatten)]
    pub run: RunArgs,
}

/// The options of the running server. The configuration file has the same options under the same
/// names. The command line and the environment win over the file.
#[derive(Debug, Clone, Default, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub(super) options: GivenOptions,
    /// A TOML file with these options, tags and keys
    #[arg(long, value_name = "FILE", env = "TOCSIN_CONFIG")]
    pub(super) config: Option<PathBuf>,
}

/// The commands; without one, the program runs the server.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check a configuration and the data directory or the NATS stream that it names: print every
    /// fault, or a summary. This changes nothing
    Check {
        /// The options of the server that would run.
        #[command(flatten)]
        run: Box<RunArgs>,
    },
    /// Give a data directory a new epoch after you restored a backup of it. Otherwise clients would
    /// mistake new messages for lost ones that had the same numbers
    NewEpoch {
        /// The data directory; no server may be using it
        #[arg(long, value_name = "DIR", env = "TOCSIN_DATA")]
        data: PathBuf,
        /// The file with the key that hashes IDs [default: id.key in the data directory]
        #[arg(long, value_name = "FILE", env = "TOCSIN_ID_KEY_FILE")]
        id_key_file: Option<PathBuf>,
    },
    /// Change what the stream of --nats retains and protects, for all of its servers. Restart them
    /// with the same configuration afterwards, one after the other
    AdoptSettings {
        /// Give the stream a new epoch too, after you restored a backup of NATS. Otherwise clients
        /// would mistake new messages for lost ones that had the same numbers
        #[arg(long)]
        new_epoch: bool,
        /// The options that the servers of the stream have.
        #[command(flatten)]
        run: Box<RunArgs>,
    },
    /// The commands that talk to a server, or make something for one.
    #[command(flatten)]
    Client(ClientCommand),
}
