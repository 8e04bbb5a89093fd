//! One end of a connection: a writer and a reader, which the test controls by orders.

use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, Socket};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// A stream of either kind: with TLS or without.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// How a writer ends its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    /// The stream ends with a `close_notify` if the connection uses TLS.
    Proper,
    /// The stream ends only with TCP's own end (FIN), as many programs do.
    Bare,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    Paused,
    Buffer(usize),
}

#[derive(Debug, Clone, Copy)]
enum Order {
    Write { bytes: usize, piece: usize },
    Finish(Finish),
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    /// The number of bytes received. Their content was checked as they arrived.
    pub(super) heard: usize,
    /// Whether the stream ended with a reset or without a `close_notify`.
    pub(super) reset: bool,
    /// Whether all bytes were written.
    pub(super) wrote: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    heard: usize,
    over: bool,
}

pub(super) struct End {
    /// A second handle of the socket, for options that streams do not offer.
    socket: Option<Socket>,
    orders: mpsc::Sender<Order>,
    pace: watch::Sender<Pace>,
    progress: watch::Receiver<Progress>,
    writer: JoinHandle<io::Result<()>>,
    reader: JoinHandle<io::Result<()>>,
    aborted: bool,
}

pub(super) fn duplicate(stream: &TcpStream) -> Socket {
    SockRef::from(stream).try_clone().unwrap()
}

impl End {
    /// An end that writes the bytes `own` when ordered to, and expects to read the bytes `others`.
    pub(super) fn new(
        socket: Socket,
        stream: Box<dyn Stream>,
        own: Arc<[u8]>,
        others: Arc<[u8]>,
    ) -> Self {
        let (from, to) = tokio::io::split(stream);
        // The channel has room for all orders of a script.
        let (orders, ordered) = mpsc::channel(64);
        let (pace, paced) = watch::channel(Pace::Buffer(65_536));
        let (told, progress) = watch::channel(Progress::default());
        let shut = socket.try_clone().unwrap();
        Self {
            socket: Some(socket),
            orders,
            pace,
            progress,
            writer: tokio::spawn(write(to, shut, own, ordered)),
            reader: tokio::spawn(read(from, others, paced, told)),
            aborted: false,
        }
    }

    pub(super) fn write(&self, bytes: usize, piece: usize) {
        self.orders.try_send(Order::Write { bytes, piece }).ok();
    }

    pub(super) fn finish(&self, finish: Finish) {
        // If the order cannot be sent, the writer has already ended or failed.
        self.orders.try_send(Order::Finish(finish)).ok();
    }

    pub(super) fn pace(&self, pace: Pace) {
        self.pace.send_replace(pace);
    }

    /// Waits until this end has received `bytes` bytes, and also the end of the stream if `end` is
    /// true.
    pub(super) async fn heard(&mut self, bytes: usize, end: bool) {
        let there = |p: &Progress| p.heard >= bytes && (p.over || !end);
        self.progress.wait_for(there).await.unwrap();
    }

    /// Stops writer and reader, and closes the connection with a reset.
    pub(super) async fn abort(&mut self) {
        self.aborted = true;
        self.writer.abort();
        self.reader.abort();
        let _ = (&mut self.writer).await;
        let _ = (&mut self.reader).await;
        let socket = self.socket.take().unwrap();
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    pub(super) async fn ended(self) -> Ended {
        if self.aborted {
            return Ended { heard: 0, reset: true, wrote: false };
        }
        let read = self.reader.await.unwrap();
        drop(self.orders);
        let wrote = self.writer.await.unwrap();
        let is_reset = |result: &io::Result<()>| {
            let kind = result.as_ref().err().map(io::Error::kind);
            // The end of a TLS stream without a `close_notify` is not a proper end.
            matches!(kind, Some(ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof))
        };
        Ended {
            heard: self.progress.borrow().heard,
            // The kernel reports a reset only once, either to the reader or to the writer.
            reset: is_reset(&read) || is_reset(&wrote),
            wrote: wrote.is_ok(),
        }
    }
}

async fn write(
    mut to: impl AsyncWrite + Unpin,
    socket: Socket,
    own: Arc<[u8]>,
    mut orders: mpsc::Receiver<Order>,
) -> io::Result<()> {
    let mut own = &own[..];
    while let Some(order) = orders.recv().await {
        match order {
            Order::Write { bytes, piece } => {
                let (now, later) = own.split_at(bytes);
                own = later;
                for piece in now.chunks(piece) {
                    to.write_all(piece).await?;
                    to.flush().await?;
                }
            }
            Order::Finish(Finish::Proper) => return to.shutdown().await,
            Order::Finish(Finish::Bare) => return socket.shutdown(Shutdown::Write),
        }
    }
    Ok(())
}

/// The number of reads with a small buffer. Later reads use a large one, because large amounts
/// would take too long.
const SMALL_READS: usize = 2_000;

async fn read(
    mut from: impl AsyncRead + Unpin,
    others: Arc<[u8]>,
    mut pace: watch::Receiver<Pace>,
    told: watch::Sender<Progress>,
) -> io::Result<()> {
    let mut buffer = vec![0; 65_536];
    let (mut heard, mut small) = (0, 0);
    let outcome = loop {
        let now = pace.wait_for(|pace| *pace != Pace::Paused).await;
        let size = match now.map(|pace| *pace) {
            Ok(Pace::Buffer(size)) if size < 1_000 && small < SMALL_READS => {
                small += 1;
                size
            }
            Ok(Pace::Buffer(size)) if size >= 1_000 => size,
            _ => buffer.len(),
        };
        match from.read(&mut buffer[..size]).await {
            Ok(0) => break Ok(()),
            Ok(count) => {
                assert!(buffer[..count] == others[heard..heard + count], "wrong bytes at {heard}");
                heard += count;
                told.send_replace(Progress { heard, over: false });
            }
            Err(error) => break Err(error),
        }
    };
    told.send_replace(Progress { heard, over: true });
    outcome
}
