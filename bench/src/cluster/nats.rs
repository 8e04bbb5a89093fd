//! One node of NATS with JetStream.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::program::Program;

/// Time to answer after its start.
const READY: Duration = Duration::from_secs(10);

/// It runs and answers.
pub(crate) struct Nats {
    _program: Program,
    address: SocketAddr,
}

impl Nats {
    /// Starts it with an empty store in `directory`. Every message is synced before it is
    /// acknowledged if `sync`; NATS itself does so every two minutes.
    ///
    /// # Errors
    /// With its last words, when it does not come up.
    pub(crate) fn start(path: &Path, directory: &Path, sync: bool) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
        let address = listener.local_addr()?;
        drop(listener);
        let store = directory.join("nats");
        let sync = if sync { ", sync_interval: always" } else { "" };
        let config = format!(
            "listen: \"{address}\"\njetstream {{ store_dir: \"{}\"{sync} }}\n",
            store.display()
        );
        let file = directory.join("nats.conf");
        fs::write(&file, config).context("cannot write a configuration")?;
        let mut command = Command::new(path);
        command.arg("--config").arg(&file);
        let program = Program::start("nats-server", command, directory)?;
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            ensure!(begun.elapsed() < READY, "NATS does not answer ({})", program.last_words());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { _program: program, address })
    }

    /// What our servers are to be told of it.
    pub(crate) fn options(&self, id_key: &Path) -> Vec<String> {
        [
            "--nats".into(),
            format!("nats://{}", self.address),
            "--nats-replicas".into(),
            "1".into(),
            "--id-key-file".into(),
            id_key.display().to_string(),
        ]
        .into()
    }
}
