//! The lowest cost of a delivery with one system call for each: blocking writes in a loop.
//!
//! The loop has no time-outs, bounds or pings, and one slow client stops all others: nobody should
//! serve like this.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use rustix::process::{Signal, set_parent_process_death_signal};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Utf8Bytes, WebSocket, accept_with_config};

use crate::load::wire::server_frame;

/// The number of bytes that are read at once. A listener has no read buffer once it is registered.
const BUFFER: usize = 4_096;

type Sockets = Arc<Mutex<Vec<TcpStream>>>;

/// Serves connections until the process is ended.
pub(crate) fn run() -> Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?;
    shared::telemetry::announce("floor", listener.local_addr()?);
    serve(&listener)
}

fn serve(listener: &TcpListener) -> Result<()> {
    let listeners = Sockets::default();
    loop {
        let (stream, _peer) = listener.accept()?;
        stream.set_nodelay(true)?;
        // A client that fails is disconnected; no error is reported.
        let _ = upgrade(stream, &listeners);
    }
}

/// Reads the upgrade and the first action. A client whose first action is `set` is a listener, and
/// any other client publishes.
fn upgrade(stream: TcpStream, listeners: &Sockets) -> Result<()> {
    let config = WebSocketConfig::default().read_buffer_size(BUFFER);
    let mut socket = accept_with_config(stream, Some(config))?;
    let action = socket.read()?.into_text()?;
    if action.starts_with(r#"{"action":"set""#) {
        socket.send(r#"{"ok":"set","tag":"bench"}"#.into())?;
        listeners.lock().push(socket.into_inner());
    } else {
        let listeners = Arc::clone(listeners);
        std::thread::spawn(move || publish(socket, action, &listeners));
    }
    Ok(())
}

/// Sends the message of every action to every listener.
fn publish(mut socket: WebSocket<TcpStream>, first: Utf8Bytes, listeners: &Sockets) -> Result<()> {
    let mut action = first;
    loop {
        let frame = server_frame(message(&action)?.as_bytes());
        // A listener that is gone is removed.
        listeners.lock().retain_mut(|listener| listener.write_all(&frame).is_ok());
        socket.send(r#"{"ok":"broadcast"}"#.into())?;
        action = socket.read()?.into_text()?;
    }
}

/// Returns the message, which is the last field of the action.
fn message(action: &str) -> Result<&str> {
    let (_, rest) = action.split_once("\"message\":").context("no message")?;
    rest.strip_suffix('}').context("no end")
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::load::broadcast::{Publisher, Schedule};
    use crate::load::listeners::Listeners;
    use crate::load::target::{ClientProtocol, Target};
    use crate::run;

    #[test]
    fn everyone_gets_every_message_once() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || serve(&listener));
        let target = Arc::new(Target::local(ClientProtocol::Actions, address));
        let tags: Arc<[String]> = ["a".to_owned()].into();
        let mut listeners = Listeners::new(&target, Arc::clone(&tags)).unwrap();
        listeners.open(30, 4).unwrap();
        let mut publisher = Publisher::connect(&target).unwrap();
        let schedule = Schedule::at(&tags, 1_000.0, 8, 300, Duration::from_millis(64));
        let done = publisher.broadcast(&mut listeners, &schedule).unwrap();
        assert_eq!((done.messages, done.deliveries), (64, 30 * 64));
        // The listeners 0, 7, 14, 21 and 28 are sampled.
        assert_eq!(listeners.tally.latencies.0.len(), 5 * 64);
        // A listener that is disconnected is reported as missing.
        listeners.disconnect();
        run::interrupt();
        assert!(listeners.listen_for(Duration::from_secs(9)).is_err());
    }
}
