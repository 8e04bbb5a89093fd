//! The command line as it is typed; `config` makes sense of it.

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
    /// What to do other than to run.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to run.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Options of the running server. The configuration file knows them by the same names; the
/// command line and the environment win over it.
#[derive(Debug, Clone, Default, Args)]
pub struct RunArgs {
    /// Those that the file may hold too.
    #[command(flatten)]
    pub options: GivenOptions,
    /// A TOML file with these options, tags and keys
    #[arg(long, value_name = "FILE", env = "TOCSIN_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Everything but running.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check a configuration and the data directory or NATS that it names; say what is wrong with
    /// them, or what they come to. Nothing is changed
    Check {
        /// As if to run.
        #[command(flatten)]
        run: Box<RunArgs>,
    },
    /// Give a data directory a new epoch, after a backup was restored: what clients remember of
    /// the time after the backup must not be taken for what comes now
    NewEpoch {
        /// The directory; no server may be using it
        #[arg(long, value_name = "DIR", env = "TOCSIN_DATA")]
        data: PathBuf,
        /// The file with its id key [default: id.key in it]
        #[arg(long, value_name = "FILE", env = "TOCSIN_ID_KEY_FILE")]
        id_key_file: Option<PathBuf>,
    },
    /// Tell the stream of --nats what is kept and protected from now on, for all of its servers, which
    /// are to be restarted with the same configuration then, one after the other
    AdoptSettings {
        /// Give it a new epoch too, after NATS was restored from a backup: what clients remember of the
        /// time after the backup must not be taken for what comes now
        #[arg(long)]
        new_epoch: bool,
        /// As if to run.
        #[command(flatten)]
        run: Box<RunArgs>,
    },
    /// What talks to a server, or makes something for it.
    #[command(flatten)]
    Client(ClientCommand),
}
