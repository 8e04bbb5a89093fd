//! Starts and stops NATS with JetStream, with one node or several.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use testkit::{PATIENCE, Process, soon, within};
use tokio::net::TcpStream;

/// The ports of the first node, for clients and for other nodes. Each further node has the next
/// ports.
const CLIENTS: u16 = 4_222;
const ROUTES: u16 = 6_222;

/// The nodes of one NATS cluster. When this value is dropped, they are killed.
pub(crate) struct Nats {
    /// The node processes. They are dropped before `dir`, so that they end before their files are
    /// removed.
    nodes: Vec<Option<Process>>,
    dir: TempDir,
    /// A loopback address for this test alone. Each test is a process, and the process ID makes the
    /// address.
    address: Ipv4Addr,
    settings: String,
}

impl Nats {
    pub(crate) async fn start(nodes: u16) -> Self {
        Self::start_with(nodes, "").await
    }

    /// Starts nodes with additional lines in their configuration.
    pub(crate) async fn start_with(nodes: u16, settings: &str) -> Self {
        let mut nats = Self::empty(nodes, settings);
        for node in 0..nodes {
            nats.start_node(node);
        }
        nats.ready().await;
        nats
    }

    /// Starts a node that refuses clients without credentials.
    pub(crate) async fn start_locked(settings: &str) -> Self {
        let mut nats = Self::empty(1, settings);
        nats.start_node(0);
        let connecting = async {
            while TcpStream::connect(nats.node(0)).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        soon(connecting).await;
        nats
    }

    fn empty(nodes: u16, settings: &str) -> Self {
        let [.., high, middle, low] = std::process::id().to_be_bytes();
        Self {
            dir: TempDir::new().unwrap(),
            address: Ipv4Addr::new(127, 16 + high, middle, low),
            nodes: (0..nodes).map(|_| None).collect(),
            settings: settings.into(),
        }
    }

    pub(crate) fn start_node(&mut self, node: u16) {
        let program = std::env::var_os("NATS_SERVER");
        let program = program.expect("NATS_SERVER names the program; scripts/test installs it");
        let config = self.config(node);
        let log = fs::File::options().create(true).append(true).open(self.log(node)).unwrap();
        let mut command = Command::new(program);
        command.arg("--config").arg(config).stdout(Stdio::null()).stderr(log);
        self.nodes[usize::from(node)] = Some(Process::start(command));
    }

    fn config(&self, node: u16) -> PathBuf {
        let file = self.dir.path().join(format!("{node}.conf"));
        let store = self.store(node);
        let Self { address, settings, .. } = self;
        let mut text = format!(
            "server_name: node-{node}\nlisten: \"{address}:{}\"\n{settings}\n\
             jetstream {{ store_dir: \"{}\" }}\n",
            CLIENTS + node,
            store.display()
        );
        let nodes = u16::try_from(self.nodes.len()).unwrap();
        if nodes > 1 {
            let routes: Vec<String> =
                (0..nodes).map(|other| format!("nats://{address}:{}", ROUTES + other)).collect();
            text += &format!(
                "cluster {{ name: tests, listen: \"{address}:{}\", routes: [{}] }}\n",
                ROUTES + node,
                routes.join(", ")
            );
        }
        fs::write(&file, text).unwrap();
        file
    }

    /// Copies the store of a node that is not running, for [`Nats::put_back`].
    pub(crate) fn save(&self, node: u16) {
        copy(&self.store(node), &self.store(node).with_extension("saved"));
    }

    pub(crate) fn put_back(&self, node: u16) {
        fs::remove_dir_all(self.store(node)).unwrap();
        copy(&self.store(node).with_extension("saved"), &self.store(node));
    }

    fn store(&self, node: u16) -> PathBuf {
        self.dir.path().join(format!("store-{node}"))
    }

    fn log(&self, node: u16) -> PathBuf {
        self.dir.path().join(format!("{node}.log"))
    }

    pub(crate) fn node(&self, node: u16) -> SocketAddr {
        (self.address, CLIENTS + node).into()
    }

    /// The addresses of all nodes, in the form that `--nats` takes.
    pub(crate) fn urls(&self) -> String {
        let nodes = 0..u16::try_from(self.nodes.len()).unwrap();
        nodes.map(|node| format!("nats://{}", self.node(node))).collect::<Vec<_>>().join(",")
    }

    /// Kills a node, as `kill -9` does.
    pub(crate) fn kill_node(&mut self, node: u16) {
        drop(self.nodes[usize::from(node)].take());
    }

    /// Connects to any node that answers.
    pub(crate) async fn client(&self) -> async_nats::Client {
        let addresses: Vec<async_nats::ServerAddr> =
            self.urls().split(',').map(|url| url.parse().unwrap()).collect();
        let connecting = async {
            loop {
                match async_nats::connect(addresses.as_slice()).await {
                    Ok(client) => return client,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        soon(connecting).await
    }

    /// Waits until each running node accepts connections and JetStream answers.
    pub(crate) async fn ready(&self) {
        let every = async {
            for (node, child) in (0..).zip(&self.nodes) {
                while child.is_some() && TcpStream::connect(self.node(node)).await.is_err() {
                    tokio::task::yield_now().await;
                }
            }
            let context = async_nats::jetstream::new(self.client().await);
            while context.query_account().await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        if tokio::time::timeout(PATIENCE, every).await.is_err() {
            panic!("NATS is not ready: {}", fs::read_to_string(self.log(0)).unwrap());
        }
    }

    /// Returns the log of the first node.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.log(0)).unwrap()
    }

    /// Waits until each node has all entries of a stream.
    pub(crate) async fn until_current(&self, stream: &str) {
        let context = async_nats::jetstream::new(self.client().await);
        let nodes = self.nodes.len() - 1;
        let asking = async {
            loop {
                if let Ok(mut stream) = context.get_stream(stream).await
                    && let Ok(info) = stream.info().await
                    && let Some(cluster) = &info.cluster
                    && cluster.replicas.iter().filter(|replica| replica.current).count() == nodes
                {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        within(3 * PATIENCE, asking).await;
    }

    /// Returns the number of the node that is the leader of a stream.
    pub(crate) async fn leader(&self, stream: &str) -> u16 {
        let context = async_nats::jetstream::new(self.client().await);
        let asking = async {
            loop {
                if let Ok(mut stream) = context.get_stream(stream).await
                    && let Ok(info) = stream.info().await
                    && let Some(cluster) = &info.cluster
                    && let Some(leader) = &cluster.leader
                {
                    return leader.strip_prefix("node-").unwrap().parse().unwrap();
                }
                tokio::task::yield_now().await;
            }
        };
        soon(asking).await
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.as_ref().unwrap(), to.join(entry.as_ref().unwrap().file_name()));
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}
