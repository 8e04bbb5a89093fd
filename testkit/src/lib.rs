//! Helpers for the tests of several crates. They start a program, read its output, wait with a time
//! limit, and end the program. Only tests depend on this crate.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod files;
pub mod metrics;
pub mod namespace;
pub mod preload;
pub mod proc;
pub mod service_manager;

mod deadline;
mod lines;
mod process;
mod program;

use std::net::SocketAddr;

use tokio::net::TcpListener;

pub use deadline::{PATIENCE, soon, within};
pub use lines::Lines;
pub use process::{Process, command, command_through, output};
pub use program::{Ended, Program};

/// Opens a listener on a free port of 127.0.0.1, and returns its address too.
pub async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}
