//! The command line as it was given.

mod usage_error;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Parser, ValueEnum};
use shared::telemetry::LogFormat;

use crate::error::Error;

/// The action that the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Starts the gate, which forwards connections.
    Run(Box<Cli>),
    /// Prints this text (help or version) and ends.
    Print(String),
}

impl Command {
    /// Parses the command line. Options that are missing on the command line come from environment
    /// variables.
    ///
    /// # Errors
    /// [`Error::Usage`], with a message of one line.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, Error> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        match Cli::try_parse_from(&arguments) {
            Ok(cli) => Ok(Self::Run(Box::new(cli))),
            Err(error)
                if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
            {
                Ok(Self::Print(error.to_string()))
            }
            Err(error) => Err(Error::Usage(usage_error::sentence(&error, &arguments))),
        }
    }
}

/// Accepts TLS on one port and forwards the bytes to a plain server.
///
/// The PEM file holds the private key, its certificate and the intermediates, in any order:
/// cat leaf.crt intermediate.crt main.key > cert.pem
/// A renewed file is served without a restart.
#[derive(Debug, Clone, Parser)]
#[command(name = "gate", version, after_help = "Example: gate 9091 9090 cert.pem")]
pub struct Cli {
    /// Where to accept TLS: a port on every address, or one address and port. Port 0 takes a free
    /// port
    #[arg(value_name = "PORT|ADDR:PORT", env = "GATE_LISTEN")]
    pub(crate) listen: String,

    /// Where to forward to: a port on this machine (127.0.0.1, then ::1), an address and port, or a
    /// Unix socket
    #[arg(id = "backend", value_name = "PORT|ADDR:PORT|unix:PATH", env = "GATE_BACKEND")]
    pub(crate) backend: String,

    /// Private key and certificates: one file, or several as in key.pem,chain.pem
    #[arg(value_name = "PEM", env = "GATE_PEM")]
    pub(crate) pem: PathBuf,

    /// Check everything, print what would be served, and end without listening
    #[arg(long)]
    pub check: bool,

    /// How often to check whether the PEM file was renewed; SIGHUP checks at once
    #[arg(long, value_name = "TIME", env = "GATE_RELOAD_INTERVAL", default_value = "10s",
          value_parser = duration)]
    pub(crate) reload_interval: Duration,

    /// Time in which a client must complete the TLS handshake
    #[arg(long, value_name = "TIME", env = "GATE_HANDSHAKE_TIMEOUT", default_value = "10s",
          value_parser = duration)]
    pub(crate) handshake_timeout: Duration,
    /// Close a client that sends nothing for this long after the backend has ended its side
    #[arg(long, value_name = "TIME", env = "GATE_HALF_CLOSED_TIMEOUT",
          default_value = "60s", value_parser = duration)]
    pub(crate) half_closed_timeout: Duration,

    /// Send each client's address to the backend; v2 also sends TLS version and cipher. Default:
    /// off, but v2 for a Unix socket
    #[arg(long, value_name = "VERSION", env = "GATE_PROXY_PROTOCOL")]
    pub(crate) proxy_protocol: Option<ProxyProtocol>,

    /// How long a client waits while the backend is down, for example during its restart
    #[arg(long, value_name = "TIME", env = "GATE_BACKEND_RETRY", default_value = "3s",
          value_parser = duration)]
    pub(crate) backend_retry: Duration,

    /// Time over which connections are closed one by one after SIGTERM
    #[arg(long, value_name = "TIME", env = "GATE_DRAIN", default_value = "30s",
          value_parser = duration)]
    pub(crate) drain: Duration,

    /// Threads that serve connections. Default: one per core
    #[arg(long, value_name = "COUNT", env = "GATE_THREADS", value_parser = count)]
    pub(crate) threads: Option<NonZeroUsize>,

    /// Connections at a time; more wait. Default: as many as the limit of open files allows
    #[arg(long, value_name = "COUNT", env = "GATE_MAX_CONNECTIONS", value_parser = count)]
    pub(crate) max_connections: Option<NonZeroUsize>,

    /// Connections of one address (or one IPv6 /64) at a time; more are closed
    #[arg(long, value_name = "COUNT", env = "GATE_MAX_CONNECTIONS_PER_ADDRESS",
          default_value = "4096", value_parser = count)]
    pub(crate) max_connections_per_address: NonZeroUsize,

    /// Unfinished handshakes of one address at a time; more are closed
    #[arg(long, value_name = "COUNT", env = "GATE_MAX_HANDSHAKES_PER_ADDRESS",
          default_value = "256", value_parser = count)]
    pub(crate) max_handshakes_per_address: NonZeroUsize,

    /// Unfinished handshakes of all addresses at a time; beyond that, the oldest is closed
    #[arg(long, value_name = "COUNT", env = "GATE_MAX_HANDSHAKES", default_value = "4096",
          value_parser = count)]
    pub(crate) max_handshakes: NonZeroUsize,

    /// Where to answer /healthz, /readyz, /metrics and /status. Default: nowhere
    #[arg(long, value_name = "PORT|ADDR:PORT", env = "GATE_ADMIN")]
    pub(crate) admin: Option<String>,

    /// What to log: a level (error, warn, info, debug, trace) or tracing directives
    #[arg(long, value_name = "FILTER", env = "GATE_LOG", default_value = "info")]
    pub log: String,

    /// Format of the log lines
    #[arg(long, value_name = "FORMAT", env = "GATE_LOG_FORMAT", default_value = "text",
          value_parser = ["text", "json"])]
    log_format: String,
}

/// The value of `--proxy-protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProxyProtocol {
    /// Send only the client's bytes
    Off,
    /// Send a line of text with addresses and ports first
    V1,
    /// Send a binary header first, with addresses, ports, TLS version and cipher suite
    V2,
}

impl Cli {
    /// The format of the log lines.
    pub fn log_format(&self) -> LogFormat {
        if self.log_format == "json" { LogFormat::Json } else { LogFormat::Text }
    }
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text)
        .map_err(|_| "give a number with its unit, as 500ms, 10s, 5m or 1h")
}

fn count(text: &str) -> Result<NonZeroUsize, &'static str> {
    text.parse().map_err(|_| "give a whole number, 1 or more")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn three_arguments_are_enough() {
        let Command::Run(cli) = Command::parse(arguments("gate 9091 9090 cert.pem")).unwrap()
        else {
            panic!("nothing to print");
        };
        assert_eq!((cli.listen.as_str(), cli.backend.as_str()), ("9091", "9090"));
        assert_eq!(cli.handshake_timeout, Duration::from_secs(10));
        assert_eq!(cli.drain, Duration::from_secs(30));
        assert_eq!(cli.log_format(), LogFormat::Text);
    }

    #[test]
    fn errors_are_one_line() {
        for line in ["gate", "gate 1 2", "gate 1 2 3 4", "gate 1 2 3 --drain soon", "gate --drian"]
        {
            let error = Command::parse(arguments(line)).unwrap_err().to_string();
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
