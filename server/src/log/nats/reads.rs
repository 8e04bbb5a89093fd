//! Read marks that change nothing which is kept, and so are no entries: the person's connections at
//! other servers hear of them beside the stream, if nothing gets in the way.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, SubscribeError};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;

use super::entry;
use crate::entry::{AppendId, Entry, EntryKind};
use crate::id::{Address, Tag};
use crate::log::Replica;
use crate::protocol::Mark;

/// The most that wait to be told. Beyond, they get lost.
pub(super) const QUEUE: usize = 1_024;
/// Between looks at whether this server has come as far as one that waits.
const LOOK: Duration = Duration::from_millis(20);
/// How long NATS may take to take one.
const TELLING: Duration = Duration::from_millis(50);

/// A mark to tell: the tag as a token, and the rest.
pub(super) type ReadNotice = (String, Bytes);

/// Shaped like an entry, but that its append has no number, and its time is the last entry that was
/// applied where it comes from: it must not overtake those that it marks.
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

/// Tells and hears until `stop`.
pub(super) async fn run(
    client: Client,
    prefix: String,
    writer: u64,
    mut queue: mpsc::Receiver<ReadNotice>,
    sink: Arc<dyn Replica>,
    stop: CancellationToken,
) -> Result<(), SubscribeError> {
    let mut others = client.subscribe(format!("{prefix}.read.*")).await?;
    // Those that are ahead of this server. One that stays so is in no other's way.
    let mut ahead: Vec<Entry> = Vec::new();
    let mut look = interval(LOOK);
    loop {
        let head = sink.head();
        for read in ahead.extract_if(.., |read| read.at <= head) {
            tell(&*sink, &read);
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            told = others.next() => {
                let Some(told) = told else { return Ok(()) };
                let Ok(read) = entry::decode_of(&told.subject, &told.payload) else { continue };
                let is_own = read.append.is_some_and(|append| append.writer == writer);
                if !is_own && ahead.len() < QUEUE {
                    ahead.push(read);
                }
            }
            _ = look.tick(), if !ahead.is_empty() => {}
            Some((token, payload)) = queue.recv() => {
                let subject = format!("{prefix}.read.{token}");
                // What NATS does not take now is of no use later.
                let _ = timeout(TELLING, client.publish(subject, payload)).await;
            }
        }
    }
}

fn tell(sink: &dyn Replica, read: &Entry) {
    if let EntryKind::Read(address, mark) = &read.kind {
        sink.tell_read(&read.tag, *address, mark);
    }
}
