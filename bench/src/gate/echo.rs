//! The backend of the gates, which sends back all that it receives. It is a process of its own, so
//! its CPU time is not counted for any measured program.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use rustix::process::{Signal, set_parent_process_death_signal};
use shared::accept::Listener;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::run;

/// How many times a port is tried that must be free for IPv4 and IPv6.
const ATTEMPTS: usize = 20;

/// The number of bytes that are read and sent back at once.
const BUFFER: usize = 16 * 1024;

#[derive(Args)]
pub(crate) struct EchoOptions {
    /// The address to listen on; port 0 takes a free one. The default is 127.0.0.1 and ::1
    listen: Option<SocketAddr>,

    /// End when the program that started this one ends
    #[arg(long, hide = true)]
    with_parent: bool,
}

/// Serves connections until the process is ended.
///
/// # Errors
/// When the address cannot be listened on.
pub(crate) fn run(options: &EchoOptions) -> Result<()> {
    run::block_on(listen(options))
}

async fn listen(options: &EchoOptions) -> Result<()> {
    if options.with_parent {
        set_parent_process_death_signal(Some(Signal::TERM))?;
    }
    let (first, second) = match options.listen {
        Some(address) => (Listener::bind(address).context("cannot listen")?, None),
        None => both_families()?,
    };
    shared::telemetry::announce("echo", first.address());
    match second {
        Some(second) => tokio::join!(serve(first), serve(second)).0,
        None => serve(first).await,
    }
}

/// Listens on the same port of 127.0.0.1 and ::1, because httpGate connects to ::1 and the other
/// gates to 127.0.0.1.
fn both_families() -> Result<(Listener, Option<Listener>)> {
    for _ in 0..ATTEMPTS {
        let v4 = Listener::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0))
            .context("cannot listen on 127.0.0.1")?;
        let v6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), v4.address().port());
        match Listener::bind(v6) {
            Ok(v6) => return Ok((v4, Some(v6))),
            Err(taken) if taken.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error).context("cannot listen on ::1"),
        }
    }
    bail!("no port is free on both 127.0.0.1 and ::1")
}

async fn serve(listener: Listener) -> Result<()> {
    loop {
        let (socket, _peer) = listener.accept().await;
        tokio::spawn(async move { echo(socket.register()?).await });
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    tokio::io::copy_buf(&mut BufReader::with_capacity(BUFFER, reader), &mut writer).await?;
    writer.shutdown().await
}
