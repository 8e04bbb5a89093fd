//! Parses a batch: a JSON array of actions.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, SeqAccess};
use serde_json::value::RawValue;

use crate::limits;

/// The actions of a batch. If there are too many, all of them are dropped: a body of 8 MiB could
/// contain four million actions.
pub(super) enum Actions<'a> {
    Some(Vec<&'a RawValue>),
    TooMany,
}

impl<'de> Deserialize<'de> for Actions<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ActionsVisitor)
    }
}

struct ActionsVisitor;

impl<'de> de::Visitor<'de> for ActionsVisitor {
    type Value = Actions<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Self::Value, S::Error> {
        let mut actions = Vec::new();
        while let Some(action) = seq.next_element()? {
            if actions.len() == limits::BATCH {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                return Ok(Actions::TooMany);
            }
            actions.push(action);
        }
        Ok(Actions::Some(actions))
    }
}
