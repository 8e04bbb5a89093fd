//! Properties of the parser, tested with random texts: it accepts every valid action and refuses
//! other texts without a panic.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::protocol::{Reply, delivery};

/// The fields of an action: the name and JSON text of each.
type Object = BTreeMap<&'static str, String>;

fn text(strategy: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    strategy.prop_map(|text| Value::from(text).to_string())
}

fn number(range: impl Strategy<Value = u64>) -> impl Strategy<Value = String> {
    range.prop_map(|number| number.to_string())
}

fn tag() -> impl Strategy<Value = String> {
    text("[A-Za-z0-9._-]{1,64}")
}

fn id() -> impl Strategy<Value = String> {
    text("[!-~]{16,128}".prop_filter("a weak ID", |id| Id::parse(id).is_ok()))
}

fn key() -> impl Strategy<Value = String> {
    text(".{0,100}")
}

fn reference() -> impl Strategy<Value = String> {
    let reference =
        prop_oneof![any::<i64>().prop_map(Value::from), ".{0,10}".prop_map(Value::from)];
    reference
        .prop_map(|reference| reference.to_string())
        .prop_filter("too long", |reference| reference.len() <= limits::REFERENCE)
}

fn message() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(6, 40, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(".{0,5}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    value.prop_map(|value| value.to_string())
}

fn keys() -> impl Strategy<Value = String> {
    let action = prop::sample::select(vec!["set", "send", "broadcast", "drop"]);
    prop::collection::btree_map(action, ".{0,20}", 1..=4).prop_map(|keys| json!(keys).to_string())
}

fn since() -> impl Strategy<Value = String> {
    (".{0,16}", any::<u64>())
        .prop_map(|(epoch, seq)| json!({"epoch": epoch, "seq": seq}).to_string())
}

fn object(fields: impl IntoIterator<Item = (&'static str, Option<String>)>) -> Object {
    fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn named(action: &'static str) -> (&'static str, Option<String>) {
    ("action", Some(format!("\"{action}\"")))
}

/// Valid actions of every kind.
fn action() -> impl Strategy<Value = Object> {
    let set = (
        tag(),
        option::of(id()),
        option::of(key()),
        option::of(keys()),
        option::of(since()),
        option::of(number(0..=limits::LAST)),
        option::of(Just("true".to_owned())),
    );
    let set = set.prop_map(|(tag, id, key, keys, since, last, unread)| {
        let resume = [("since", since), ("last", last), ("unread", unread)];
        let rest = [named("set"), ("tag", Some(tag)), ("id", id), ("key", key), ("keys", keys)];
        object(rest.into_iter().chain(resume))
    });
    let mid = text(r"\PC{1,128}".prop_filter("too long", |mid| mid.chars().count() <= limits::MID));
    let ttl = number(1..=limits::TTL.as_secs());
    let publish =
        (tag(), option::of(id()), option::of(key()), message(), option::of(mid), option::of(ttl));
    let publish = publish.prop_map(|(tag, id, key, message, mid, ttl)| {
        let action = named(if id.is_some() { "send" } else { "broadcast" });
        let message = ("message", Some(message));
        object([
            action,
            ("tag", Some(tag)),
            ("id", id),
            ("key", key),
            message,
            ("mid", mid),
            ("ttl", ttl),
        ])
    });
    let seqs = vec(any::<u64>(), 1..50).prop_map(|seqs| json!(seqs).to_string());
    let mark = prop_oneof![
        number(any::<u64>()).prop_map(|seq| ("seq", Some(seq))),
        seqs.prop_map(|seqs| ("only", Some(seqs))),
    ];
    let read =
        (tag(), mark, option::of(id()), option::of(key())).prop_map(|(tag, mark, id, key)| {
            object([named("read"), ("tag", Some(tag)), mark, ("id", id), ("key", key)])
        });
    let person = (prop::sample::select(vec!["inbox", "drop"]), tag(), id(), option::of(key()));
    let person = person.prop_map(|(action, tag, id, key)| {
        object([named(action), ("tag", Some(tag)), ("id", Some(id)), ("key", key)])
    });
    let unset = tag().prop_map(|tag| object([named("unset"), ("tag", Some(tag))]));
    prop_oneof![set, publish, read, person, unset, Just(object([named("ping")]))]
}

/// Converts a parsed action back to its fields.
fn rendered(action: Action) -> Object {
    let string = |text: &str| Some(Value::from(text).to_string());
    let id_of = |id: Option<Id>| ("id", id.and_then(|id| string(id.reveal())));
    let key_of = |key: Option<Key>| ("key", key.and_then(|key| string(&key.reveal())));
    let tag_of = |tag: Tag| ("tag", string(tag.as_str()));
    match action {
        Action::Set(set) => {
            let keys: BTreeMap<_, _> =
                set.keys.iter().map(|(action, key)| (action.name(), key.reveal())).collect();
            let since =
                set.resume.since.map(|Cursor { epoch, seq }| json!({"epoch": epoch, "seq": seq}));
            object([
                named("set"),
                tag_of(set.tag),
                id_of(set.id),
                key_of(set.key),
                ("keys", (!keys.is_empty()).then(|| json!(keys).to_string())),
                ("since", since.map(|since| since.to_string())),
                ("last", set.resume.last.map(|last| last.to_string())),
                ("unread", set.resume.unread.then(|| "true".to_owned())),
            ])
        }
        Action::Publish(publish) => {
            let (action, id) = match publish.to {
                Recipient::Everyone => ("broadcast", None),
                Recipient::One(id) => ("send", Some(id)),
            };
            object([
                named(action),
                tag_of(publish.tag),
                id_of(id),
                key_of(publish.key),
                ("message", Some(publish.message.as_json().to_owned())),
                ("mid", publish.mid.and_then(|mid| string(mid.as_str()))),
                ("ttl", publish.ttl.map(|ttl| ttl.as_secs().to_string())),
            ])
        }
        Action::Read(read) => {
            let mark = match &read.mark {
                Mark::UpTo(seq) => ("seq", Some(seq.to_string())),
                Mark::Only(seqs) => ("only", Some(json!(seqs).to_string())),
            };
            object([named("read"), tag_of(read.tag), mark, id_of(read.id), key_of(read.key)])
        }
        Action::Inbox(person) => {
            object([named("inbox"), tag_of(person.tag), id_of(Some(person.id)), key_of(person.key)])
        }
        Action::Drop(person) => {
            object([named("drop"), tag_of(person.tag), id_of(Some(person.id)), key_of(person.key)])
        }
        Action::Unset(tag) => object([named("unset"), tag_of(tag)]),
        Action::Ping => object([named("ping")]),
    }
}

/// Writes the pairs as a JSON object, with `space` between the tokens.
fn written(pairs: &[(String, String)], space: &str) -> String {
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(name, value)| format!("{space}\"{name}\"{space}:{space}{value}"))
        .collect();
    format!("{{{}{space}}}", pairs.join(&format!("{space},")))
}

fn pairs(object: &Object) -> Vec<(String, String)> {
    object.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

proptest! {
    #[test]
    fn what_is_valid_is_understood(
        (object, pairs) in action().prop_flat_map(|object| {
            let pairs = Just(pairs(&object)).prop_shuffle();
            (Just(object), pairs)
        }),
        space in prop::sample::select(vec!["", " ", "\n\t", "\r\n"]),
    ) {
        let parsed = parse(&written(&pairs, space)).action;
        prop_assert_eq!(parsed.map(rendered), Ok(object));
    }

    #[test]
    fn a_stray_or_doubled_field_is_refused_and_the_reference_kept(
        (object, at) in (action(), any::<prop::sample::Index>()),
        stray in "[a-zA-Z_]{1,20}",
        value in message(),
        reference in reference(),
    ) {
        let mut doubled = pairs(&object);
        doubled.push(doubled[at.index(doubled.len())].clone());
        let mut strange = pairs(&object);
        strange.push((format!("{stray}?"), value));
        for mut pairs in [doubled, strange] {
            pairs.push(("ref".into(), reference.clone()));
            let incoming = parse(&written(&pairs, ""));
            prop_assert_eq!(incoming.reference, Reference(Some(reference.as_str().into())));
            prop_assert_eq!(incoming.action.map(rendered).unwrap_err().code, ErrorCode::BadRequest);
        }
    }

    #[test]
    fn nesting_of_any_kind_is_bounded(brackets in vec(any::<bool>(), 0..2 * limits::NESTING)) {
        let open = brackets.iter().map(|list| if *list { "[" } else { "{\"a\":" });
        let close = brackets.iter().rev().map(|list| if *list { "]" } else { "}" });
        let message: String = open.chain(["1"]).chain(close).collect();
        let text = format!(r#"{{"action":"broadcast","tag":"t","message":{message}}}"#);
        prop_assert_eq!(parse(&text).action.is_ok(), brackets.len() < limits::NESTING);
    }

    #[test]
    fn a_message_is_measured_in_bytes(
        character in prop::sample::select(vec!["x", "\u{e4}", "\u{20ac}", "\u{1f514}"]),
        size in limits::MESSAGE - 8..limits::MESSAGE + 8,
    ) {
        let message = Value::from(character.repeat((size - 2) / character.len())).to_string();
        let text = format!(r#"{{"action":"broadcast","tag":"t","message":{message}}}"#);
        match parse(&text).action {
            Ok(_) => prop_assert!(message.len() <= limits::MESSAGE),
            Err(refusal) => {
                prop_assert!(message.len() > limits::MESSAGE);
                prop_assert_eq!(refusal.code, ErrorCode::TooLarge);
            }
        }
    }

    #[test]
    fn what_is_answered_is_json(reference in reference(), detail in ".{0,40}") {
        let known = parse(&format!(r#"{{"action":"ping","ref":{reference}}}"#)).reference;
        let reply = Reply::Refused(Refusal::bad(detail.clone())).to_json(&known);
        let reply: Value = serde_json::from_str(&reply).unwrap();
        let reference: Value = serde_json::from_str(&reference).unwrap();
        prop_assert_eq!(reply, json!({"error": "bad_request", "detail": detail, "ref": reference}));
    }

    #[test]
    fn what_is_delivered_is_json(message in message()) {
        let tag = Tag::parse("t").unwrap();
        let delivered = delivery(&tag, 1, 2, &Message(message.as_str().into()), true);
        let message: Value = serde_json::from_str(&message).unwrap();
        let delivered: Value = serde_json::from_str(&delivered).unwrap();
        let expected = json!({"tag": "t", "seq": 1, "at": 2, "message": message, "direct": true});
        prop_assert_eq!(delivered, expected);
    }

    #[test]
    fn any_text_is_answered(text in ".{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn any_json_like_text_is_answered(text in r#"[\{\}\[\]",:a-z0-9 \\]{0,200}"#) {
        let _ = parse(&text);
    }
}
