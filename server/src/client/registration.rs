//! How far a listener has come: what it asks for, and what of the answers is new to it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::id::{Id, Tag};

/// One tag, listened to over one connection after the other.
pub(super) struct TagSubscription {
    tag: Tag,
    id: Option<String>,
    key: Option<String>,
    /// None before the server has accepted the registration for the first time.
    place: Option<SavedCursor>,
}

struct SavedCursor {
    epoch: String,
    /// Of the last message that came, or of what was live.
    seq: u64,
    /// Whether everything up to there has come: only then it is a cursor for the server.
    live: bool,
}

/// What a frame of the server means.
#[derive(Debug, PartialEq)]
pub(super) enum News {
    /// A message that has not come before.
    Message,
    /// The registration stands. `lost`: some of what came meanwhile is gone.
    Registered { lost: bool },
    /// Messages were dropped before they could be handed over.
    Gap,
    /// The server stops; come back after so long.
    Bye(Duration),
    /// An error.
    Refused(Value),
    /// Nothing that concerns anyone.
    Nothing,
}

impl TagSubscription {
    pub(super) fn new(tag: Tag, id: Option<&Id>, key: Option<&str>) -> Self {
        let (id, key) = (id.map(|id| id.reveal().to_owned()), key.map(ToOwned::to_owned));
        Self { tag, id, key, place: None }
    }

    pub(super) fn tag(&self) -> &Tag {
        &self.tag
    }

    /// Whether the server has ever accepted it.
    pub(super) fn has_stood(&self) -> bool {
        self.place.is_some()
    }

    /// The action.
    pub(super) fn set(&self) -> String {
        let since = self.place.as_ref().filter(|place| place.live);
        let since = since.map(|place| json!({"epoch": place.epoch, "seq": place.seq}));
        json!({
            "action": "set", "tag": self.tag.as_str(), "id": self.id, "key": self.key, "since": since,
        })
        .to_string()
    }

    /// Takes what the server says.
    pub(super) fn hear(&mut self, text: &str) -> News {
        let frame: Value = serde_json::from_str(text).unwrap_or_default();
        if frame["error"].is_string() {
            return News::Refused(frame);
        }
        if frame["ok"] == "set" {
            return self.accepted(&frame);
        }
        match frame["event"].as_str() {
            Some("live") => {
                if let (Some(place), Some(seq)) = (&mut self.place, frame["seq"].as_u64()) {
                    (place.seq, place.live) = (seq, true);
                }
                News::Nothing
            }
            Some("gap") => News::Gap,
            Some("bye") => match frame["retry_in_ms"].as_u64() {
                Some(wait) => News::Bye(Duration::from_millis(wait)),
                None => News::Nothing,
            },
            Some(_) => News::Nothing,
            None if frame["ok"].is_string() => News::Nothing,
            None => self.message(&frame),
        }
    }

    fn accepted(&mut self, reply: &Value) -> News {
        let epoch = reply["epoch"].as_str().unwrap_or_default();
        // Another epoch counts anew.
        if self.place.as_ref().is_none_or(|place| place.epoch != epoch) {
            self.place = Some(SavedCursor { epoch: epoch.to_owned(), seq: 0, live: false });
        }
        News::Registered { lost: reply["recovered"] == false }
    }

    fn message(&mut self, frame: &Value) -> News {
        if let (Some(place), Some(seq)) = (&mut self.place, frame["seq"].as_u64()) {
            if seq <= place.seq {
                // Of a replay that was cut off.
                return News::Nothing;
            }
            place.seq = seq;
        }
        News::Message
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
        assert_eq!(it.hear(SET), News::Registered { lost: false });
        assert_eq!(it.hear(&message(4)), News::Message);
        assert_eq!(since(&it), Value::Null, "what comes before 4 on the tag is not known");
        it.hear(SET);
        assert_eq!(it.hear(&message(4)), News::Nothing);
        assert_eq!(it.hear(&message(6)), News::Message);
        it.hear(&live(9));
        assert_eq!(since(&it), json!({"epoch": "k1", "seq": 9}));
        it.hear(&message(12));
        assert_eq!(since(&it), json!({"epoch": "k1", "seq": 12}));
    }

    #[test]
    fn another_epoch_counts_anew() {
        let mut it = registration();
        it.hear(SET);
        it.hear(&live(9));
        let reply = r#"{"ok":"set","tag":"t","epoch":"k2","recovered":false}"#;
        assert_eq!(it.hear(reply), News::Registered { lost: true });
        assert_eq!(it.hear(&message(1)), News::Message);
        assert_eq!(since(&it), Value::Null);
        it.hear(&live(1));
        assert_eq!(since(&it), json!({"epoch": "k2", "seq": 1}));
    }
}
