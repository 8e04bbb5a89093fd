//! Long tests. `cargo nextest run --profile all` runs them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use rustix::process::Pid;
use rustls::client::Resumption;
use rustls::{ClientConfig, HandshakeKind};
use rustls_pki_types::CertificateDer;
use testkit::proc::open_files;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::{Gate, VERSIONS, echo, name, round_trip, soon};
use crate::renewal::{RENEWED, replace};

const ROTATIONS: usize = 1_000;
/// The renewals during which caches fill: thread stacks, allocator arenas, stored sessions.
const WARM: usize = 200;
const LIVE: usize = 20;
/// The number of clients of each kind. One kind resumes its session, which never uses the
/// certificate. The other kind does a full handshake each time.
const CALLERS: usize = 2;

#[derive(Default)]
struct Load {
    stop: AtomicBool,
    full: AtomicUsize,
    resumed: AtomicUsize,
    /// The certificate of the latest full handshake.
    leaf: Mutex<Option<CertificateDer<'static>>>,
}

/// Connects, sends bytes, disconnects, and repeats. Every handshake and every byte must be right.
async fn call(
    load: Arc<Load>,
    address: SocketAddr,
    configs: Vec<Arc<ClientConfig>>,
    returns: bool,
) {
    let mut expected = HandshakeKind::Full;
    while !load.stop.load(Ordering::Relaxed) {
        for config in &configs {
            let tcp = soon(TcpStream::connect(address)).await.unwrap();
            let connector = TlsConnector::from(Arc::clone(config));
            let mut client = soon(connector.connect(name(), tcp)).await.unwrap();
            round_trip(&mut client).await;
            assert_eq!(client.get_ref().1.handshake_kind(), Some(expected));
            if expected == HandshakeKind::Full {
                *load.leaf.lock() = Some(leaf(&client));
                load.full.fetch_add(1, Ordering::Relaxed);
            } else {
                load.resumed.fetch_add(1, Ordering::Relaxed);
            }
        }
        if returns {
            expected = HandshakeKind::Resumed;
        }
    }
}

fn leaf(client: &TlsStream<TcpStream>) -> CertificateDer<'static> {
    client.get_ref().1.peer_certificates().unwrap()[0].clone()
}

/// Waits until at most `most` file descriptors are open. The gate closes the descriptors of a
/// client shortly after the client has disconnected.
async fn open_files_fall_to(pid: Pid, most: usize) {
    soon(async {
        while open_files(pid) > most {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_renewals_under_load() {
    let mut gate = Gate::start(echo().await, &["--reload-interval", "1ms"]);
    let pid = gate.pid();
    let mut live = Vec::new();
    for _ in 0..LIVE {
        live.push(gate.client().await);
    }
    let load = Arc::new(Load::default());
    let mut callers = JoinSet::new();
    for returns in [true, false].into_iter().cycle().take(2 * CALLERS) {
        let mut configs = VERSIONS.map(|version| gate.pki.client_config(version));
        if !returns {
            configs.iter_mut().for_each(|config| config.resumption = Resumption::disabled());
        }
        let configs = configs.map(Arc::new).to_vec();
        callers.spawn(call(Arc::clone(&load), gate.address, configs, returns));
    }
    let mut warm = 0;
    for rotation in 1..=ROTATIONS {
        gate.pki.renew();
        replace(&gate.pem, &gate.pki.together());
        tokio::task::block_in_place(|| gate.log_line(RENEWED));
        round_trip(&mut live[rotation % LIVE]).await;
        // A client must see each certificate before the next one comes, and resuming clients must
        // be active all the time.
        let renewed = gate.pki.leaf();
        soon(async {
            while load.resumed.load(Ordering::Relaxed) < rotation
                || load.leaf.lock().as_ref() != Some(&renewed)
            {
                // A client stops early only if a check failed.
                assert!(callers.try_join_next().is_none(), "a client failed: see above");
                tokio::task::yield_now().await;
            }
        })
        .await;
        if rotation == WARM {
            warm = gate.resident();
        }
    }
    let end = gate.resident();
    load.stop.store(true, Ordering::Relaxed);
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    assert!(load.full.load(Ordering::Relaxed) >= ROTATIONS);
    for client in &mut live {
        round_trip(client).await;
    }
    // A leaked certificate would take at least 4 KiB, so 800 of them would take 3 MiB.
    assert!(end <= warm + 2_048, "{warm} KiB after {WARM} renewals, {end} after {ROTATIONS}");

    // In the end the gate has as many open files as a new gate with the same number of open
    // connections.
    let fresh = Gate::start(echo().await, &[]);
    let mut as_many = Vec::new();
    for _ in 0..LIVE {
        let mut client = fresh.client().await;
        round_trip(&mut client).await;
        as_many.push(client);
    }
    open_files_fall_to(pid, open_files(fresh.pid())).await;
}
