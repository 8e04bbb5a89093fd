//! Writes log lines to stderr and announcements to stdout.

use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// The error of a text that is not a log filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "write a level (off, error, warn, info, debug, trace), or levels by part, as in info,access=off"
)]
pub struct BadFilter;

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Text for people: time, level, message, fields; coloured on a terminal.
    #[default]
    Text,
    /// One JSON object per line, for log collectors.
    Json,
}

/// Starts logging to stderr. `filter` is a level (`info`) or a list of tracing directives
/// (`info,server::fanout=trace`).
///
/// Records of the `log` crate are ignored on purpose, because tungstenite logs payloads there.
///
/// # Errors
/// An error if `filter` cannot be parsed. A second call in one process has no effect.
pub fn init(filter: &str, format: LogFormat) -> Result<(), ParseError> {
    let filter = EnvFilter::builder().parse(filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A process has only one subscriber. Tests that start several programs in one process keep the
    // first.
    let _ = match format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// Checks a filter for [`init`] without starting anything.
///
/// # Errors
/// [`BadFilter`] if the filter cannot be parsed.
pub fn check(filter: &str) -> Result<(), BadFilter> {
    // tracing treats an unknown word as the name of a module, so a mistyped level would turn off
    // all log lines.
    let mistyped = |part: &str| {
        let level = part.parse::<tracing::level_filters::LevelFilter>();
        !part.contains(['=', '[', ':']) && level.is_err()
    };
    if filter.split(',').map(str::trim).any(mistyped) {
        return Err(BadFilter);
    }
    EnvFilter::builder().parse(filter).map(drop).map_err(|_| BadFilter)
}

/// Prints `listening NAME ADDR:PORT` on stdout, for people, scripts and tests that bound port 0.
pub fn announce(name: &str, address: SocketAddr) {
    announce_text("listening", &format!("{name} {address}"));
}

/// Prints `WHAT TEXT` on stdout.
pub fn announce_text(what: &str, text: &str) {
    // The program goes on if nobody reads stdout.
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{what} {text}").and_then(|()| out.flush());
}
