//! The lines of a program's output.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::deadline::{PATIENCE, soon};

/// The lines of one output of a program. A thread reads them as they arrive, so that the program
/// never waits for the test.
#[derive(Debug)]
pub struct Lines {
    // The lock makes `Lines` `Sync`, so that tasks can share a running program.
    received: Mutex<Receiver<String>>,
    /// Notified after each line and at the end.
    changed: Arc<Notify>,
}

impl Lines {
    /// Reads `output` until its end, or until a line that is not UTF-8.
    pub fn of(output: impl Read + Send + 'static) -> Self {
        let (sender, received) = mpsc::channel();
        let changed = Arc::new(Notify::new());
        let notify = Arc::clone(&changed);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // If the receiver was dropped, the program's output is still read to its end.
                let _ = sender.send(line);
                notify.notify_one();
            }
            drop(sender);
            notify.notify_one();
        });
        Self { received: Mutex::new(received), changed }
    }

    /// The next line, or `None` at the end. Blocks the thread.
    ///
    /// # Panics
    /// If neither a line nor the end comes within a minute. A program that waits for other programs
    /// may need half a minute to start.
    #[track_caller]
    pub fn next_blocking(&self) -> Option<String> {
        match self.received.lock().recv_timeout(3 * PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line in time"),
        }
    }

    /// The next line that contains `text`. The lines before it are dropped. Blocks the thread.
    ///
    /// # Panics
    /// If no such line comes before the end, or if a line takes longer than [`PATIENCE`].
    #[track_caller]
    pub fn find_blocking(&self, text: &str) -> String {
        let mut dropped = Vec::new();
        while let Ok(line) = self.received.lock().recv_timeout(PATIENCE) {
            if line.contains(text) {
                return line;
            }
            dropped.push(line);
        }
        panic!("no line contains {text:?}: {dropped:?}");
    }

    /// The next line, or `None` at the end.
    ///
    /// # Panics
    /// If neither a line nor the end comes within [`PATIENCE`].
    pub async fn next(&self) -> Option<String> {
        soon(async {
            loop {
                let received = self.received.lock().try_recv();
                match received {
                    Ok(line) => return Some(line),
                    Err(TryRecvError::Disconnected) => return None,
                    Err(TryRecvError::Empty) => self.changed.notified().await,
                }
            }
        })
        .await
    }

    /// All lines until the end.
    ///
    /// # Panics
    /// If the end does not come within [`PATIENCE`].
    pub async fn rest(&self) -> Vec<String> {
        soon(async {
            let mut lines = Vec::new();
            while let Some(line) = self.next().await {
                lines.push(line);
            }
            lines
        })
        .await
    }

    /// All lines until the end. Blocks the thread.
    ///
    /// # Panics
    /// If a line or the end does not come within a minute.
    pub fn rest_blocking(&self) -> Vec<String> {
        std::iter::from_fn(|| self.next_blocking()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_in_order_and_then_the_end() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let lines = Lines::of(reader);
        let write = std::thread::spawn(move || {
            std::io::Write::write_all(&mut writer, b"one\ntwo\nthree\nfour\nfive").unwrap();
        });
        assert_eq!(lines.next().await.as_deref(), Some("one"));
        assert_eq!(lines.find_blocking("r"), "three");
        assert_eq!(lines.next_blocking().as_deref(), Some("four"));
        assert_eq!(lines.rest().await, ["five"]);
        assert_eq!((lines.next().await, lines.next_blocking()), (None, None));
        write.join().unwrap();
    }
}
