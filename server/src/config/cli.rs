//! The command line as it is typed; `config` makes sense of it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

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
    /// Where to take connections: PORT (on 127.0.0.1 and ::1), ADDR:PORT, or unix:PATH, where each
    /// begins with a PROXY header; repeatable [default: 9090]
    #[arg(long, value_name = "ADDR:PORT", env = "TOCSIN_LISTEN", value_delimiter = ',')]
    pub listen: Vec<String>,
    /// Where to take connections that begin with a PROXY header, which names the client: PORT (on
    /// 127.0.0.1 and ::1) or ADDR:PORT; repeatable. Start the gate with --proxy-protocol v2
    #[arg(long, value_name = "ADDR:PORT", env = "TOCSIN_LISTEN_PROXY", value_delimiter = ',')]
    pub listen_proxy: Vec<String>,
    /// Who may connect there: an address or a network; repeatable [default: this machine]
    #[arg(long, value_name = "ADDR[/BITS]", env = "TOCSIN_TRUST_PROXY", value_delimiter = ',')]
    pub trust_proxy: Vec<String>,
    /// Where to answer /healthz and /status: PORT (on 127.0.0.1), ADDR:PORT, or off
    /// [default: 9092]
    #[arg(long, value_name = "ADDR:PORT", env = "TOCSIN_ADMIN")]
    pub admin: Option<String>,
    /// Demand a key for an action (set, send, broadcast, drop) on a tag; the file's first line is
    /// the key or its hash; repeatable
    #[arg(long, value_name = "TAG:ACTION:KEYFILE", env = "TOCSIN_PROTECT", value_delimiter = ',')]
    pub protect: Vec<String>,
    /// Let pages of another name use this server, such as `https://shop.example`; repeatable
    #[arg(long, value_name = "URL", env = "TOCSIN_ORIGIN", value_delimiter = ',')]
    pub origin: Vec<String>,
    /// Keep what is published in this directory, made if missing: it survives the server, a crash
    /// and a power cut. Without it, what is kept ends with the server
    #[arg(long, value_name = "DIR", env = "TOCSIN_DATA")]
    pub data: Option<String>,
    /// How much the data directory may hold: beyond, and beyond its age, the oldest goes
    /// [default: 1GiB]
    #[arg(long, value_name = "SIZE", env = "TOCSIN_DATA_SIZE")]
    pub data_size: Option<String>,
    /// Many servers that act as one, on a stream of NATS JetStream.
    #[command(flatten)]
    pub nats: NatsArgs,
    /// A file with the key that IDs are hashed with, made if missing
    /// [default: id.key in the data directory, or a key of this run without one]
    #[arg(long, value_name = "FILE", env = "TOCSIN_ID_KEY_FILE")]
    pub id_key_file: Option<String>,
    /// How much memory the kept messages of all tags take: beyond, the oldest goes, first of the
    /// tag furthest over its share [default: 256MiB]
    #[arg(long, value_name = "SIZE", env = "TOCSIN_MAX_MEMORY")]
    pub max_memory: Option<String>,
    /// How often clients may do what.
    #[command(flatten)]
    pub rates: RateArgs,
    /// How much there may be in all.
    #[command(flatten)]
    pub bounds: BoundArgs,
    /// Threads that serve [default: one for each core]
    #[arg(long, value_name = "N", env = "TOCSIN_THREADS")]
    pub threads: Option<String>,
    /// Serve the demo page at / and print the key of its administrator
    #[arg(long, env = "TOCSIN_DEMO")]
    pub demo: bool,
    /// Ping a registered connection after this much silence [default: 25s]
    #[arg(long, value_name = "TIME", env = "TOCSIN_PING_INTERVAL")]
    pub ping_interval: Option<String>,
    /// Close a connection that neither registers nor does anything valid for so long
    /// [default: 60s]
    #[arg(long, value_name = "TIME", env = "TOCSIN_IDLE_TIMEOUT")]
    pub idle_timeout: Option<String>,
    /// What to log: a level, or tracing directives [default: info]
    #[arg(long, value_name = "FILTER", env = "TOCSIN_LOG")]
    pub log: Option<String>,
    /// How to log: text or json [default: text]
    #[arg(long, value_name = "FORMAT", env = "TOCSIN_LOG_FORMAT")]
    pub log_format: Option<String>,
    /// A TOML file with these options, tags and keys
    #[arg(long, value_name = "FILE", env = "TOCSIN_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Where the stream is that many servers share, and what it is like.
#[derive(Debug, Clone, Default, Args)]
pub struct NatsArgs {
    /// Share one log with other servers, in NATS JetStream: its servers, such as
    /// nats://10.0.0.1:4222 or tls://nats.example; several are tried in turn. Needs --id-key-file
    #[arg(long, value_name = "URL", env = "TOCSIN_NATS", value_delimiter = ',')]
    pub nats: Vec<String>,
    /// The stream, made if missing [default: tocsin]
    #[arg(long, value_name = "NAME", env = "TOCSIN_NATS_STREAM")]
    pub nats_stream: Option<String>,
    /// How to log in to NATS: a file of `nsc`, or one whose first line is USER:PASSWORD or a token
    #[arg(long, value_name = "FILE", env = "TOCSIN_NATS_CREDENTIALS")]
    pub nats_credentials: Option<String>,
    /// Certificates to trust for NATS, besides those that this system trusts
    #[arg(long, value_name = "FILE", env = "TOCSIN_NATS_CA")]
    pub nats_ca: Option<String>,
    /// On how many nodes of NATS a message is before it is acknowledged: 1, 3 or 5, when the stream
    /// is made [default: 3]
    #[arg(long, value_name = "N", env = "TOCSIN_NATS_REPLICAS")]
    pub nats_replicas: Option<String>,
    /// How much the stream may hold: beyond, and beyond its age, the oldest goes; when the stream is
    /// made [default: 1GiB]
    #[arg(long, value_name = "SIZE", env = "TOCSIN_NATS_SIZE")]
    pub nats_size: Option<String>,
}

/// How often clients may do what: `N:BURST`, so many a second and so many at once, or `off`.
#[derive(Debug, Clone, Default, Args)]
pub struct RateArgs {
    /// How often an address may open a WebSocket: N:BURST, N a second and so many at once, or off.
    /// Addresses are known behind --listen-proxy and unix: [default: 200:4096]
    #[arg(long, value_name = "N:BURST", env = "TOCSIN_CONNECT_RATE")]
    pub connect_rate: Option<String>,
    /// How often a connection may register; an address 20 times that, also of the next two
    /// [default: 50:400]
    #[arg(long, value_name = "N:BURST", env = "TOCSIN_SET_RATE")]
    pub set_rate: Option<String>,
    /// How often a connection may send without a right key [default: 200:400]
    #[arg(long, value_name = "N:BURST", env = "TOCSIN_SEND_RATE")]
    pub send_rate: Option<String>,
    /// How often a connection may give a wrong key [default: 1:10]
    #[arg(long, value_name = "N:BURST", env = "TOCSIN_WRONG_KEY_RATE")]
    pub wrong_key_rate: Option<String>,
}

/// How much there may be in all.
#[derive(Debug, Clone, Default, Args)]
pub struct BoundArgs {
    /// Connections; further ones are told to come back (503)
    /// [default: what the limit of open files allows]
    #[arg(long, value_name = "N", env = "TOCSIN_MAX_CONNECTIONS")]
    pub max_connections: Option<String>,
    /// Tags that anyone listens on [default: 100000]
    #[arg(long, value_name = "N", env = "TOCSIN_MAX_TAGS")]
    pub max_tags: Option<String>,
    /// Registrations on all tags together [default: 2000000]
    #[arg(long, value_name = "N", env = "TOCSIN_MAX_REGISTRATIONS")]
    pub max_registrations: Option<String>,
    /// What may wait for all clients that read too slowly together; the less of it is left, the
    /// sooner each is closed [default: 256MiB]
    #[arg(long, value_name = "SIZE", env = "TOCSIN_MAX_BACKLOG")]
    pub max_backlog: Option<String>,
    /// Tell newcomers to come back while less memory than this is left, on the machine or in a
    /// control group; 0 for never [default: 64MiB]
    #[arg(long, value_name = "SIZE", env = "TOCSIN_SPARE_MEMORY")]
    pub spare_memory: Option<String>,
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
