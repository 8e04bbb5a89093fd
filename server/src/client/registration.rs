//! The state of `server listen`: its registration, and which messages it has received.

use std::time::Duration;

use serde_json::{Value, json};

use crate::id::{Id, Tag};

/// A tag that the command listens on, over one connection after another.
pub(super) struct TagSubscription {
    pub(super) tag: Tag,
    id: Option<String>,
    key: Option<String>,
    /// The position in the log at which to continue; `None` until the server has accepted the
    /// registration once.
    pub(super) position: Option<ReadPosition>,
}

pub(super) struct ReadPosition {
    epoch: String,
    /// The seq of the last message that came, or the seq at which the replay ended.
    seq: u64,
    /// Whether all messages up to `seq` have come, so that the server can continue after `seq`.
    live: bool,
}

/// What a frame from the server means.
#[derive(Debug, PartialEq)]
pub(super) enum ServerFrame {
    /// A new message.
    Message,
    /// The server accepted the registration. `lost`: messages that were sent since the last
    /// connection may be missing.
    Registered { lost: bool },
    /// The server dropped messages.
    Gap,
    /// The server stops. The client should reconnect after this time.
    Bye(Duration),
    /// An error reply of the server.
    Refused(Value),
    /// A frame that the command does not need.
    Ignored,
}

impl TagSubscription {
    pub(super) fn new(tag: Tag, id: Option<&Id>, key: Option<&str>) -> Self {
        let (id, key) = (id.map(|id| id.reveal().to_owned()), key.map(ToOwned::to_owned));
        Self { tag, id, key, position: None }
    }

    /// The JSON text of the `set` action that registers.
    pub(super) fn set(&self) -> String {
        let since = self.position.as_ref().filter(|position| position.live);
        let since = since.map(|position| json!({"epoch": position.epoch, "seq": position.seq}));
        json!({
            "action": "set", "tag": self.tag.as_str(), "id": self.id, "key": self.key, "since": since,
        })
        .to_string()
    }

    pub(super) fn receive(&mut self, text: &str) -> ServerFrame {
        let frame: Value = serde_json::from_str(text).unwrap_or_default();
        if frame["error"].is_string() {
            return ServerFrame::Refused(frame);
        }
        if frame["ok"] == "set" {
            return self.accepted(&frame);
        }
        match frame["event"].as_str() {
            Some("live") => {
                if let (Some(position), Some(seq)) = (&mut self.position, frame["seq"].as_u64()) {
                    (position.seq, position.live) = (seq, true);
                }
                ServerFrame::Ignored
            }
            Some("gap") => ServerFrame::Gap,
            Some("bye") => match frame["retry_in_ms"].as_u64() {
                Some(wait) => ServerFrame::Bye(Duration::from_millis(wait)),
                None => ServerFrame::Ignored,
            },
            Some(_) => ServerFrame::Ignored,
            None if frame["ok"].is_string() => ServerFrame::Ignored,
            None => self.message(&frame),
        }
    }

    fn accepted(&mut self, reply: &Value) -> ServerFrame {
        let epoch = reply["epoch"].as_str().unwrap_or_default();
        // Seqs of different epochs cannot be compared, so a new epoch starts at seq 0.
        if self.position.as_ref().is_none_or(|position| position.epoch != epoch) {
            self.position = Some(ReadPosition { epoch: epoch.to_owned(), seq: 0, live: false });
        }
        ServerFrame::Registered { lost: reply["recovered"] == false }
    }

    fn message(&mut self, frame: &Value) -> ServerFrame {
        if let (Some(position), Some(seq)) = (&mut self.position, frame["seq"].as_u64()) {
            if seq <= position.seq {
                // This message was printed already: a replay that was cut off starts again.
                return ServerFrame::Ignored;
            }
            position.seq = seq;
        }
        ServerFrame::Message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &str = r#"{"ok":"set","tag":"t","epoch":"k1"}"#;

    fn registration() -> TagSubscription {
        TagSubscription::new(Tag::parse("t").unwrap(), None, None)
    }

    fn since(registration: &TagSubscription) -> Value {
        serde_json::from_str::<Value>(&registration.set()).unwrap()["since"].clone()
    }

    fn message(seq: u64) -> String {
        json!({"tag": "t", "seq": seq, "at": 1, "message": "x"}).to_string()
    }

    fn live(seq: u64) -> String {
        json!({"event": "live", "tag": "t", "seq": seq}).to_string()
    }

    #[test]
    fn a_first_replay_that_is_cut_off_is_no_cursor_but_prints_nothing_twice() {
        let mut it = registration();
        assert_eq!(it.receive(SET), ServerFrame::Registered { lost: false });
        assert_eq!(it.receive(&message(4)), ServerFrame::Message);
        assert_eq!(since(&it), Value::Null, "what comes before 4 on the tag is not known");
        it.receive(SET);
        assert_eq!(it.receive(&message(4)), ServerFrame::Ignored);
        assert_eq!(it.receive(&message(6)), ServerFrame::Message);
        it.receive(&live(9));
        assert_eq!(since(&it), json!({"epoch": "k1", "seq": 9}));
        it.receive(&message(12));
        assert_eq!(since(&it), json!({"epoch": "k1", "seq": 12}));
    }

    #[test]
    fn another_epoch_counts_anew() {
        let mut it = registration();
        it.receive(SET);
        it.receive(&live(9));
        let reply = r#"{"ok":"set","tag":"t","epoch":"k2","recovered":false}"#;
        assert_eq!(it.receive(reply), ServerFrame::Registered { lost: true });
        assert_eq!(it.receive(&message(1)), ServerFrame::Message);
        assert_eq!(since(&it), Value::Null);
        it.receive(&live(1));
        assert_eq!(since(&it), json!({"epoch": "k2", "seq": 1}));
    }
}
