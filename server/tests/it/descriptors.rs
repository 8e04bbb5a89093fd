//! Tests a server that runs out of file descriptors.

use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, prlimit};
use serde_json::json;
use server::limits;
use testkit::proc::{cpu_time, open_files};
use testkit::soon;
use tokio::net::TcpStream;

use crate::admission::{KEY, UPGRADE, told_to_come_back};
use crate::harness::{Server, request};
use crate::metrics::metrics;

/// The number of connections for which the server with few descriptors has room.
const PLACES: usize = 20;

fn broadcast(number: usize) -> serde_json::Value {
    json!({"action": "broadcast", "tag": "shop", "message": number})
}

/// The server reserves the descriptors that it needs for other things, so it never runs out of
/// them.
#[tokio::test]
async fn a_low_limit_leaves_fewer_places_and_a_polite_refusal_for_all_others() {
    let files = limits::OTHER_FILES + PLACES;
    let server = Server::start_with_files(u32::try_from(files).unwrap(), &[]);
    let mut sender = server.connect().await;
    let mut clients = Vec::new();
    for _ in 1..PLACES {
        clients.push(server.listener("shop", None).await);
    }
    let upgrade = [UPGRADE, &[KEY]].concat();
    told_to_come_back(&request(server.address, "GET /ws", &upgrade, b"").await);
    // The test opens far more connections than there are descriptors. None of them sends anything.
    let mut silent = Vec::new();
    for number in 0..2 * files {
        silent.push(TcpStream::connect(server.address).await.unwrap());
        if number % 50 == 0 {
            assert_eq!(sender.ask(&json!({"action": "ping"})).await["ok"], "ping");
        }
    }
    let now = metrics(server.admin).await;
    assert_eq!(now["process_max_fds"], files as f64);
    assert!(now["process_open_fds"] < files as f64);
    told_to_come_back(&request(server.address, "GET /ws", &upgrade, b"").await);
    assert_eq!(sender.ask(&broadcast(1)).await["clients"], PLACES - 1);
    for client in &mut clients {
        assert_eq!(client.message().await, 1);
    }
    drop(silent);
    let log = server.stop().await.output;
    assert!(!log.contains("cannot accept"), "{log}");
}

/// The limit is lowered while the server runs, so the server still relies on the old limit.
#[tokio::test]
async fn without_descriptors_old_clients_go_on_and_new_ones_wait() {
    let server = Server::start(&[]);
    let mut sender = server.connect().await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(server.listener("shop", None).await);
    }
    let limit = open_files(server.pid()) + 4;
    let limits = Rlimit { current: Some(limit as u64), maximum: Some(limit as u64) };
    prlimit(Some(server.pid()), Resource::Nofile, limits).unwrap();

    for wave in 0..3 {
        let mut silent = Vec::new();
        for _ in 0..8 {
            silent.push(TcpStream::connect(server.address).await.unwrap());
        }
        let exhausting = async {
            while open_files(server.pid()) < limit {
                tokio::task::yield_now().await;
            }
        };
        soon(exhausting).await;
        // A server that retries `accept` without a pause would use all CPU that it can get.
        let (begun, used) = (Instant::now(), cpu_time(server.pid()));
        while begun.elapsed() < Duration::from_secs(1) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let used = cpu_time(server.pid()) - used;
        assert!(used <= Duration::from_millis(100), "{used:?}");
        assert_eq!(sender.ask(&broadcast(wave)).await["clients"], 5);
        for client in &mut clients {
            assert_eq!(client.message().await, wave);
        }
        drop(silent);
        let newcomer = server.listener("shop", None).await;
        assert_eq!(server.post(&broadcast(99)).await.1["clients"], 6);
        for client in &mut clients {
            assert_eq!(client.message().await, 99);
        }
        newcomer.close().await;
        server.until_counts("shop", (5, 0)).await;
    }
    let log = server.stop().await.output;
    // The line is logged once or twice in all, although several waves of clients and several
    // listening sockets fail.
    let told = log.matches("cannot accept").count();
    assert!((1..=2).contains(&told), "{log}");
}
