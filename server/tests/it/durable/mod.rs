//! The log on disk: what was acknowledged is there, whatever ends the server.

mod faults;
mod full;
mod killed;
mod load;
mod stopped;

use std::path::Path;

use crate::harness::Server;

/// Keeps everything in memory too, so that one replay shows what the log holds; and the disk alone
/// says how fast it goes.
const CONFIG: &str = "ring = 1000000\nring-age = \"7d\"\nring-bytes = \"1GiB\"\n\
     max-memory = \"2GiB\"\nsend-rate = \"off\"\n";

/// Where the load publishes.
const TAG: &str = "load";

/// The arguments of a server whose files are in `dir`.
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

/// A number below `end`.
fn random(end: u64) -> u64 {
    getrandom::u64().unwrap() % end
}
