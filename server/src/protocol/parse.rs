//! From one JSON object to an [`Action`].
//!
//! The object is read in two steps. First its fields are found, each as raw text, so that `ref`
//! is known however wrong the rest is; then the action's own fields are checked one by one, with
//! words of ours: serde's errors quote the offending value, which may be a key or an ID.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::reply::{ErrorCode, Refusal};
use super::{Action, Cursor, Message, Mid, Publish, Recipient, Reference, Set};
use crate::auth::{Key, Protectable};
use crate::id::{Id, Tag};
use crate::limits;

/// A request with the mark to answer it by.
#[derive(Debug)]
pub struct Incoming {
    /// To be echoed in the reply.
    pub reference: Reference,
    /// The action, or why there is none.
    pub action: Result<Action, Refusal>,
}

/// Parses one action object.
#[must_use]
pub fn parse(text: &str) -> Incoming {
    let fields = match Fields::read(text) {
        Ok(fields) => fields,
        Err(refusal) => {
            return Incoming { reference: Reference::default(), action: Err(refusal) };
        }
    };
    match fields.reference() {
        Ok(reference) => Incoming { reference, action: fields.action() },
        Err(refusal) => Incoming { reference: Reference::default(), action: Err(refusal) },
    }
}

/// Every field of protocol version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Action,
    Ref,
    Tag,
    Id,
    Key,
    Keys,
    Message,
    Mid,
    Ttl,
    Since,
    Last,
    Unread,
}

impl Field {
    const NAMES: [&str; 12] = [
        "action", "ref", "tag", "id", "key", "keys", "message", "mid", "ttl", "since", "last",
        "unread",
    ];
    const ALL: [Self; 12] = [
        Self::Action,
        Self::Ref,
        Self::Tag,
        Self::Id,
        Self::Key,
        Self::Keys,
        Self::Message,
        Self::Mid,
        Self::Ttl,
        Self::Since,
        Self::Last,
        Self::Unread,
    ];

    fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().position(|known| *known == name).map(|index| Self::ALL[index])
    }
}

/// The fields that were there, as raw text, and what was wrong with their names.
#[derive(Default)]
struct Fields<'a> {
    values: [Option<&'a RawValue>; Field::ALL.len()],
    fault: Option<Refusal>,
}

impl<'a> Fields<'a> {
    fn read(text: &'a str) -> Result<Self, Refusal> {
        // Before the parser sees it: raw values escape serde_json's own depth limit.
        if nesting(text) > limits::NESTING {
            return Err(Refusal::bad(format!(
                "the action is nested deeper than {} levels",
                limits::NESTING
            )));
        }
        let mut parser = serde_json::Deserializer::from_str(text);
        let fields =
            parser.deserialize_map(FieldsVisitor).map_err(|error| not_json(text, &error))?;
        parser.end().map_err(|error| not_json(text, &error))?;
        Ok(fields)
    }

    fn action(&self) -> Result<Action, Refusal> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let Some(name) = self.string(Field::Action)? else {
            return Err(Refusal::bad("`action` is missing".into()));
        };
        match &*name {
            "set" => self.set(),
            "unset" => {
                self.only("unset", &[Field::Tag])?;
                Ok(Action::Unset(self.tag()?))
            }
            "send" => self.publish("send", Some(Field::Id)),
            "broadcast" => self.publish("broadcast", None),
            "ping" => {
                self.only("ping", &[])?;
                Ok(Action::Ping)
            }
            _ => Err(Refusal::new(
                ErrorCode::UnknownAction,
                "the actions are set, unset, send, broadcast and ping".into(),
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
            since: self.cursor()?,
            last,
            unread,
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

    /// Refuses fields that do not belong to `action`.
    fn only(&self, action: &str, allowed: &[Field]) -> Result<(), Refusal> {
        let stray = Field::ALL.into_iter().find(|field| {
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

    /// A field's raw text. `null` is as good as absent, which is how PHP arrays write it.
    fn get(&self, field: Field) -> Option<&'a RawValue> {
        self.values[field as usize].filter(|raw| field == Field::Message || raw.get() != "null")
    }

    fn string(&self, field: Field) -> Result<Option<Cow<'a, str>>, Refusal> {
        let Some(raw) = self.get(field) else { return Ok(None) };
        text_of(raw).map(Some).ok_or_else(|| expected(field, "a string"))
    }

    fn number(&self, field: Field) -> Result<Option<u64>, Refusal> {
        let Some(raw) = self.get(field) else { return Ok(None) };
        match raw.get().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(expected(field, "a whole number")),
        }
    }

    fn reference(&self) -> Result<Reference, Refusal> {
        let Some(raw) = self.get(Field::Ref) else { return Ok(Reference::default()) };
        let text = raw.get();
        let scalar = text.starts_with(|first: char| matches!(first, '"' | '-' | '0'..='9'));
        if !scalar || text.len() > limits::REFERENCE {
            return Err(expected(
                Field::Ref,
                &format!("a number or a string of at most {} bytes", limits::REFERENCE),
            ));
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
        Ok(self.string(Field::Key)?.map(|text| Key::given(&text)))
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
            keys.push((action, Key::given(&text)));
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

    fn mid(&self) -> Result<Option<Mid>, Refusal> {
        let Some(text) = self.string(Field::Mid)? else { return Ok(None) };
        let fits = (1..=limits::MID).contains(&text.chars().count());
        if !fits || text.chars().any(char::is_control) {
            return Err(expected(
                Field::Mid,
                &format!("1 to {} characters, none of them a control character", limits::MID),
            ));
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
            return Err(Refusal::new(
                ErrorCode::TooLarge,
                format!("a message is at most {} bytes of JSON", limits::MESSAGE).into(),
            ));
        }
        // Inside strings JSON allows no raw newline, so each one stands between tokens.
        if json.bytes().any(|byte| matches!(byte, b'\n' | b'\r')) {
            return Ok(Message(json.replace(['\n', '\r'], " ").into()));
        }
        Ok(Message(json.into()))
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut fields = Fields::default();
        while let Some(name) = map.next_key_seed(NameSeed)? {
            let value: &RawValue = map.next_value()?;
            let fault = match name {
                Ok(field) => match fields.values[field as usize].replace(value) {
                    None => continue,
                    Some(_) => format!("`{}` is there twice", field.name()),
                },
                Err(Some(unknown)) => format!("`{unknown}` is no field of this protocol"),
                Err(None) => "one field is none of this protocol".into(),
            };
            fields.fault.get_or_insert_with(|| Refusal::bad(fault));
        }
        Ok(fields)
    }
}

/// A field's name: a known one, or an unknown one in so far as it may be repeated.
struct NameSeed;

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Result<Field, Option<String>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameSeed {
    type Value = Result<Field, Option<String>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        // Shorter than any ID or key, or it might be one that slipped into the wrong place.
        let harmless = name.len() < 16 && name.bytes().all(|b| b.is_ascii_alphanumeric());
        Ok(Field::from_name(name).ok_or_else(|| harmless.then(|| name.to_owned())))
    }
}

/// The text of a JSON string, borrowed unless it holds escapes.
fn text_of(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        // Fails on escapes that are no text, such as half of a surrogate pair.
        return serde_json::from_str(raw.get()).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

/// The names and values of a JSON object, in order, duplicates included.
fn pairs_of(raw: &RawValue) -> Option<Vec<(String, &RawValue)>> {
    struct Pairs;
    impl<'de> Visitor<'de> for Pairs {
        type Value = Vec<(String, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let mut pairs = Vec::new();
            while let Some(pair) = map.next_entry()? {
                pairs.push(pair);
            }
            Ok(pairs)
        }
    }
    serde_json::Deserializer::from_str(raw.get()).deserialize_map(Pairs).ok()
}

/// How deep brackets nest outside strings.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn not_json(text: &str, error: &serde_json::Error) -> Refusal {
    if error.is_data() || !text.trim_start().starts_with('{') {
        return Refusal::bad("an action is a JSON object such as {\"action\":\"ping\"}".into());
    }
    // Syntax errors tell what was expected and where, never what was found.
    Refusal::bad(format!("not JSON: {error}"))
}

fn missing(field: Field) -> Refusal {
    Refusal::bad(format!("`{}` is missing", field.name()))
}

fn expected(field: Field, what: &str) -> Refusal {
    Refusal::bad(format!("`{}` must be {what}", field.name()))
}

#[cfg(test)]
mod tests;
