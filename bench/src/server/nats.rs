//! One node of NATS with JetStream.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::programs::program::{Program, free_address};

pub(crate) struct Nats {
    _program: Program,
    address: SocketAddr,
}

impl Nats {
    /// Starts it with an empty store in `directory` and the defaults of NATS, which syncs every two
    /// minutes.
    ///
    /// # Errors
    /// With the end of its stderr, when it does not listen.
    pub(crate) fn start(path: &Path, directory: &Path) -> Result<Self> {
        let address = free_address()?;
        let (file, store) = (directory.join("nats.conf"), directory.join("nats"));
        let store = store.display();
        let config = format!("listen: \"{address}\"\njetstream {{ store_dir: \"{store}\" }}\n");
        fs::write(&file, config).context("cannot write a configuration")?;
        let mut command = Command::new(path);
        command.arg("--config").arg(&file);
        let program = Program::start("nats-server", command, directory)?;
        program.wait_for(address)?;
        Ok(Self { _program: program, address })
    }

    /// The options by which our servers use it.
    pub(crate) fn options(&self, id_key: &Path) -> Vec<String> {
        let (url, id_key) = (format!("nats://{}", self.address), id_key.display());
        let options = format!("--nats={url} --nats-replicas=1 --id-key-file={id_key}");
        options.split(' ').map(str::to_owned).collect()
    }
}
