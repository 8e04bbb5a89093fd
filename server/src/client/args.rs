//! The arguments of the commands that talk to a server, or make something for it.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What talks to a server, or makes something for it.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Send a notification to one person
    ///
    /// While the server is unavailable it tries again after 0.2, 1 and 3 s, 4.2 s in all, under the
    /// same mid: it is delivered once. Exit status: 0 accepted, 3 nobody got it (with --require), 65
    /// bad input, 69 unavailable or too often, 77 denied.
    Send {
        /// Whom and what.
        #[command(flatten)]
        id: IdArgs,
        /// The message and how to send it.
        #[command(flatten)]
        publish: PublishArgs,
    },
    /// Send a notification to everyone on a tag
    ///
    /// While the server is unavailable it tries again after 0.2, 1 and 3 s, 4.2 s in all, under the
    /// same mid: it is delivered once. Exit status: 0 accepted, 3 nobody got it (with --require), 65
    /// bad input, 69 unavailable or too often, 77 denied.
    Broadcast {
        /// The message and how to send it.
        #[command(flatten)]
        publish: PublishArgs,
    },
    /// Register and print messages, a JSON object a line
    ///
    /// How things stand is told on stderr. It comes back by itself after the server was away or full
    /// and goes on where it was: each message is printed once, and it says if some may be missing. Exit
    /// status: 0 after --count messages, SIGTERM or SIGINT, 65 bad input or no Tocsin server, 69
    /// unavailable from the start, 77 denied or logged out.
    Listen {
        /// The tag to listen on
        #[arg(long)]
        tag: String,
        /// As whom.
        #[command(flatten)]
        id: OptionalIdArgs,
        /// A file whose first line is the key for set on this tag; - reads stdin
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
        /// End after so many messages
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
        /// The server.
        #[command(flatten)]
        to: ToArgs,
    },
    /// Print a new ID: random, or derived from a user's name and the site's secret
    NewId {
        /// The user, by whatever name or number the site has for them
        #[arg(long = "for", value_name = "USER", requires = "secret_file")]
        user: Option<String>,
        /// A file whose first line is the site's secret; - reads stdin
        #[arg(long, value_name = "FILE", requires = "user")]
        secret_file: Option<PathBuf>,
        /// Count it up to give the user a new ID
        #[arg(long = "id-version", value_name = "N", default_value_t = 1, requires = "user")]
        version: u32,
    },
    /// Print a new key of 256 random bits
    NewKey,
    /// Read a key from a file or stdin and print what may stand for it in a configuration
    HashKey {
        /// A file whose first line is the key; - reads stdin
        #[arg(value_name = "FILE", default_value = "-")]
        file: PathBuf,
    },
}

/// Whom a message is for.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct IdArgs {
    /// The person's ID; other users of this machine can see it while the command runs
    #[arg(long, env = "TOCSIN_ID", hide_env_values = true)]
    pub id: Option<String>,
    /// A file whose first line is the person's ID; - reads stdin; it wins over an ID given otherwise
    #[arg(long, value_name = "FILE")]
    pub id_file: Option<PathBuf>,
}

/// As whom to listen.
#[derive(Debug, Args)]
pub struct OptionalIdArgs {
    /// The ID; other users of this machine can see it while the command runs
    #[arg(long, env = "TOCSIN_ID", hide_env_values = true)]
    pub id: Option<String>,
    /// A file whose first line is the ID; - reads stdin; it wins over an ID given otherwise
    #[arg(long, value_name = "FILE")]
    pub id_file: Option<PathBuf>,
}

/// What to send and how.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// The tag
    #[arg(long)]
    pub tag: String,
    /// A file whose first line is the key; - reads stdin (or set TOCSIN_KEY)
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Keep the message for a person who is away for so long at most
    #[arg(long, value_name = "TIME")]
    pub ttl: Option<String>,
    /// The message's own name: the same message under it is delivered once, however often this
    /// command is repeated [default: a random one]
    #[arg(long)]
    pub mid: Option<String>,
    /// Exit with status 3 if the message is not known to have reached anybody and no inbox keeps it
    #[arg(long)]
    pub require: bool,
    /// Take the message as text even if it is JSON or begins like it
    #[arg(long)]
    pub text: bool,
    /// Print nothing on success
    #[arg(long, short)]
    pub quiet: bool,
    /// The server.
    #[command(flatten)]
    pub to: ToArgs,
    /// JSON as it is, anything else as a text, but what begins with {, [ or " must be JSON unless --text
    /// is given; - reads stdin
    pub message: String,
}

/// Where the server is.
#[derive(Debug, Args)]
pub struct ToArgs {
    /// The server's address
    #[arg(long, value_name = "URL", env = "TOCSIN_URL", default_value = "http://127.0.0.1:9090")]
    pub to: String,
}
