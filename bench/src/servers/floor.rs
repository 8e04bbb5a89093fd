//! The least that a delivery can cost with one system call for each: blocking writes in a loop.
//!
//! No timeouts, no bounds, no pings, one slow client stops all: nobody should serve like this.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use parking_lot::Mutex;
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::load::frame::server_frame;

const REQUEST: usize = 4_096;
const BUFFER: usize = 256 * 1024;

type Listeners = Arc<Mutex<Vec<TcpStream>>>;

/// Serves until it is ended.
///
/// # Errors
/// When it cannot listen.
pub(crate) fn run() -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?;
    shared::telemetry::announce("floor", listener.local_addr()?);
    serve(&listener)
}

/// Serves for ever.
///
/// # Errors
/// When there are no connections any more to take.
pub(crate) fn serve(listener: &TcpListener) -> anyhow::Result<()> {
    let listeners = Listeners::default();
    loop {
        let (stream, _peer) = listener.accept()?;
        stream.set_nodelay(true)?;
        // Whoever goes wrong is only gone.
        let _ = welcome(stream, &listeners);
    }
}

/// Takes the upgrade and the first action: who registers is a listener, anyone else publishes.
fn welcome(mut stream: TcpStream, listeners: &Listeners) -> anyhow::Result<()> {
    let mut request = [0; REQUEST];
    let mut there = 0;
    while !request[..there].ends_with(b"\r\n\r\n") {
        let count = stream.read(&mut request[there..])?;
        ensure!(count > 0, "no request");
        there += count;
    }
    stream.write_all(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    )?;
    let mut buffer = vec![0; BUFFER];
    let there = stream.read(&mut buffer)?;
    let (_, action) = client_frame(&buffer[..there]).context("no action")?;
    if action.starts_with(br#"{"action":"set""#) {
        stream.write_all(&server_frame(br#"{"ok":"set","tag":"bench"}"#))?;
        listeners.lock().push(stream);
    } else {
        let listeners = Arc::clone(listeners);
        std::thread::spawn(move || publish(stream, buffer, there, &listeners));
    }
    Ok(())
}

/// Every frame's message goes to every listener.
fn publish(
    mut stream: TcpStream,
    mut buffer: Vec<u8>,
    mut there: usize,
    listeners: &Listeners,
) -> anyhow::Result<()> {
    loop {
        let mut used = 0;
        while let Some((length, action)) = client_frame(&buffer[used..there]) {
            let frame = server_frame(message(action)?);
            // Who is gone is no listener any more.
            listeners.lock().retain_mut(|listener| listener.write_all(&frame).is_ok());
            stream.write_all(&server_frame(br#"{"ok":"broadcast"}"#))?;
            used += length;
        }
        buffer.copy_within(used..there, 0);
        there -= used;
        let count = stream.read(&mut buffer[there..])?;
        ensure!(count > 0, "the publisher is gone");
        there += count;
    }
}

/// The last field of the action.
fn message(action: &[u8]) -> anyhow::Result<&[u8]> {
    let name = b"\"message\":";
    let start = action.windows(name.len()).position(|window| window == name);
    let start = start.context("no message")? + name.len();
    action.get(start..action.len() - 1).context("no message")
}

/// The length and payload of a frame of [`crate::load::frame::client_frame`]: its mask is zero.
fn client_frame(input: &[u8]) -> Option<(usize, &[u8])> {
    let (header, length) = match input {
        [_, 0xfe, a, b, ..] => (8, usize::from(u16::from_be_bytes([*a, *b]))),
        [_, short, ..] => (6, usize::from(short & 0x7f)),
        _ => return None,
    };
    Some((header + length, input.get(header..header + length)?))
}
