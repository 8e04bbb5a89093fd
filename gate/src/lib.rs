//! Terminates TLS with the key and certificates of a PEM file, and forwards the bytes to a plain
//! server.
//!
//! [`run`] takes the open [`Listeners`], a resolved [`Config`] and the stop signal. Each connection
//! is one task (`conn`): first the handshake, then the connection to the backend, then the relay
//! until both directions have ended.

mod admin;
mod backend;
mod buffer;
mod check;
mod config;
mod conn;
mod dispatch;
mod error;
mod gate;
mod heap_trim;
mod limits;
mod listeners;
mod metrics;
mod pem;
mod reload;
mod run;
mod tls;

pub use check::check;
pub use config::Config;
pub use config::cli::{Cli, Command};
pub use error::Error;
pub use listeners::Listeners;
pub use pem::Identity;
pub use run::run;
