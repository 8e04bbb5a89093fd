//! The gate under a service manager: inherited sockets, and notifications.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gate::{Config, Listeners};
use rustix::process::Signal;
use rustls::version::TLS13;
use shared::shutdown::{Hangups, Shutdown};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use testkit::files::directory_with;
use testkit::service_manager::{self, NotifySocket};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::harness::{Gate, Pki, echo, name, program, round_trip, soon};

/// A gate that inherits `socket` as from systemd. The gate ignores the socket's name.
fn activated(socket: &TcpListener, files: &TempDir, backend: SocketAddr) -> Command {
    let given = [(socket.try_clone().unwrap().into(), "proxy")];
    let mut command = service_manager::activated(program().get_program(), given, "</dev/null");
    command
        // The gate must use the socket: it cannot listen on this address of the command line.
        .args(["192.0.2.1:1", &backend.to_string()])
        .arg(files.path().join("cert.pem"))
        .args(["--log", "info,access=off", "--drain", "0s"]);
    command
}

fn files(pki: &Pki) -> TempDir {
    directory_with("cert.pem", pki.together())
}

/// Clients that keep connecting are never refused while the gate restarts. A client in the middle
/// of its handshake may be closed, together with the gate that served it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_refuses_nobody() {
    let backend = echo().await;
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let pki = Pki::new();
    let dir = files(&pki);
    let connector = TlsConnector::from(pki.client(&TLS13));
    let connects = Arc::new(AtomicUsize::new(0));
    let mut load = JoinSet::new();
    for _ in 0..4 {
        let (connects, connector) = (Arc::clone(&connects), connector.clone());
        load.spawn(async move {
            loop {
                let tcp = soon(TcpStream::connect(address)).await.expect("refused");
                let _ = soon(connector.connect(name(), tcp)).await;
                connects.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    let start = || Gate::launch(activated(&socket, &dir, backend), Pki::new());
    let mut gate = start();
    for _ in 0..5 {
        assert_eq!(gate.address, address);
        let before = connects.load(Ordering::Relaxed);
        soon(async {
            while connects.load(Ordering::Relaxed) < before + 20 {
                assert!(load.try_join_next().is_none());
                tokio::task::yield_now().await;
            }
        })
        .await;
        gate.signal(Signal::TERM);
        let (status, log) = gate.ended().await;
        assert_eq!(status.code(), Some(0), "{log:?}");
        // No gate is running now, but the open socket still takes the client's connection.
        let waiting = soon(TcpStream::connect(address)).await.expect("refused");
        gate = start();
        let mut client = soon(connector.connect(name(), waiting)).await.unwrap();
        round_trip(&mut client).await;
    }
    assert!(load.try_join_next().is_none());
}

#[tokio::test]
async fn what_is_no_listening_socket_is_said() {
    let dir = files(&Pki::new());
    let backend = echo().await;
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let unix = UnixListener::bind(dir.path().join("sock")).unwrap();
    for stdin in [Stdio::null(), OwnedFd::from(unix).into()] {
        let output = activated(&socket, &dir, backend).stdin(stdin).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(71), "{stderr}");
        assert!(stderr.contains("descriptor 3"), "{stderr}");
    }
}

/// Only the socket shows that the gate forwards to itself, because the command line has another
/// address.
#[tokio::test]
async fn a_socket_that_is_the_backend_itself_is_refused() {
    let dir = files(&Pki::new());
    for at in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
        // Some machines have no IPv6.
        let Some(socket) = listening_at(at.parse().unwrap()) else { continue };
        let backend = SocketAddr::from(([127, 0, 0, 1], socket.local_addr().unwrap().port()));
        let output = activated(&socket, &dir, backend).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{at}: {stderr}");
        let words = format!("cannot forward to {backend}: gate itself listens there");
        assert!(stderr.contains(&words), "{at}: {stderr}");
    }
}

/// Opens a socket at `address`. A socket on [::] accepts IPv4 too, as if systemd had created it.
fn listening_at(address: SocketAddr) -> Option<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).ok()?;
    if address.is_ipv6() {
        socket.set_only_v6(false).ok()?;
    }
    socket.bind(&address.into()).ok()?;
    socket.listen(16).ok()?;
    Some(socket.into())
}

/// Each listener reserves a permit for its next connection, so each can serve one.
#[tokio::test]
async fn every_listener_serves_however_few_connections_are_allowed() {
    let pki = Pki::new();
    let dir = files(&pki);
    let pem = dir.path().join("cert.pem");
    let backend = echo().await.to_string();
    let arguments = ["gate", "0", &backend, pem.to_str().unwrap(), "--max-connections", "1"];
    let Ok(gate::Command::Run(cli)) = gate::Command::parse(arguments.map(Into::into)) else {
        panic!()
    };
    let config = Config::resolve(&cli).unwrap();
    let given = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = given.each_ref().map(|it| it.local_addr().unwrap());
    let listeners = Listeners::open(&config, given.into()).unwrap();
    let run = gate::run(listeners, config, Hangups::install().unwrap(), Shutdown::new());
    tokio::spawn(run);
    let mut clients = Vec::new();
    for address in addresses {
        let tcp = TcpStream::connect(address).await.unwrap();
        let connector = TlsConnector::from(pki.client(&TLS13));
        let mut client = soon(connector.connect(name(), tcp)).await.unwrap();
        round_trip(&mut client).await;
        clients.push(client);
    }
}

#[tokio::test]
async fn the_manager_is_told_of_start_life_and_stop() {
    let pki = Pki::new();
    let dir = files(&pki);
    let manager = NotifySocket::new();
    let next = || manager.next();

    let mut command = program();
    command
        .args(["127.0.0.1:0", &echo().await.to_string()])
        .arg(dir.path().join("cert.pem"))
        // The watchdog is notified only while all of these threads are alive.
        .args(["--threads", "3"])
        .env("NOTIFY_SOCKET", manager.path())
        .env("WATCHDOG_USEC", "200000");
    let gate = Gate::launch(command, pki);
    let mut told = vec![next(), next(), next()];
    told.sort();
    told.dedup();
    let told: Vec<_> = told.iter().map(|it| it.trim()).collect();
    assert_eq!(told, ["READY=1", "WATCHDOG=1"]);
    round_trip(&mut gate.client().await).await;
    gate.signal(Signal::HUP);
    let reloading = std::iter::repeat_with(next).find(|it| !it.starts_with("WATCHDOG")).unwrap();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    let ready = std::iter::repeat_with(next).find(|it| !it.starts_with("WATCHDOG")).unwrap();
    assert_eq!(ready.trim(), "READY=1");
    gate.signal(Signal::TERM);
    while next().trim() != "STOPPING=1" {}
    assert_eq!(gate.ended().await.0.code(), Some(0));
}
