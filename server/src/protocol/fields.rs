//! Finds the fields of an action object, as raw text.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::reply::Refusal;
use crate::limits;

/// The fields of protocol version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
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
    Seq,
    Only,
}

impl Field {
    pub(super) const ALL: [(Self, &str); 14] = [
        (Self::Action, "action"),
        (Self::Ref, "ref"),
        (Self::Tag, "tag"),
        (Self::Id, "id"),
        (Self::Key, "key"),
        (Self::Keys, "keys"),
        (Self::Message, "message"),
        (Self::Mid, "mid"),
        (Self::Ttl, "ttl"),
        (Self::Since, "since"),
        (Self::Last, "last"),
        (Self::Unread, "unread"),
        (Self::Seq, "seq"),
        (Self::Only, "only"),
    ];

    pub(super) fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == name).map(|(field, _)| *field)
    }
}

/// The raw text of the fields in an object.
#[derive(Default)]
pub(super) struct Fields<'a> {
    values: [Option<&'a RawValue>; Field::ALL.len()],
    /// The error for the first unknown or repeated field, if there is one.
    pub(super) fault: Option<Refusal>,
}

impl<'a> Fields<'a> {
    pub(super) fn read(text: &'a str) -> Result<Self, Refusal> {
        // The nesting is checked before parsing, because serde_json's depth limit does not apply to
        // raw values.
        if nesting(text) > limits::NESTING {
            let most = limits::NESTING;
            return Err(Refusal::bad(format!("the action is nested deeper than {most} levels")));
        }
        let mut parser = serde_json::Deserializer::from_str(text);
        let fields =
            parser.deserialize_map(FieldsVisitor).map_err(|error| not_json(text, &error))?;
        parser.end().map_err(|error| not_json(text, &error))?;
        Ok(fields)
    }

    /// The raw text of a field. `null` means that the field is absent, because PHP arrays often
    /// contain it. Only `message` may be `null`.
    pub(super) fn get(&self, field: Field) -> Option<&'a RawValue> {
        self.values[field as usize].filter(|raw| field == Field::Message || raw.get() != "null")
    }

    pub(super) fn string(&self, field: Field) -> Result<Option<Cow<'a, str>>, Refusal> {
        let Some(raw) = self.get(field) else { return Ok(None) };
        text_of(raw).map(Some).ok_or_else(|| expected(field, "a string"))
    }

    pub(super) fn number(&self, field: Field) -> Result<Option<u64>, Refusal> {
        let Some(raw) = self.get(field) else { return Ok(None) };
        raw.get().parse().map(Some).map_err(|_| expected(field, "a whole number"))
    }
}

/// The refusal of a field that has the wrong type.
pub(super) fn expected(field: Field, what: &str) -> Refusal {
    Refusal::bad(format!("`{}` must be {what}", field.name()))
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
                    Some(_) => format!("`{}` appears twice", field.name()),
                },
                Err(Some(unknown)) => format!("`{unknown}` is not a field of this protocol"),
                Err(None) => "a field is not part of this protocol".into(),
            };
            fields.fault.get_or_insert_with(|| Refusal::bad(fault));
        }
        Ok(fields)
    }
}

/// Reads the name of a field. An unknown name is returned too, if a reply may repeat it.
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
        // A reply must not repeat an ID or a key, even if a client mistakenly puts it in place of a
        // name. Both have at least 16 bytes.
        let harmless = name.len() < 16 && name.bytes().all(|b| b.is_ascii_alphanumeric());
        Ok(Field::from_name(name).ok_or_else(|| harmless.then(|| name.to_owned())))
    }
}

/// The text of a JSON string, borrowed unless it contains escapes.
pub(super) fn text_of(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        // The parser fails for escapes that are not text, such as half of a surrogate pair.
        return serde_json::from_str(raw.get()).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

/// The names and values of a JSON object, in order and with duplicates.
pub(super) fn pairs_of(raw: &RawValue) -> Option<Vec<(String, &RawValue)>> {
    struct Pairs;
    impl<'de> Visitor<'de> for Pairs {
        type Value = Vec<(String, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            std::iter::from_fn(|| map.next_entry().transpose()).collect()
        }
    }
    serde_json::Deserializer::from_str(raw.get()).deserialize_map(Pairs).ok()
}

/// How deep the brackets outside of strings nest.
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
    // Syntax errors name what was expected and where, but never repeat the text.
    Refusal::bad(format!("not JSON: {error}"))
}
