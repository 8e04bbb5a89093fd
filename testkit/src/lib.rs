//! What the tests of several crates have in common: they start a program, read what it says, wait
//! for it with a deadline, and end it. Only tests depend on this crate.

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

/// A listener on a free port of the loopback interface, and its address.
pub async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}
