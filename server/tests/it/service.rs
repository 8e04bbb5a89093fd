//! Under a service manager: a socket that outlives the server, and what it tells.

use std::ffi::OsStr;

use serde_json::json;

use crate::harness::{Client, request};
use crate::manager::{Given, Running, Told};

const NO_OPTIONS: [&str; 0] = [];

/// A server that has said that it serves.
fn start(given: &Given, told: &Told, environment: &[(&str, &OsStr)]) -> Running {
    let path = [("NOTIFY_SOCKET", told.path().as_os_str())];
    let running = given.start(&[&path[..], environment].concat(), &NO_OPTIONS);
    told.until("READY=1");
    running
}

#[tokio::test]
async fn requests_wait_in_the_given_socket_while_the_server_is_restarted() {
    let (given, told) = (Given::new(), Told::new());
    let address = given.address();
    for _ in 0..3 {
        // Nobody accepts yet, and nobody is refused.
        let waiting = tokio::spawn(async move { request(address, "GET /ws", &[], b"").await });
        tokio::task::yield_now().await;
        let mut running = start(&given, &told, &[("WATCHDOG_USEC", "200000".as_ref())]);
        assert_eq!(waiting.await.unwrap().status, 426);
        told.until("WATCHDOG=1");
        running.terminate();
        told.until("STOPPING=1");
        assert_eq!(running.ended().code(), Some(0));
    }
}

/// Listeners that are there when the server is restarted.
const LISTENERS: usize = 2_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_under_thousands_of_listeners_and_a_publisher_refuses_nobody() {
    let _files = shared::descriptors::raise_limit();
    let (given, told) = (Given::new(), Told::new());
    let address = given.address();
    let mut running = start(&given, &told, &[]);
    let mut listeners = Vec::new();
    for _ in 0..LISTENERS {
        listeners.push(listen(address).await);
    }
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let (begun, begins) = tokio::sync::oneshot::channel();
    let mut begun = Some(begun);
    // Each message on a connection of its own, as PHP sends them, one after the other.
    let publisher = tokio::spawn(async move {
        let message = json!({"action": "broadcast", "tag": "shop", "message": 1}).to_string();
        let mut reached = Vec::new();
        while !*stopped.borrow_and_update() {
            let answer = request(address, "POST /messages", &[], message.as_bytes()).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            let reply: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
            reached.push((reply["seq"].as_u64().unwrap(), reply["clients"].as_u64().unwrap()));
            begun.take().map(|begun| begun.send(()));
        }
        reached
    });

    begins.await.unwrap();
    running.terminate();
    let (mut waits, mut counts) = (Vec::new(), Vec::new());
    for listener in listeners {
        let (wait, messages) = farewell(listener).await;
        waits.push(wait);
        counts.push(messages);
    }
    assert_eq!(running.ended().code(), Some(0));
    // Each has its own moment to come back.
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > LISTENERS / 4 && *waits.last().unwrap() < 5_000, "{}", waits.len());

    let _next = start(&given, &told, &[]);
    let mut again = Vec::new();
    for _ in 0..LISTENERS {
        again.push(listen(address).await);
    }
    stop.send(true).unwrap();
    let reached = publisher.await.unwrap();
    // The next server counts from 1 again.
    let first = reached.iter().zip(&reached[1..]).take_while(|((seq, _), (next, _))| seq < next);
    let first = first.count() as u64 + 1;
    assert_eq!(reached[0], (1, LISTENERS as u64));
    // Whatever the first was asked to deliver, everyone has had it before the end.
    assert!(counts.iter().all(|count| *count == first), "{first}: {:?}", counts.iter().min());
    let message = json!({"action": "broadcast", "tag": "shop", "message": 2}).to_string();
    let last = request(address, "POST /messages", &[], message.as_bytes()).await;
    let last: serde_json::Value = serde_json::from_str(&last.body).unwrap();
    assert_eq!(last["clients"], LISTENERS);
}

async fn listen(address: std::net::SocketAddr) -> Client {
    let mut client = Client::connect(address, "/ws", &[]).await.unwrap();
    client.send(&json!({"action": "set", "tag": "shop"})).await;
    assert_eq!(client.next().await["ok"], "set");
    client
}

/// What a listener is told at the end: when to come back; and how many messages it has had.
async fn farewell(mut client: Client) -> (u64, u64) {
    let (mut wait, mut messages) = (None, 0);
    loop {
        match client.next_or_closed().await {
            Ok(text) if text["event"] == "bye" => wait = text["retry_in_ms"].as_u64(),
            Ok(text) => messages += u64::from(!text["message"].is_null()),
            Err(code) => {
                assert_eq!(code, Some(1001));
                return (wait.expect("no bye before the end"), messages);
            }
        }
    }
}
