//! What the server says: replies, events, deliveries, each one JSON object.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use super::{Mark, Message, Reference};
use crate::access::auth::Protectable;
use crate::id::Tag;

/// The code of an error, as clients see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// Not JSON, no object, a field missing, unknown, doubled or of another type.
    BadRequest,
    /// An action that this protocol version does not have.
    UnknownAction,
    /// No tag, or one that the configuration does not declare.
    BadTag,
    /// An ID that can be guessed.
    WeakId,
    /// The (tag, action) pair needs a key that was not given.
    Denied,
    /// The connection does not listen on this tag.
    NotRegistered,
    /// The message is larger than a message may be.
    TooLarge,
    /// Too often; not to be repeated before `retry_in_ms`.
    RateLimited,
    /// Another message was sent under this `mid`.
    MidConflict,
    /// The server cannot append the message now.
    Unavailable,
}

impl ErrorCode {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::BadRequest,
        Self::UnknownAction,
        Self::BadTag,
        Self::WeakId,
        Self::Denied,
        Self::NotRegistered,
        Self::TooLarge,
        Self::RateLimited,
        Self::MidConflict,
        Self::Unavailable,
    ];

    /// The code in the protocol.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::UnknownAction => "unknown_action",
            Self::BadTag => "bad_tag",
            Self::WeakId => "weak_id",
            Self::Denied => "denied",
            Self::NotRegistered => "not_registered",
            Self::TooLarge => "too_large",
            Self::RateLimited => "rate_limited",
            Self::MidConflict => "mid_conflict",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What became of a message whose append failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Surely not delivered.
    Refused,
    /// It may yet be delivered: retry with the same `mid`.
    Unknown,
}

/// An error reply: the code for programs, the detail for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", code.as_str())]
pub struct Refusal {
    /// What kind of error.
    pub code: ErrorCode,
    /// What to change. Never repeats a key or an ID.
    pub detail: Cow<'static, str>,
    /// With [`ErrorCode::Unavailable`]: what became of the message.
    pub outcome: Option<Outcome>,
    /// With [`ErrorCode::RateLimited`]: when it may be tried again.
    pub retry_in: Option<Duration>,
}

impl Refusal {
    /// An error without an outcome.
    #[must_use]
    pub fn new(code: ErrorCode, detail: Cow<'static, str>) -> Self {
        Self { code, detail, outcome: None, retry_in: None }
    }

    /// A `rate_limited`.
    #[must_use]
    pub fn rate_limited(detail: &'static str, retry_in: Duration) -> Self {
        Self { retry_in: Some(retry_in), ..Self::new(ErrorCode::RateLimited, detail.into()) }
    }

    /// A `bad_request`.
    #[must_use]
    pub fn bad(detail: String) -> Self {
        Self::new(ErrorCode::BadRequest, detail.into())
    }

    /// An `unavailable`.
    #[must_use]
    pub fn unavailable(outcome: Outcome, detail: &'static str) -> Self {
        Self { outcome: Some(outcome), ..Self::new(ErrorCode::Unavailable, detail.into()) }
    }
}

/// The answer to one action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The registration stands.
    Set {
        /// Its tag.
        tag: Tag,
        /// The log's lifetime that seqs belong to.
        epoch: Box<str>,
        /// Whether everything since the given cursor follows; `None` if no cursor was given.
        recovered: Option<bool>,
        /// The seqs in the inbox; `None` where there is no inbox.
        unread: Option<Vec<u64>>,
    },
    /// The registration is gone.
    Unset {
        /// Its tag.
        tag: Tag,
    },
    /// The message is in the log.
    Published {
        /// `send` or `broadcast`.
        action: Protectable,
        /// Its number in the log.
        seq: u64,
        /// Registrations that it was handed to.
        clients: u64,
        /// For `send`: whether an inbox keeps it.
        stored: Option<bool>,
        /// Whether it had been sent before, under the same `mid`.
        duplicate: bool,
        /// Whether other servers may have handed it to more.
        partial: bool,
    },
    /// It is noted as read.
    Read,
    /// The person is logged out.
    Dropped {
        /// The logout's number in the log.
        seq: u64,
        /// The registrations that end with it.
        clients: u64,
        /// Whether more may end on other servers.
        partial: bool,
    },
    /// What the person has not read.
    Inbox {
        /// The tag.
        tag: Tag,
        /// The log's lifetime that seqs belong to.
        epoch: Box<str>,
        /// With the epoch, a cursor that a listener may go on from.
        seq: u64,
        /// As they are delivered, oldest first.
        messages: Vec<Box<str>>,
    },
    /// I am here.
    Ping,
    /// No.
    Refused(Refusal),
}

impl Reply {
    /// The JSON text, with the request's mark.
    #[must_use]
    pub(crate) fn to_json(&self, reference: &Reference) -> String {
        let mut json = String::with_capacity(128);
        match self {
            Self::Refused(refusal) => {
                let _ = write!(json, r#"{{"error":"{}","detail":"#, refusal.code.as_str());
                push_string(&mut json, &refusal.detail);
                if let Some(outcome) = refusal.outcome {
                    let _ = write!(json, r#","outcome":"{}""#, outcome.as_str());
                }
                if let Some(retry_in) = refusal.retry_in {
                    // Not a moment too early.
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
                    push_seqs(&mut json, unread);
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
    /// The word in the protocol.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// A delivered message. `at` is in milliseconds since 1970.
#[must_use]
pub(crate) fn delivery(tag: &Tag, seq: u64, at: u64, message: &Message, direct: bool) -> String {
    let mut json = String::with_capacity(message.as_json().len() + 128);
    let direct = if direct { r#","direct":true"# } else { "" };
    let message = message.as_json();
    let _ = write!(json, r#"{{"tag":"{tag}","seq":{seq},"at":{at},"message":{message}{direct}}}"#);
    json
}

/// The event that ends a replay: from here on messages come as they happen.
#[must_use]
pub(crate) fn live(tag: &Tag, seq: u64) -> String {
    format!(r#"{{"event":"live","tag":"{tag}","seq":{seq}}}"#)
}

/// The event for a person's other connections: this has been read.
#[must_use]
pub(crate) fn read(tag: &Tag, mark: &Mark) -> String {
    let mut json = format!(r#"{{"event":"read","tag":"{tag}","#);
    match mark {
        Mark::UpTo(seq) => {
            let _ = write!(json, r#""seq":{seq}"#);
        }
        Mark::Only(seqs) => {
            json.push_str(r#""only":"#);
            push_seqs(&mut json, seqs);
        }
    }
    json.push('}');
    json
}

/// The event that tells of messages which were dropped before they could be handed over.
#[must_use]
pub(crate) fn gap(tag: &Tag) -> String {
    format!(r#"{{"event":"gap","tag":"{tag}"}}"#)
}

/// The event before a restart: come back after so many milliseconds.
#[must_use]
pub(crate) fn bye(retry_in_ms: u64) -> String {
    format!(r#"{{"event":"bye","retry_in_ms":{retry_in_ms}}}"#)
}

fn push_partial(json: &mut String, partial: bool) {
    if partial {
        json.push_str(r#","partial":true"#);
    }
}

fn push_seqs(json: &mut String, seqs: &[u64]) {
    json.push('[');
    for (index, seq) in seqs.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(json, "{comma}{seq}");
    }
    json.push(']');
}

fn push_string(json: &mut String, text: &str) {
    // Writing a str into a String cannot fail.
    json.push_str(&serde_json::to_string(text).unwrap_or_default());
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
