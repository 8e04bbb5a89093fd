//! Tests many servers that act as one, on a real NATS.

mod agreement;
mod away;
mod doubt;
mod many;
mod nats;
mod nodes;

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Line, Server, request};
use nats::Nats;
use testkit::files::directory_with;
use testkit::{PATIENCE, soon, within};

const KEY: &str = "cluster-key-0123456789abcdef";

/// The directory and the NATS options that all servers of a cluster share.
struct Common {
    dir: TempDir,
    urls: String,
    replicas: String,
}

impl Common {
    fn of(nats: &Nats, replicas: u16) -> Self {
        let dir = directory_with("key", KEY);
        Self { dir, urls: nats.urls(), replicas: replicas.to_string() }
    }

    fn options(&self, more: &[&str]) -> Vec<String> {
        let path = |name| Path::join(self.dir.path(), name).display().to_string();
        let options = [
            "--nats".into(),
            self.urls.clone(),
            "--nats-replicas".into(),
            self.replicas.clone(),
            "--id-key-file".into(),
            path("id.key"),
            "--protect".into(),
            format!("shop:send:{}", path("key")),
            "--protect".into(),
            format!("shop:drop:{}", path("key")),
        ];
        options.into_iter().chain(more.iter().map(|&more| more.into())).collect()
    }

    fn server(&self) -> Server {
        self.server_with(&[])
    }

    fn server_with(&self, more: &[&str]) -> Server {
        let options = self.options(more);
        Server::start(&options.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Starts a server that reaches NATS over `line`.
    fn server_over(&self, line: &Line) -> Server {
        self.server_over_with(line, &["--send-rate", "off"])
    }

    fn server_over_with(&self, line: &Line, more: &[&str]) -> Server {
        let url = format!("nats://{}", line.address);
        let mut options = self.options(more);
        options[1] = url;
        Server::start(&options.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

fn broadcast(message: &Value) -> Value {
    json!({"action":"broadcast","tag":"shop","message":message})
}

fn send(id: &str, message: &Value, mid: &str) -> Value {
    json!({"action":"send","tag":"shop","id":id,"key":KEY,"message":message,"mid":mid})
}

/// Sends an action, which has a `mid`, until it is accepted. Returns the reply.
async fn accepted(server: &Server, action: &Value) -> Value {
    let trying = async {
        loop {
            let (status, reply) = server.post(action).await;
            if status == 200 {
                return reply;
            }
            assert_eq!(reply["error"], "unavailable", "{reply}");
        }
    };
    within(3 * PATIENCE, trying).await
}

/// Returns when the server knows exactly `others` other servers.
async fn until_peers(server: &Server, others: u64) {
    let seen = async { while server.status().await["other_servers"] != others {} };
    soon(seen).await;
}

async fn is_ready(server: &Server) -> bool {
    request(server.admin, "GET /readyz", &[], b"").await.status == 200
}
