//! The lines that a program writes.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::deadline::{PATIENCE, soon};

/// The lines of one output of a program. A thread reads them as they come, so that the program
/// never waits for the test.
#[derive(Debug)]
pub struct Lines {
    // The lock makes it `Sync`, so that tasks can share what started the program.
    received: Mutex<Receiver<String>>,
    /// Notified after each line and at the end.
    changed: Arc<Notify>,
}

impl Lines {
    /// Reads `output` until its end, or until a line is not UTF-8.
    pub fn of(output: impl Read + Send + 'static) -> Self {
        let (sender, received) = mpsc::channel();
        let changed = Arc::new(Notify::new());
        let notify = Arc::clone(&changed);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // The receiver may be gone; the output of the program is read to its end all the
                // same.
                let _ = sender.send(line);
                notify.notify_one();
            }
            drop(sender);
            notify.notify_one();
        });
        Self { received: Mutex::new(received), changed }
    }

    /// The next line, `None` at the end. Blocks the thread.
    ///
    /// # Panics
    /// When neither comes within a minute: a program may need half of it for its start, if it waits
    /// for others.
    #[track_caller]
    pub fn next_blocking(&self) -> Option<String> {
        match self.received.lock().recv_timeout(3 * PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line in time"),
        }
    }

    /// The next line that contains `text`; the lines before it are dropped. Blocks the thread.
    ///
    /// # Panics
    /// When there is none before the end, or when the next line does not come within [`PATIENCE`].
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

    /// The next line, `None` at the end.
    ///
    /// # Panics
    /// When neither comes within [`PATIENCE`].
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
    /// When the end does not come within [`PATIENCE`].
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

    /// As [`Self::rest`], and blocks the thread.
    ///
    /// # Panics
    /// When a line or the end does not come in time.
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
