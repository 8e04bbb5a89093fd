//! A WebSocket client behind the gate. It registers a tag over WSS, verifies the certificate as a
//! browser would, and prints the messages that arrive. `scripts/demo --check` uses it to test the
//! demo from end to end.

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use futures_util::{SinkExt, StreamExt};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{client_async, tungstenite::Message};

/// Registers a tag through the gate and prints each message as a line.
#[derive(Parser)]
struct Options {
    /// Where the gate listens.
    #[arg(long)]
    connect: SocketAddr,
    /// The name that the certificate must carry.
    #[arg(long, default_value = "localhost")]
    name: String,
    /// The one authority to trust, as PEM.
    #[arg(long)]
    root: PathBuf,
    #[arg(long)]
    tag: String,
    /// A file with the ID to listen under; without it only broadcasts arrive.
    #[arg(long)]
    id_file: Option<PathBuf>,
    /// End successfully after this many messages
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// Give up after this many seconds
    #[arg(long, default_value_t = 20)]
    timeout: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let limit = Duration::from_secs(options.timeout);
    tokio::time::timeout(limit, listen(&options)).await.context("not enough messages in time")?
}

async fn listen(options: &Options) -> anyhow::Result<()> {
    let id = match &options.id_file {
        Some(path) => Some(std::fs::read_to_string(path).context("the ID file")?),
        None => None,
    };
    let set = json!({ "action": "set", "tag": options.tag, "id": id.as_deref().map(str::trim) });

    let tcp = TcpStream::connect(options.connect).await.context("connecting to the gate")?;
    let name = ServerName::try_from(options.name.clone()).context("the certificate's name")?;
    let tls = trusting(&options.root)?.connect(name, tcp).await.context("the TLS handshake")?;
    let url = format!("wss://{}:{}/ws", options.name, options.connect.port());
    let (mut socket, _) = client_async(url, tls).await.context("the WebSocket handshake")?;
    socket.send(Message::text(set.to_string())).await?;

    let mut left = options.count;
    while left > 0 {
        let Some(frame) = socket.next().await else { bail!("the connection ended") };
        let Message::Text(text) = frame? else { continue };
        let value: Value = serde_json::from_str(&text)?;
        if value["ok"] == "set" {
            println!("registered");
        } else if value.get("error").is_some() {
            bail!("refused: {text}");
        } else if value.get("message").is_some() {
            println!("{text}");
            left -= 1;
        }
    }
    socket.close(None).await.context("closing")
}

fn trusting(root: &PathBuf) -> anyhow::Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(root).context("the root certificate")?)?;
    let config = rustls::ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
