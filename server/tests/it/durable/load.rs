//! Publishers that note each reply, a listener that reconnects whenever its connection ends, and
//! the checks of both.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use testkit::{PATIENCE, soon, within};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::TAG;

/// A connection that may end at any moment.
struct Wire(WebSocketStream<TcpStream>);

impl Wire {
    /// Connects to the server's current address, and retries until it succeeds.
    async fn open(to: &watch::Receiver<SocketAddr>, refused: &AtomicU64) -> Self {
        let opening = async {
            loop {
                let address = *to.borrow();
                match TcpStream::connect(address).await {
                    Ok(stream) => {
                        stream.set_nodelay(true).unwrap();
                        let url = format!("ws://{address}/ws");
                        if let Ok((socket, _)) = client_async(url, stream).await {
                            return Self(socket);
                        }
                    }
                    Err(_) => {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        soon(opening).await
    }

    async fn send(&mut self, value: &Value) -> Option<()> {
        self.0.send(Message::text(value.to_string())).await.ok()
    }

    /// Returns the next text frame, or `None` at the end of the connection.
    async fn next(&mut self) -> Option<Value> {
        loop {
            match soon(self.0.next()).await?.ok()? {
                Message::Text(text) => return Some(serde_json::from_str(&text).unwrap()),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }
}

/// The outcome that a publisher learned for its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// The message is in the log, with this sequence number.
    Seq(u64),
    /// The message is not in the log and never will be.
    Refused,
    /// The message may be in the log.
    Unknown,
}

/// A message in the form `PUBLISHER-NUMBER`, and its outcome.
pub(super) type Said = (String, Told);

/// How publishers treat a message that was not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Otherwise {
    /// Send the message again until it is acknowledged.
    Again,
    /// Note the message and send the next one.
    Next,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    answers: AtomicU64,
    acknowledged: AtomicU64,
    answered: Notify,
    refused: AtomicU64,
}

/// The running publishers and their listener.
#[derive(Debug)]
pub(super) struct Load {
    server: watch::Sender<SocketAddr>,
    shared: Arc<Shared>,
    publishers: Vec<JoinHandle<Vec<Said>>>,
    listener: JoinHandle<Vec<(u64, String)>>,
    last: watch::Sender<Option<u64>>,
}

impl Load {
    pub(super) fn begin(server: SocketAddr, publishers: usize, otherwise: Otherwise) -> Self {
        let (server, at) = watch::channel(server);
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            answers: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            answered: Notify::new(),
            refused: AtomicU64::new(0),
        });
        let publishers = (0..publishers)
            .map(|name| tokio::spawn(publish(name, at.clone(), Arc::clone(&shared), otherwise)))
            .collect();
        let (last, until) = watch::channel(None);
        let listener = tokio::spawn(listen(at, until, Arc::clone(&shared)));
        Self { server, shared, publishers, listener, last }
    }

    /// Tells the publishers and the listener the new address of the server.
    pub(super) fn moved(&self, server: SocketAddr) {
        self.server.send(server).unwrap();
    }

    /// Waits until `more` further messages have been acknowledged.
    pub(super) async fn acknowledged(&self, more: u64) {
        self.counted(&self.shared.acknowledged, more).await;
    }

    /// Waits until `more` further messages have been answered, whatever the outcome.
    pub(super) async fn answered(&self, more: u64) {
        self.counted(&self.shared.answers, more).await;
    }

    async fn counted(&self, count: &AtomicU64, more: u64) {
        let wanted = count.load(Ordering::Relaxed) + more;
        let counting = async {
            while count.load(Ordering::Relaxed) < wanted {
                self.shared.answered.notified().await;
            }
        };
        within(3 * PATIENCE, counting).await;
    }

    /// Returns the number of connections that were refused so far.
    pub(super) fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Ends the publishers, each after the answer to its last message. Returns all messages with
    /// their outcomes.
    pub(super) async fn quiet(&mut self) -> Vec<Said> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut said = Vec::new();
        for publisher in self.publishers.drain(..) {
            said.extend(publisher.await.unwrap());
        }
        said
    }

    /// Returns the messages that the listener has received, up to the sequence number `last`.
    pub(super) async fn heard(self, last: u64) -> Vec<(u64, String)> {
        self.last.send(Some(last)).unwrap();
        self.listener.await.unwrap()
    }
}

async fn publish(
    name: usize,
    server: watch::Receiver<SocketAddr>,
    shared: Arc<Shared>,
    otherwise: Otherwise,
) -> Vec<Said> {
    let mut wire = Wire::open(&server, &shared.refused).await;
    let mut said = Vec::new();
    while !shared.stop.load(Ordering::Relaxed) {
        let text = format!("{name}-{}", said.len());
        let action = json!({"action": "broadcast", "tag": TAG, "mid": text, "message": text});
        let told = loop {
            let told = match ask(&mut wire, &action).await {
                Some(told) => told,
                None => {
                    wire = Wire::open(&server, &shared.refused).await;
                    Told::Unknown
                }
            };
            shared.answers.fetch_add(1, Ordering::Relaxed);
            if matches!(told, Told::Seq(_)) {
                shared.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            shared.answered.notify_one();
            if matches!(told, Told::Seq(_)) || otherwise == Otherwise::Next {
                break told;
            }
        };
        said.push((text, told));
    }
    said
}

async fn ask(wire: &mut Wire, action: &Value) -> Option<Told> {
    wire.send(action).await?;
    loop {
        let reply = wire.next().await?;
        match (reply["ok"].as_str(), reply["outcome"].as_str()) {
            (Some(_), _) => return Some(Told::Seq(reply["seq"].as_u64().unwrap())),
            (_, Some("refused")) => return Some(Told::Refused),
            (_, Some("unknown")) => return Some(Told::Unknown),
            // The only other event is the notice of a shutdown.
            _ => assert_eq!(reply["event"], "bye", "{reply}"),
        }
    }
}

/// Receives all messages from the beginning of the log up to the sequence number `last`, across
/// restarts of the server. Returns them with their sequence numbers.
async fn listen(
    server: watch::Receiver<SocketAddr>,
    mut last: watch::Receiver<Option<u64>>,
    shared: Arc<Shared>,
) -> Vec<(u64, String)> {
    let mut heard: Vec<(u64, String)> = Vec::new();
    let mut cursor: Option<(Value, u64)> = None;
    loop {
        let mut wire = Wire::open(&server, &shared.refused).await;
        let since = cursor.as_ref().map(|(epoch, seq)| json!({"epoch": epoch, "seq": seq}));
        let set = json!({"action": "set", "tag": TAG, "since": since});
        if wire.send(&set).await.is_none() {
            continue;
        }
        loop {
            let wanted = *last.borrow_and_update();
            if wanted.is_some_and(|last| cursor.as_ref().is_some_and(|(_, seq)| *seq >= last)) {
                return heard;
            }
            let next = tokio::select! {
                next = wire.next() => next,
                _ = last.changed() => continue,
            };
            let Some(next) = next else { break };
            if next["ok"] == "set" {
                // The log is the same as before, and nothing was missed.
                let epoch = next["epoch"].clone();
                match &cursor {
                    Some((known, _)) => {
                        assert_eq!((known, &next["recovered"]), (&epoch, &json!(true)));
                        continue;
                    }
                    // The listener now knows the epoch, so it asks for all messages.
                    None => {
                        cursor = Some((epoch, 0));
                        break;
                    }
                }
            }
            if next["event"] == "bye" {
                continue;
            }
            let seq = next["seq"].as_u64().unwrap_or_else(|| panic!("{next}"));
            if let Some(text) = next["message"].as_str() {
                heard.push((seq, text.to_owned()));
            }
            if let Some((_, at)) = &mut cursor {
                assert!(*at <= seq, "{next} after {at}");
                *at = seq;
            }
        }
    }
}

/// Returns all messages that a server has stored, in the order of its replay.
pub(super) async fn kept(server: SocketAddr) -> Vec<(u64, String)> {
    let (refused, at) = (AtomicU64::new(0), watch::channel(server).1);
    let mut wire = Wire::open(&at, &refused).await;
    wire.send(&json!({"action": "set", "tag": TAG})).await.unwrap();
    let epoch = wire.next().await.unwrap()["epoch"].clone();
    let mut wire = Wire::open(&at, &refused).await;
    let since = json!({"epoch": epoch, "seq": 0});
    wire.send(&json!({"action": "set", "tag": TAG, "since": since})).await.unwrap();
    assert_eq!(wire.next().await.unwrap()["recovered"], true);
    let mut kept = Vec::new();
    loop {
        let next = wire.next().await.unwrap();
        match next["message"].as_str() {
            Some(text) => kept.push((next["seq"].as_u64().unwrap(), text.to_owned())),
            None => {
                assert_eq!(next["event"], "live", "{next}");
                return kept;
            }
        }
    }
}

/// Checks a log: every acknowledged message is there, no refused message is there, no message is
/// there twice, and all are in order.
pub(super) fn verify(said: &[Said], kept: &[(u64, String)]) {
    assert!(kept.is_sorted_by_key(|(seq, _)| *seq), "in the log's order");
    let places: HashMap<&str, u64> = kept.iter().map(|(seq, text)| (&**text, *seq)).collect();
    assert_eq!(places.len(), kept.len(), "something is there twice");
    for (text, told) in said {
        let place = places.get(&**text).copied();
        match told {
            Told::Seq(seq) => assert_eq!(place, Some(*seq), "{text} was acknowledged"),
            Told::Refused => assert_eq!(place, None, "{text} was refused"),
            Told::Unknown => {}
        }
    }
    let known: HashSet<&str> = said.iter().map(|(text, _)| &**text).collect();
    let mut latest: HashMap<&str, u64> = HashMap::new();
    for (_, text) in kept {
        assert!(known.contains(&**text), "{text} was never published");
        let (publisher, number) = text.split_once('-').unwrap();
        let number = number.parse().unwrap();
        let before = latest.insert(publisher, number);
        assert!(before.is_none_or(|before| before < number), "{text} after {before:?}");
    }
}
