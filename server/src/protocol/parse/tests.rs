use super::*;

const ID: &str = "5f3c9a7e21b04d86";

fn action(text: &str) -> Action {
    parse(text).action.unwrap()
}

fn refusal(text: &str) -> (&'static str, String) {
    let refusal = parse(text).action.unwrap_err();
    (refusal.code.as_str(), refusal.detail.into_owned())
}

fn nested(depth: usize) -> String {
    // The action object itself is the first level.
    let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
    format!(r#"{{"action":"broadcast","tag":"t","message":{open}{close}}}"#)
}

#[test]
fn a_full_set() {
    let text = format!(
        r#"{{"action":"set","tag":"shop","id":"{ID}","since":{{"epoch":"k3","seq":41}},
           "last":20,"unread":true,"keys":{{"broadcast":"k"}},"ref":1}}"#
    );
    let incoming = parse(&text);
    assert_eq!(incoming.reference, Reference(Some("1".into())));
    let Ok(Action::Set(set)) = incoming.action else { panic!("{incoming:?}") };
    assert_eq!(set.tag.as_str(), "shop");
    assert_eq!(set.resume.since, Some(Cursor { epoch: "k3".into(), seq: 41 }));
    assert_eq!((set.resume.last, set.resume.unread, set.keys.len()), (Some(20), true, 1));
    assert!(set.id == Some(Id::parse(ID).unwrap()));
}

#[test]
fn a_full_send() {
    let text = format!(
        r#"{{"action":"send","tag":"t","id":"{ID}","key":"k","message":{{"a":1.50}},
           "mid":"order-77","ttl":86400,"ref":"x"}}"#
    );
    let Action::Publish(publish) = action(&text) else { panic!() };
    assert_eq!(publish.message.as_json(), r#"{"a":1.50}"#);
    assert_eq!(publish.mid, Some(Mid("order-77".into())));
    assert_eq!(publish.ttl, Some(Duration::from_secs(86_400)));
    assert_eq!(publish.action(), Protectable::Send);
}

#[test]
fn the_message_is_kept_byte_for_byte() {
    for json in [
        r#""<script>alert('x')</script>""#,
        "\"\u{2028} \u{1f514} \\u0041\"",
        "9007199254740993",
        "1.50",
        "null",
        r#"{"b":1,"a":2,"b":3}"#,
    ] {
        let Action::Publish(publish) =
            action(&format!(r#"{{"action":"broadcast","tag":"t","message":{json}}}"#))
        else {
            panic!()
        };
        assert_eq!(publish.message.as_json(), json);
    }
}

#[test]
fn newlines_between_tokens_become_spaces() {
    let Action::Publish(publish) =
        action("{\"action\":\"broadcast\",\"tag\":\"t\",\"message\":{\r\n\"a\":\n1}}")
    else {
        panic!()
    };
    assert_eq!(publish.message.as_json(), "{  \"a\": 1}");
    assert_eq!(
        refusal("{\"action\":\"broadcast\",\"tag\":\"t\",\"message\":\"a\nb\"}").0,
        "bad_request"
    );
}

#[test]
fn what_is_no_action_object() {
    for text in ["", "{", "[]", "7", "\"set\"", "null", "{}x", "{\"action\":}", "{\"action\":5}"] {
        assert_eq!(refusal(text).0, "bad_request", "{text}");
    }
    assert_eq!(refusal("{}").1, "`action` is missing");
    assert_eq!(refusal(r#"{"action":"sing"}"#).0, "unknown_action");
    assert_eq!(refusal(r#"{"action":"ping","tag":"t","tag":"t"}"#).1, "`tag` appears twice");
    assert_eq!(
        refusal(r#"{"action":"ping","colour":1}"#).1,
        "`colour` is not a field of this protocol"
    );
    assert_eq!(
        refusal(r#"{"action":"ping","tag":"t"}"#).1,
        "`tag` does not belong to the action ping"
    );
    assert_eq!(refusal(r#"{"action":"send","tag":"t","message":1}"#).1, "`id` is missing");
}

#[test]
fn the_reference_is_known_however_wrong_the_rest_is() {
    for text in [
        r#"{"ref":7,"action":"sing"}"#,
        r#"{"action":"ping","colour":1,"ref":7}"#,
        r#"{"tag":"t","tag":"t","ref":7}"#,
    ] {
        let incoming = parse(text);
        assert!(incoming.action.is_err());
        assert_eq!(incoming.reference, Reference(Some("7".into())), "{text}");
    }
    for bad in ["[]", "{}", "true", &format!("\"{}\"", "x".repeat(63))] {
        assert_eq!(refusal(&format!(r#"{{"action":"ping","ref":{bad}}}"#)).0, "bad_request");
    }
}

#[test]
fn each_field_has_its_rule() {
    let set = |rest: &str| refusal(&format!(r#"{{"action":"set","tag":"t",{rest}}}"#)).0;
    for rest in [
        r#""since":41"#,
        r#""since":{"epoch":"k"}"#,
        r#""since":{"epoch":"k","seq":-1}"#,
        r#""since":{"epoch":"k","seq":1,"seq":2}"#,
        r#""since":{"epoch":"k","seq":1,"x":2}"#,
        r#""last":1001"#,
        r#""last":"many""#,
        r#""unread":1"#,
        r#""keys":{"sing":"k"}"#,
        r#""keys":{"send":"k","send":"k"}"#,
        r#""keys":["k"]"#,
        r#""key":1"#,
    ] {
        assert_eq!(set(rest), "bad_request", "{rest}");
    }
    assert_eq!(set(r#""id":"12345678901234567890""#), "weak_id");
    assert_eq!(refusal(r#"{"action":"set","tag":"a b"}"#).0, "bad_tag");
    let send = |rest: &str| {
        refusal(&format!(r#"{{"action":"broadcast","tag":"t","message":1,{rest}}}"#)).0
    };
    for rest in [r#""ttl":0"#, r#""ttl":1.5"#, r#""mid":"""#, r#""mid":"a\u0000b""#, r#""mid":7"#] {
        assert_eq!(send(rest), "bad_request", "{rest}");
    }
}

#[test]
fn keys_are_bounded() {
    let set = |length: usize| {
        let key = "k".repeat(length);
        parse(&format!(r#"{{"action":"set","tag":"t","key":"{key}","keys":{{"send":"{key}"}}}}"#))
            .action
    };
    assert!(set(limits::KEY).is_ok());
    assert!(set(limits::KEY + 1).is_err());
}

#[test]
fn null_is_as_good_as_absent() {
    assert!(
        parse(r#"{"action":"set","tag":"t","id":null,"since":null,"ref":null}"#).action.is_ok()
    );
}

#[test]
fn nesting_is_bounded_before_anything_recurses() {
    assert!(parse(&nested(limits::NESTING)).action.is_ok());
    assert_eq!(refusal(&nested(limits::NESTING + 1)).0, "bad_request");
    assert_eq!(refusal(&nested(30_000)).0, "bad_request");
    // Brackets in strings are text.
    let text = format!(r#"{{"action":"broadcast","tag":"t","message":"\"{}"}}"#, "[".repeat(99));
    assert!(parse(&text).action.is_ok());
}

#[test]
fn a_message_may_have_64_kib() {
    let of = |length: usize| {
        let text = "x".repeat(length - 2);
        parse(&format!(r#"{{"action":"broadcast","tag":"t","message":"{text}"}}"#)).action
    };
    assert!(of(limits::MESSAGE).is_ok());
    assert_eq!(of(limits::MESSAGE + 1).unwrap_err().code, ErrorCode::TooLarge);
}

#[test]
fn no_error_repeats_a_secret() {
    let secret = "s3cr3t-s3cr3t-s3cr3t-abcdefgh";
    for text in [
        format!(r#"{{"action":"send","tag":"t","message":1,"{secret}":1}}"#),
        format!(r#"{{"action":"{secret}"}}"#),
        format!(r#"{{"action":"set","tag":"{secret} "}}"#),
        format!(r#"{{"action":"set","tag":"t","id":"{secret}ä"}}"#),
        format!(r#"{{"action":"set","tag":"t","keys":"{secret}"}}"#),
        format!(r#"{{"action":"set","tag":"t","key":["{secret}"]}}"#),
        format!(r#"{{"action":"ping","ref":["{secret}"]}}"#),
        format!(r#"{{"action":"ping" "{secret}"}}"#),
        secret.to_string(),
    ] {
        let (_, detail) = refusal(&text);
        assert!(!detail.contains("s3cr3t"), "{text} is answered by {detail}");
    }
}
