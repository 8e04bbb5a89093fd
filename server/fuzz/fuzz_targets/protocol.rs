//! The parser accepts or refuses any text without a panic. Accepted actions keep to the limits.

#![no_main]

use libfuzzer_sys::fuzz_target;
use server::limits;
use server::{Action, Mark, parse};

fuzz_target!(|text: &str| {
    let incoming = parse(text);
    match incoming.action {
        Err(refusal) => assert_one_short_line(&refusal.detail),
        Ok(Action::Publish(publish)) => {
            let json = publish.message.as_json();
            assert!(json.len() <= limits::MESSAGE);
            assert!(!json.contains(['\n', '\r']), "a delivered frame is one line: {json:?}");
            serde_json::from_str::<&serde_json::value::RawValue>(json).expect("a JSON value");
            let mid = publish.mid.map(|mid| mid.as_str().chars().count());
            assert!(mid.is_none_or(|length| (1..=limits::MID).contains(&length)));
            assert!(publish.ttl.is_none_or(|ttl| !ttl.is_zero() && ttl <= limits::TTL));
        }
        Ok(Action::Set(set)) => {
            assert!(set.resume.last.is_none_or(|last| last <= limits::LAST));
            assert!(set.resume.since.is_none_or(|since| since.epoch.len() <= limits::REFERENCE));
        }
        Ok(Action::Read(read)) => match read.mark {
            Mark::UpTo(_) => {}
            Mark::Only(seqs) => assert!((1..=limits::READ_AT_ONCE).contains(&seqs.len())),
        },
        Ok(Action::Unset(_) | Action::Inbox(_) | Action::Drop(_) | Action::Ping) => {}
    }
});

/// Checks the detail of an error reply, which people read.
fn assert_one_short_line(detail: &str) {
    assert!(!detail.contains(char::is_control), "{detail:?}");
    assert!(detail.len() < 500, "{detail:?}");
}
