//! Replies, events and deliveries. Each is one JSON object.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::{Mark, Message, Protectable, Reference};
use crate::id::Tag;

/// The code of an error reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// The text is not a JSON object, or a field is missing, unknown, repeated or of the wrong
    /// type.
    BadRequest,
    /// This protocol version has no such action.
    UnknownAction,
    /// The text is not a tag, or the configuration does not declare it.
    BadTag,
    /// The ID could be guessed.
    WeakId,
    /// The tag and action need a key that was not given.
    Denied,
    /// The connection does not listen on this tag.
    NotRegistered,
    /// The message or request is too large.
    TooLarge,
    /// A rate limit is exceeded until `retry_in_ms` have passed.
    RateLimited,
    /// Another message was sent with this `mid`.
    MidConflict,
    /// The server cannot perform the action now.
    Unavailable,
}

impl ErrorCode {
    /// All codes in the order of declaration, as the protocol writes them.
    pub const NAMES: [&str; 10] = [
        "bad_request",
        "unknown_action",
        "bad_tag",
        "weak_id",
        "denied",
        "not_registered",
        "too_large",
        "rate_limited",
        "mid_conflict",
        "unavailable",
    ];

    pub(crate) fn as_str(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// Whether a message may be delivered although its append failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The message is refused and will never be delivered.
    Refused,
    /// The message may have been delivered. The sender should retry with the same `mid`.
    Unknown,
}

/// An error reply. The code is for programs, the detail for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", code.as_str())]
pub struct Refusal {
    pub code: ErrorCode,
    /// What is wrong and what to do. Never repeats a key or an ID.
    pub detail: Cow<'static, str>,
    /// For [`ErrorCode::Unavailable`]: whether the message may be delivered.
    pub outcome: Option<Outcome>,
    /// For [`ErrorCode::RateLimited`]: how long to wait.
    pub retry_in: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, detail: Cow<'static, str>) -> Self {
        Self { code, detail, outcome: None, retry_in: None }
    }

    pub(crate) fn rate_limited(detail: &'static str, retry_in: Duration) -> Self {
        Self { retry_in: Some(retry_in), ..Self::new(ErrorCode::RateLimited, detail.into()) }
    }

    pub(crate) fn bad(detail: String) -> Self {
        Self::new(ErrorCode::BadRequest, detail.into())
    }

    pub(crate) fn unavailable(outcome: Outcome, detail: &'static str) -> Self {
        Self { outcome: Some(outcome), ..Self::new(ErrorCode::Unavailable, detail.into()) }
    }
}

/// The reply to one action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The connection is registered.
    Set {
        tag: Tag,
        epoch: Box<str>,
        /// Whether all messages since the cursor follow; `None` without a cursor.
        recovered: Option<bool>,
        /// The seqs in the inbox; `None` if the registration has no inbox.
        unread: Option<Vec<u64>>,
    },
    Unset {
        tag: Tag,
    },
    /// The message was appended to the log.
    Published {
        /// The action: `send` or `broadcast`.
        action: Protectable,
        seq: u64,
        /// How many registrations the message is delivered to.
        clients: u64,
        /// Whether an inbox stores the message; `None` for a broadcast.
        stored: Option<bool>,
        /// Whether the message was sent before with the same `mid`.
        duplicate: bool,
        /// Whether `clients` may be too low, because other servers did not answer in time.
        partial: bool,
    },
    Read,
    /// The person is logged out.
    Dropped {
        seq: u64,
        /// How many registrations end.
        clients: u64,
        /// Whether `clients` may be too low, because other servers did not answer in time.
        partial: bool,
    },
    /// The person's unread messages.
    Inbox {
        tag: Tag,
        epoch: Box<str>,
        /// The seq of the last entry before this reply. Together with the epoch it is the cursor
        /// for a later `set`.
        seq: u64,
        /// The messages, encoded like deliveries, oldest first.
        messages: Vec<Box<str>>,
    },
    Ping,
    Refused(Refusal),
}

impl Reply {
    /// The reply as JSON text, with the `ref` of the request.
    pub(crate) fn to_json(&self, reference: &Reference) -> String {
        let mut json = String::with_capacity(128);
        match self {
            Self::Refused(refusal) => {
                let _ = write!(json, r#"{{"error":"{}","detail":"#, refusal.code.as_str());
                push_json(&mut json, &refusal.detail);
                if let Some(outcome) = refusal.outcome {
                    let _ = write!(json, r#","outcome":"{}""#, outcome.as_str());
                }
                if let Some(retry_in) = refusal.retry_in {
                    // The time is rounded up, so that the retry does not come too early.
                    let _ = write!(json, r#","retry_in_ms":{}"#, retry_in.as_millis() + 1);
                }
            }
            Self::Ping => json.push_str(r#"{"ok":"ping""#),
            Self::Read => json.push_str(r#"{"ok":"read""#),
            Self::Dropped { seq, clients, partial } => {
                let _ = write!(json, r#"{{"ok":"drop","seq":{seq},"clients":{clients}"#);
                push_partial(&mut json, *partial);
            }
            Self::Inbox { tag, epoch, seq, messages } => {
                let count = messages.len();
                let _ = write!(
                    json,
                    r#"{{"ok":"inbox","tag":"{tag}","epoch":"{epoch}","seq":{seq},"count":{count}"#
                );
                let _ = write!(json, r#","messages":[{}]"#, messages.join(","));
            }
            Self::Unset { tag } => {
                let _ = write!(json, r#"{{"ok":"unset","tag":"{tag}""#);
            }
            Self::Set { tag, epoch, recovered, unread } => {
                let _ = write!(json, r#"{{"ok":"set","tag":"{tag}","epoch":"{epoch}""#);
                if let Some(recovered) = recovered {
                    let _ = write!(json, r#","recovered":{recovered}"#);
                }
                if let Some(unread) = unread {
                    json.push_str(r#","unread":"#);
                    push_json(&mut json, unread);
                }
            }
            Self::Published { action, seq, clients, stored, duplicate, partial } => {
                let name = action.name();
                let _ = write!(json, r#"{{"ok":"{name}","seq":{seq},"clients":{clients}"#);
                if let Some(stored) = stored {
                    let _ = write!(json, r#","stored":{stored}"#);
                }
                if *duplicate {
                    json.push_str(r#","duplicate":true"#);
                }
                push_partial(&mut json, *partial);
            }
        }
        if let Reference(Some(reference)) = reference {
            let _ = write!(json, r#","ref":{reference}"#);
        }
        json.push('}');
        json
    }
}

impl Outcome {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// A delivered message as JSON text. `at` is in milliseconds since 1970.
pub(crate) fn delivery(tag: &Tag, seq: u64, at: u64, message: &Message, direct: bool) -> String {
    let mut json = String::with_capacity(message.as_json().len() + 128);
    let direct = if direct { r#","direct":true"# } else { "" };
    let message = message.as_json();
    let _ = write!(json, r#"{{"tag":"{tag}","seq":{seq},"at":{at},"message":{message}{direct}}}"#);
    json
}

/// The event at the end of a replay. After it, messages arrive as they are sent.
pub(crate) fn live(tag: &Tag, seq: u64) -> String {
    format!(r#"{{"event":"live","tag":"{tag}","seq":{seq}}}"#)
}

/// The event that tells the other connections of a person which messages were read.
pub(crate) fn read(tag: &Tag, mark: &Mark) -> String {
    let mut json = format!(r#"{{"event":"read","tag":"{tag}","#);
    match mark {
        Mark::UpTo(seq) => {
            let _ = write!(json, r#""seq":{seq}"#);
        }
        Mark::Only(seqs) => {
            json.push_str(r#""only":"#);
            push_json(&mut json, seqs);
        }
    }
    json.push('}');
    json
}

/// The event for messages that were evicted before they could be replayed.
pub(crate) fn gap(tag: &Tag) -> String {
    format!(r#"{{"event":"gap","tag":"{tag}"}}"#)
}

/// The event before a restart. The client should reconnect after `retry_in_ms` milliseconds.
pub(crate) fn bye(retry_in_ms: u64) -> String {
    format!(r#"{{"event":"bye","retry_in_ms":{retry_in_ms}}}"#)
}

fn push_partial(json: &mut String, partial: bool) {
    if partial {
        json.push_str(r#","partial":true"#);
    }
}

fn push_json(json: &mut String, value: &impl Serialize) {
    // Serializing a string or a list of numbers cannot fail.
    json.push_str(&serde_json::to_string(value).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag() -> Tag {
        Tag::parse("shop").unwrap()
    }

    #[test]
    fn replies() {
        let marked = Reference(Some("\"a\"".into()));
        let none = Reference::default();
        let set = Reply::Set {
            tag: tag(),
            epoch: "k3".into(),
            recovered: Some(false),
            unread: Some(vec![42, 45]),
        };
        assert_eq!(
            set.to_json(&none),
            r#"{"ok":"set","tag":"shop","epoch":"k3","recovered":false,"unread":[42,45]}"#
        );
        let sent = Reply::Published {
            action: Protectable::Send,
            seq: 46,
            clients: 2,
            stored: Some(true),
            duplicate: false,
            partial: false,
        };
        assert_eq!(
            sent.to_json(&marked),
            r#"{"ok":"send","seq":46,"clients":2,"stored":true,"ref":"a"}"#
        );
        let dropped = |partial| Reply::Dropped { seq: 48, clients: 2, partial }.to_json(&none);
        assert_eq!(dropped(false), r#"{"ok":"drop","seq":48,"clients":2}"#);
        assert_eq!(dropped(true), r#"{"ok":"drop","seq":48,"clients":2,"partial":true}"#);
        assert_eq!(Reply::Ping.to_json(&none), r#"{"ok":"ping"}"#);
        let refused = Reply::Refused(Refusal::unavailable(Outcome::Refused, "say \"later\""));
        assert_eq!(
            refused.to_json(&none),
            r#"{"error":"unavailable","detail":"say \"later\"","outcome":"refused"}"#
        );
    }

    #[test]
    fn a_delivery_carries_the_message_as_it_came() {
        let message = Message(r#"{"n":1.50,"big":9007199254740993}"#.into());
        assert_eq!(
            delivery(&tag(), 42, 1_790_000_000_123, &message, true),
            r#"{"tag":"shop","seq":42,"at":1790000000123,"message":{"n":1.50,"big":9007199254740993},"direct":true}"#
        );
    }
}
