//! Sends read marks that change no inbox to the other servers, for the person's connections there.
//! They are no entries and do not pass through the stream. They may get lost.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, SubscribeError};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::OptionFuture;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::entry;
use crate::entry::{AppendId, Entry, EntryKind};
use crate::id::{Address, Tag};
use crate::log::Replica;
use crate::protocol::Mark;

/// The largest number of marks that wait to be sent, or to be applied. Further marks are lost.
pub(super) const QUEUE: usize = 1_024;
/// How long NATS may take to accept a mark.
const SEND: Duration = Duration::from_millis(50);

/// A mark to send: the encoded tag, which becomes the last part of the subject, and the payload.
pub(super) type ReadNotice = (String, Bytes);

/// Encodes a mark in the format of an entry. The number of its append is 0, and its time is the
/// number of the last entry that the sender has applied. The receiver applies the mark after that
/// entry, so that a mark does not overtake the messages that it marks.
pub(super) fn encode(
    writer: u64,
    head: u64,
    tag: &Tag,
    address: Address,
    mark: &Mark,
) -> ReadNotice {
    let read = Entry {
        tag: tag.clone(),
        kind: EntryKind::Read(address, mark.clone()),
        at: head,
        expires: None,
        mid: None,
        append: None,
    };
    (entry::token(tag), entry::encode(&read, AppendId { writer, number: 0 }))
}

/// Sends the marks in `queue`, and applies those of other servers, until `stop`.
pub(super) async fn run(
    client: Client,
    prefix: String,
    writer: u64,
    mut queue: mpsc::Receiver<ReadNotice>,
    sink: Arc<dyn Replica>,
    stop: CancellationToken,
) -> Result<(), SubscribeError> {
    let mut others = client.subscribe(format!("{prefix}.read.*")).await?;
    // Marks that wait for entries which this server has not applied yet. A mark whose entry never
    // comes does not delay the other marks.
    let mut ahead: Vec<Entry> = Vec::new();
    loop {
        let head = sink.head();
        for read in ahead.extract_if(.., |read| read.at <= head) {
            if let EntryKind::Read(address, mark) = &read.kind {
                sink.tell_read(&read.tag, *address, mark);
            }
        }
        let next = ahead.iter().map(|read| read.at).min();
        let applied: OptionFuture<_> = next.map(|seq| Arc::clone(&sink).applied(seq)).into();
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            notice = others.next() => {
                let Some(notice) = notice else { return Ok(()) };
                let Ok(read) = entry::decode_of(&notice.subject, &notice.payload) else { continue };
                let is_own = read.append.is_some_and(|append| append.writer == writer);
                if !is_own && ahead.len() < QUEUE {
                    ahead.push(read);
                }
            }
            Some(()) = applied => {}
            Some((token, payload)) = queue.recv() => {
                let subject = format!("{prefix}.read.{token}");
                // A mark that NATS does not take now is of no use later.
                let _ = timeout(SEND, client.publish(subject, payload)).await;
            }
        }
    }
}
