//! The lowest cost of a delivery with one system call for each: blocking writes in a loop.
//!
//! It has no timeouts, bounds or pings, and one slow client stops all of them: nobody should serve like
//! this.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use parking_lot::Mutex;
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::load::frame::{first, server_frame};

const REQUEST: usize = 4_096;
const BUFFER: usize = 256 * 1024;

type Sockets = Arc<Mutex<Vec<TcpStream>>>;

/// Serves until the process is ended.
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
        // A client that fails is disconnected, and that is all.
        let _ = upgrade(stream, &listeners);
    }
}

/// Reads the upgrade and the first action: a client that registers is a listener, any other one
/// publishes.
fn upgrade(mut stream: TcpStream, listeners: &Sockets) -> Result<()> {
    let mut request = [0; REQUEST];
    let mut filled = 0;
    while !request[..filled].ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut request[filled..])?;
        ensure!(count > 0, "no request");
        filled += count;
    }
    stream.write_all(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    )?;
    let mut buffer = vec![0; BUFFER];
    let filled = stream.read(&mut buffer)?;
    let (_, action, _) = first(&buffer[..filled])?.context("no action")?;
    if action.starts_with(br#"{"action":"set""#) {
        stream.write_all(&server_frame(br#"{"ok":"set","tag":"bench"}"#))?;
        listeners.lock().push(stream);
    } else {
        let listeners = Arc::clone(listeners);
        std::thread::spawn(move || publish(stream, buffer, filled, &listeners));
    }
    Ok(())
}

/// Sends the message of every frame to every listener.
fn publish(
    mut stream: TcpStream,
    mut buffer: Vec<u8>,
    mut filled: usize,
    listeners: &Sockets,
) -> Result<()> {
    loop {
        let mut used = 0;
        while let Some((_, action, length)) = first(&buffer[used..filled])? {
            let frame = server_frame(message(action)?);
            // A listener that is gone is removed.
            listeners.lock().retain_mut(|listener| listener.write_all(&frame).is_ok());
            stream.write_all(&server_frame(br#"{"ok":"broadcast"}"#))?;
            used += length;
        }
        buffer.copy_within(used..filled, 0);
        filled -= used;
        let count = stream.read(&mut buffer[filled..])?;
        ensure!(count > 0, "the publisher has closed the connection");
        filled += count;
    }
}

/// The message, which is the last field of the action.
fn message(action: &[u8]) -> Result<&[u8]> {
    let name = b"\"message\":";
    let start = action.windows(name.len()).position(|window| window == name);
    let start = start.context("no message")? + name.len();
    action.get(start..action.len() - 1).context("no message")
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::interrupt::Interrupt;
    use crate::load::broadcast::{Schedule, broadcast};
    use crate::load::listeners::Listeners;
    use crate::load::message::Clock;
    use crate::load::publisher::Publisher;
    use crate::load::target::{ClientProtocol, Target};

    #[test]
    fn everyone_gets_every_message_once() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || serve(&listener));
        let target = Arc::new(Target::local(ClientProtocol::Actions, address, None));
        let (clock, interrupt) = (Clock::start(), Interrupt::default());
        let mut listeners = Listeners::new(Arc::clone(&target), clock, interrupt.clone()).unwrap();
        listeners.open(30, 4, &["a"]).unwrap();
        let mut publisher = Publisher::connect(&target).unwrap();
        let tags: Arc<[String]> = ["a".to_owned()].into();
        let schedule = Schedule::at(&tags, 1_000.0, 8, 300, Duration::from_millis(64));
        let done = broadcast(&mut listeners, &mut publisher, &schedule, clock, &interrupt).unwrap();
        assert_eq!((done.messages, done.deliveries), (64, 30 * 64));
        // Of the listeners 0, 7, 14, 21 and 28.
        assert_eq!(listeners.tally().latencies.len(), 5 * 64);
        // One who is not there is missed.
        listeners.disconnect().unwrap();
        interrupt.set();
        assert!(listeners.listen_for(Duration::from_secs(9)).is_err());
    }
}
