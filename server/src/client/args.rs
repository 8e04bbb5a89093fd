//! The arguments of the commands that talk to a server, or make something for one.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

/// The commands that talk to a server, or make something for one.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Send a notification to one person
    ///
    /// While the server is unavailable, the command tries again after 0.2, 1 and 3 s, 4.2 s in all.
    /// All attempts have the same mid, so the message is delivered once. Exit status: 0 if the
    /// message was accepted, 3 if it reached nobody (with --require), 65 if the input is invalid,
    /// 69 if the server is unavailable or limits the rate, 77 if the server denies it.
    #[command(group(ArgGroup::new("person").args(["id", "id_file"]).required(true).multiple(true)))]
    Send {
        /// The person.
        #[command(flatten)]
        id: IdArgs,
        /// The message and how to send it.
        #[command(flatten)]
        publish: PublishArgs,
    },
    /// Send a notification to everyone on a tag
    ///
    /// While the server is unavailable, the command tries again after 0.2, 1 and 3 s, 4.2 s in all.
    /// All attempts have the same mid, so the message is delivered once. Exit status: 0 if the
    /// message was accepted, 3 if it reached nobody (with --require), 65 if the input is invalid,
    /// 69 if the server is unavailable or limits the rate, 77 if the server denies it.
    Broadcast {
        /// The message and how to send it.
        #[command(flatten)]
        publish: PublishArgs,
    },
    /// Register and print messages, one JSON object per line
    ///
    /// The state of the connection is reported on stderr. After the server was away or full, the
    /// command reconnects and continues where it stopped. It prints each message once, and reports
    /// when some messages may be missing. Exit status: 0 after --count messages, SIGTERM or SIGINT,
    /// 65 if the input is invalid or no Tocsin server answers, 69 if the server is unavailable from
    /// the start, 77 if it denies the registration or logs the person out.
    Listen {
        /// The tag to listen on
        #[arg(long)]
        tag: String,
        /// The person who listens.
        #[command(flatten)]
        id: IdArgs,
        /// A file whose first line is the key for set on this tag; - reads stdin
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
        /// End after this number of messages
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
        /// The server.
        #[command(flatten)]
        to: ToArgs,
    },
    /// Print a new ID: random, or derived from a user and the site's secret
    NewId {
        /// The user, by the name or number that the site has for them
        #[arg(long = "for", value_name = "USER", requires = "secret_file")]
        user: Option<String>,
        /// A file whose first line is the site's secret; - reads stdin
        #[arg(long, value_name = "FILE", requires = "user")]
        secret_file: Option<PathBuf>,
        /// Increase this number to give the user a new ID
        #[arg(long = "id-version", value_name = "N", default_value_t = 1, requires = "user")]
        version: u32,
    },
    /// Print a new key of 256 random bits
    NewKey,
    /// Read a key from a file or stdin and print its hash, which a configuration may hold instead
    HashKey {
        /// A file whose first line is the key; - reads stdin
        #[arg(value_name = "FILE", default_value = "-")]
        file: PathBuf,
    },
}

/// A person.
#[derive(Debug, Args)]
pub struct IdArgs {
    /// The person's ID. Other users of this machine can see it while the command runs
    #[arg(long, env = "TOCSIN_ID", hide_env_values = true)]
    pub(super) id: Option<String>,
    /// A file whose first line is the person's ID; - reads stdin. It wins over --id and TOCSIN_ID
    #[arg(long, value_name = "FILE")]
    pub(super) id_file: Option<PathBuf>,
}

/// A message and how to send it.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// The tag
    #[arg(long)]
    pub(super) tag: String,
    /// A file whose first line is the key; - reads stdin. Without it, the key is the one in TOCSIN_KEY,
    /// in the file that TOCSIN_KEY_FILE names, or in send.key (send-PORT.key for another port than 9090) in
    /// /etc/tocsin, /run/tocsin or $XDG_STATE_HOME/tocsin
    #[arg(long, value_name = "FILE")]
    pub(super) key_file: Option<PathBuf>,
    /// Store the message for at most this long for a person who is away
    #[arg(long, value_name = "TIME")]
    pub(super) ttl: Option<String>,
    /// The message's ID. However often you repeat the command with it, the message is delivered
    /// once [default: a random one]
    #[arg(long)]
    pub(super) mid: Option<String>,
    /// Exit with status 3 unless an inbox stores the message or it is known to have reached
    /// somebody
    #[arg(long)]
    pub(super) require: bool,
    /// Send the message as text even if it is JSON or begins like JSON
    #[arg(long)]
    pub(super) text: bool,
    /// Print nothing on success
    #[arg(long, short)]
    pub(super) quiet: bool,
    /// The server.
    #[command(flatten)]
    pub(super) to: ToArgs,
    /// JSON is sent as it is, anything else as text. A message that begins with {, [ or " must be
    /// JSON, unless --text is given; - reads stdin
    pub(super) message: String,
}

/// The address of the server.
#[derive(Debug, Args)]
pub struct ToArgs {
    /// The server's address
    #[arg(long, value_name = "URL", env = "TOCSIN_URL", default_value = "http://127.0.0.1:9090")]
    pub(super) to: String,
}
