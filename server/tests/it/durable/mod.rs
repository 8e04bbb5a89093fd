//! Tests the log on disk: acknowledged messages survive every end of the server.

mod faults;
mod full;
mod killed;
mod load;
mod stopped;

use std::path::Path;

use crate::harness::Server;

/// The configuration of the server. It keeps all messages in memory too, so that one replay shows
/// the whole log. It limits no sender, so that the disk sets the pace.
const CONFIG: &str = "ring = 1000000\nring-age = \"7d\"\nring-bytes = \"1GiB\"\n\
     max-memory = \"2GiB\"\nsend-rate = \"off\"\n";

/// The tag on which the load publishes.
const TAG: &str = "load";

/// Returns the arguments of a server whose files are in `dir`.
fn arguments(dir: &Path) -> Vec<String> {
    let config = dir.join("server.toml");
    std::fs::write(&config, CONFIG).unwrap();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    ["--config".into(), path(&config), "--data".into(), path(&dir.join("data"))].into()
}

/// Starts a server with [`arguments`].
fn start(dir: &Path) -> Server {
    let arguments = arguments(dir);
    Server::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Returns a random number below `end`.
fn random(end: u64) -> u64 {
    getrandom::u64().unwrap() % end
}
