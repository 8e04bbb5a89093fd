//! What takes long: `cargo nextest run --profile all` runs it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::harness::{Gate, VERSIONS, echo, name, round_trip, soon};
use crate::renewal::{RENEWED, replace};

const ROTATIONS: usize = 1_000;
/// Until here, caches fill: thread stacks, allocator arenas, remembered sessions.
const WARM: usize = 200;
const LIVE: usize = 20;
const CALLERS: usize = 4;

struct Load {
    stop: AtomicBool,
    connections: AtomicUsize,
}

/// Connects, says something, leaves, and comes again; every handshake and every byte must be right.
async fn call(load: Arc<Load>, address: std::net::SocketAddr, configs: Vec<Arc<ClientConfig>>) {
    while !load.stop.load(Ordering::Relaxed) {
        for config in &configs {
            let tcp = soon(TcpStream::connect(address)).await.unwrap();
            let connector = TlsConnector::from(Arc::clone(config));
            let mut client = soon(connector.connect(name(), tcp)).await.unwrap();
            round_trip(&mut client).await;
            load.connections.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn descriptors(id: u32) -> usize {
    fs::read_dir(format!("/proc/{id}/fd")).unwrap().count()
}

/// Waits until no more than `most` descriptors are open: those of callers are closed a moment
/// after the callers have left.
async fn descriptors_fall_to(id: u32, most: usize) {
    soon(async {
        while descriptors(id) > most {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_renewals_under_load() {
    let mut gate = Gate::start(echo().await, &["--reload-interval", "1ms"]);
    let id = gate.id();
    let mut live = Vec::new();
    for _ in 0..LIVE {
        live.push(gate.client().await);
    }
    let load = Arc::new(Load { stop: AtomicBool::new(false), connections: AtomicUsize::new(0) });
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let configs = VERSIONS.iter().map(|version| gate.pki.client(version)).collect();
        callers.spawn(call(Arc::clone(&load), gate.address, configs));
    }
    let mut warm = 0;
    for rotation in 1..=ROTATIONS {
        gate.pki.renew();
        replace(&gate.pem, &gate.pki.together());
        tokio::task::block_in_place(|| gate.log_line(RENEWED));
        round_trip(&mut live[rotation % LIVE]).await;
        // Two connections at least for each certificate.
        soon(async {
            while load.connections.load(Ordering::Relaxed) < 2 * rotation {
                // A caller ends before its time only when something failed.
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
    for client in &mut live {
        round_trip(client).await;
    }
    // A certificate that is kept takes 4 KiB at least: 800 of them 3 MiB.
    assert!(end <= warm + 2_048, "{warm} KiB after {WARM} renewals, {end} after {ROTATIONS}");

    // What is left is what another start would need for as many live connections.
    let fresh = Gate::start(echo().await, &[]);
    let mut as_many = Vec::new();
    for _ in 0..LIVE {
        let mut client = fresh.client().await;
        round_trip(&mut client).await;
        as_many.push(client);
    }
    descriptors_fall_to(id, descriptors(fresh.id())).await;
}
