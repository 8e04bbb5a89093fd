//! Parses a JSON object into an [`Action`].
//!
//! Parsing has two steps. First the fields are found as raw text, so that `ref` is known even if
//! other fields are invalid. Then the fields of the action are checked one by one. The error texts
//! are our own, because those of serde quote the value, which may be a key or an ID.

use std::time::Duration;

use serde_json::value::RawValue;

use super::fields::{Field, Fields, expected, pairs_of, text_of};
use super::reply::{ErrorCode, Refusal};
use super::{
    Action, Cursor, Key, Mark, Message, Mid, PersonRequest, Protectable, Publish, Read, Recipient,
    Reference, Resume, Set,
};
use crate::id::{Id, Tag};
use crate::limits;

/// A parsed request.
#[derive(Debug)]
pub struct ParsedRequest {
    pub reference: Reference,
    /// The action, or why the request is invalid.
    pub action: Result<Action, Refusal>,
}

/// Parses one action object.
pub fn parse(text: &str) -> ParsedRequest {
    let parsed = Fields::read(text).and_then(|fields| Ok((fields.reference()?, fields.action())));
    let (reference, action) = parsed.unwrap_or_else(|refusal| (Reference::default(), Err(refusal)));
    ParsedRequest { reference, action }
}

impl Fields<'_> {
    fn action(&self) -> Result<Action, Refusal> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let name = self.string(Field::Action)?.ok_or_else(|| missing(Field::Action))?;
        match &*name {
            "set" => self.set(),
            "unset" => {
                self.only("unset", &[Field::Tag])?;
                Ok(Action::Unset(self.tag()?))
            }
            "send" => self.publish("send", Some(Field::Id)),
            "broadcast" => self.publish("broadcast", None),
            "read" => self.mark(),
            "inbox" => Ok(Action::Inbox(Box::new(self.person("inbox")?))),
            "drop" => Ok(Action::Drop(Box::new(self.person("drop")?))),
            "ping" => self.only("ping", &[]).map(|()| Action::Ping),
            _ => Err(Refusal::new(
                ErrorCode::UnknownAction,
                "the actions are set, unset, send, broadcast, read, inbox, drop and ping".into(),
            )),
        }
    }

    fn set(&self) -> Result<Action, Refusal> {
        use Field::{Id, Key, Keys, Last, Since, Tag, Unread};
        self.only("set", &[Tag, Id, Key, Keys, Last, Since, Unread])?;
        let last = self.number(Last)?;
        if last.is_some_and(|last| last > limits::LAST) {
            return Err(Refusal::bad(format!("`last` is at most {}", limits::LAST)));
        }
        let unread = match self.get(Unread).map(RawValue::get) {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(expected(Unread, "true or false")),
        };
        Ok(Action::Set(Box::new(Set {
            tag: self.tag()?,
            id: self.id()?,
            resume: Resume { since: self.cursor()?, last, unread },
            key: self.key()?,
            keys: self.keys()?,
        })))
    }

    fn publish(&self, action: &str, id: Option<Field>) -> Result<Action, Refusal> {
        use Field::{Key, Message, Mid, Tag, Ttl};
        let allowed = [Tag, Key, Message, Mid, Ttl];
        self.only(action, &[&allowed[..], id.as_slice()].concat())?;
        let to = match id {
            None => Recipient::Everyone,
            Some(_) => Recipient::One(self.id()?.ok_or_else(|| missing(Field::Id))?),
        };
        Ok(Action::Publish(Box::new(Publish {
            tag: self.tag()?,
            to,
            key: self.key()?,
            mid: self.mid()?,
            ttl: self.ttl()?,
            message: self.message()?,
        })))
    }

    fn mark(&self) -> Result<Action, Refusal> {
        self.only("read", &[Field::Tag, Field::Id, Field::Key, Field::Seq, Field::Only])?;
        let mark = match (self.number(Field::Seq)?, self.seqs()?) {
            (Some(seq), None) => Mark::UpTo(seq),
            (None, Some(seqs)) => Mark::Only(seqs),
            _ => return Err(Refusal::bad("read takes either `seq` or `only`".into())),
        };
        let (tag, id, key) = (self.tag()?, self.id()?, self.key()?);
        Ok(Action::Read(Box::new(Read { tag, mark, id, key })))
    }

    fn person(&self, action: &str) -> Result<PersonRequest, Refusal> {
        self.only(action, &[Field::Tag, Field::Id, Field::Key])?;
        let id = self.id()?.ok_or_else(|| missing(Field::Id))?;
        Ok(PersonRequest { tag: self.tag()?, id, key: self.key()? })
    }

    /// Refuses fields that do not belong to `action`.
    fn only(&self, action: &str, allowed: &[Field]) -> Result<(), Refusal> {
        let stray = Field::ALL.iter().map(|(field, _)| *field).find(|field| {
            self.get(*field).is_some()
                && !matches!(field, Field::Action | Field::Ref)
                && !allowed.contains(field)
        });
        match stray {
            None => Ok(()),
            Some(field) => Err(Refusal::bad(format!(
                "`{}` does not belong to the action {action}",
                field.name()
            ))),
        }
    }

    fn reference(&self) -> Result<Reference, Refusal> {
        let Some(raw) = self.get(Field::Ref) else { return Ok(Reference::default()) };
        let text = raw.get();
        let scalar = text.starts_with(|first: char| matches!(first, '"' | '-' | '0'..='9'));
        if !scalar || text.len() > limits::REFERENCE {
            let what = format!("a number or a string of at most {} bytes", limits::REFERENCE);
            return Err(expected(Field::Ref, &what));
        }
        Ok(Reference(Some(text.into())))
    }

    fn tag(&self) -> Result<Tag, Refusal> {
        let text = self.string(Field::Tag)?.ok_or_else(|| missing(Field::Tag))?;
        Tag::parse(&text).map_err(|error| Refusal::new(ErrorCode::BadTag, error.to_string().into()))
    }

    fn id(&self) -> Result<Option<Id>, Refusal> {
        let Some(text) = self.string(Field::Id)? else { return Ok(None) };
        Id::parse(&text)
            .map(Some)
            .map_err(|error| Refusal::new(ErrorCode::WeakId, error.to_string().into()))
    }

    fn key(&self) -> Result<Option<Key>, Refusal> {
        let Some(text) = self.string(Field::Key)? else { return Ok(None) };
        given_key(Field::Key, &text).map(Some)
    }

    fn keys(&self) -> Result<Vec<(Protectable, Key)>, Refusal> {
        let Some(raw) = self.get(Field::Keys) else { return Ok(Vec::new()) };
        let malformed =
            || expected(Field::Keys, "an object like {\"broadcast\":\"…\"}, each action once");
        let pairs = pairs_of(raw).ok_or_else(malformed)?;
        let mut keys: Vec<(Protectable, Key)> = Vec::with_capacity(pairs.len().min(4));
        for (name, value) in pairs {
            let Some(action) = Protectable::from_name(&name) else { return Err(malformed()) };
            let Some(text) = text_of(value) else { return Err(malformed()) };
            if keys.iter().any(|(known, _)| *known == action) {
                return Err(malformed());
            }
            keys.push((action, given_key(Field::Keys, &text)?));
        }
        Ok(keys)
    }

    fn cursor(&self) -> Result<Option<Cursor>, Refusal> {
        let Some(raw) = self.get(Field::Since) else { return Ok(None) };
        let malformed = || expected(Field::Since, "an object like {\"epoch\":\"k3\",\"seq\":41}");
        let (mut epoch, mut seq) = (None, None);
        for (name, value) in pairs_of(raw).ok_or_else(malformed)? {
            match &*name {
                "epoch" if epoch.is_none() => epoch = text_of(value),
                "seq" if seq.is_none() => seq = value.get().parse().ok(),
                _ => return Err(malformed()),
            }
        }
        match (epoch, seq) {
            (Some(epoch), Some(seq)) if epoch.len() <= limits::REFERENCE => {
                Ok(Some(Cursor { epoch: epoch.into(), seq }))
            }
            _ => Err(malformed()),
        }
    }

    fn seqs(&self) -> Result<Option<Box<[u64]>>, Refusal> {
        let Some(raw) = self.get(Field::Only) else { return Ok(None) };
        match serde_json::from_str::<Vec<u64>>(raw.get()) {
            Ok(seqs) if (1..=limits::READ_AT_ONCE).contains(&seqs.len()) => Ok(Some(seqs.into())),
            _ => {
                let what = format!("an array of 1 to {} seqs", limits::READ_AT_ONCE);
                Err(expected(Field::Only, &what))
            }
        }
    }

    fn mid(&self) -> Result<Option<Mid>, Refusal> {
        let Some(text) = self.string(Field::Mid)? else { return Ok(None) };
        let fits = (1..=limits::MID).contains(&text.chars().count());
        if !fits || text.chars().any(char::is_control) {
            let what = format!("1 to {} characters, none of them a control character", limits::MID);
            return Err(expected(Field::Mid, &what));
        }
        Ok(Some(Mid(text.into())))
    }

    fn ttl(&self) -> Result<Option<Duration>, Refusal> {
        let Some(seconds) = self.number(Field::Ttl)? else { return Ok(None) };
        let most = limits::TTL.as_secs();
        if !(1..=most).contains(&seconds) {
            return Err(expected(Field::Ttl, &format!("a number of seconds from 1 to {most}")));
        }
        Ok(Some(Duration::from_secs(seconds)))
    }

    fn message(&self) -> Result<Message, Refusal> {
        let json = self.get(Field::Message).ok_or_else(|| missing(Field::Message))?.get();
        if json.len() > limits::MESSAGE {
            let detail = format!("a message is at most {} bytes of JSON", limits::MESSAGE);
            return Err(Refusal::new(ErrorCode::TooLarge, detail.into()));
        }
        // Strings in JSON contain no raw newline, so each newline is between tokens.
        if json.bytes().any(|byte| matches!(byte, b'\n' | b'\r')) {
            return Ok(Message(json.replace(['\n', '\r'], " ").into()));
        }
        Ok(Message(json.into()))
    }
}

/// Accepts a key that is not too long. Connections remember keys, so their memory must be bounded.
fn given_key(field: Field, text: &str) -> Result<Key, Refusal> {
    match text.len() {
        0..=limits::KEY => Ok(Key::given(text)),
        _ => Err(expected(field, &format!("at most {} bytes long", limits::KEY))),
    }
}

fn missing(field: Field) -> Refusal {
    Refusal::bad(format!("`{}` is missing", field.name()))
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
