//! Realtime notifications for an existing website.
//!
//! Messages flow one way: publisher → `log` → `hub` → `fanout` → `conn::outbox`. Clients come in
//! through `net` and `http` and, after the upgrade, `ws`. `protocol` parses their requests.
//!
//! The public items are for the program itself, its examples, fuzz targets and tests.

mod access;
mod check;
mod client;
mod clock;
mod config;
mod conn;
mod counters;
mod duration_text;
mod entry;
mod error;
mod fanout;
mod file_permissions;
mod hex;
mod histogram;
mod http;
mod hub;
mod id;
pub mod limits;
mod log;
mod net;
mod open_log;
mod protocol;
mod publish;
mod reload;
mod run;
mod secret_file;
mod sender_key;
mod size;
mod ws;

pub use access::rate_limit::Limits;
pub use check::{adopt_settings, check, new_epoch};
pub use client::run as run_client;
pub use config::Config;
pub use config::cli::{Cli, Command, RunArgs};
pub use conn::connection::Connection;
pub use conn::frame::{Decoder, Event, Rules, Violation, data_frame};
pub use conn::outbox::{Backlog, Outbox};
pub use error::Error;
pub use net::listeners::Listeners;
pub use protocol::{Action, Mark, parse};
pub use reload::Source;
pub use run::run;
pub use ws::handler::Handler;
pub use ws::socket::Socket;
