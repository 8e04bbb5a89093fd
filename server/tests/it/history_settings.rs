//! Tests the settings for how much history is kept: options, and tables for tags.

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{ALICE, Server, program};

const KEY: &str = "keeping-key-0123456789abcdef";

fn check(dir: &TempDir, text: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let file = dir.path().join("server.toml");
    std::fs::write(&file, text).unwrap();
    let output = program().arg("check").arg("--config").arg(&file).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn absurd_bounds_are_errors_with_their_line() {
    let dir = TempDir::new().unwrap();
    let text = format!(
        "data-size = \"1KB\"\n\
         max-memory = \"a lot\"\n\
         ring = \"many\"\n\
         ring-age = \"5\"\n\
         ring-bytes = \"8.5MiB\"\n\
         inbox = 9999999\n\
         inbox-age = \"3y\"\n\
         inbox-bytes = \"9999TiB\"\n\
         data = true\n\
         [tags.open]\n\
         open = [\"send\"]\n\
         inbox = 5\n\
         [tags.shop]\n\
         ring = -1\n\
         rings = 1\n\
         [tags.shop.keys]\n\
         send = \"{KEY}\"\n"
    );
    let (code, _, errors) = check(&dir, &text, &[]);
    assert_eq!(code, Some(78));
    for (line, word) in [
        (1, "at least 1 MiB"),
        (2, "64MiB"),
        (3, "whole number"),
        (4, "7d"),
        (5, "64MiB"),
        (6, "at most 1000000"),
        (7, "at most"),
        (8, "at most"),
        (9, "text in quotes"),
        (12, "`send` is open on this tag"),
        (14, "whole number"),
        (15, "ring-age"),
    ] {
        let place = format!("server.toml, line {line}: ");
        let found = errors.lines().find(|error| error.contains(&place));
        assert!(found.is_some_and(|error| error.contains(word)), "line {line}: {errors}");
    }
    assert_eq!(errors.lines().count(), 12, "{errors}");
    let (code, _, errors) = check(&dir, "", &["--max-memory", "1", "--data-size", "1"]);
    assert_eq!((code, errors.lines().count()), (Some(64), 2), "{errors}");
}

#[test]
fn options_win_over_the_file_and_paths_are_beside_it() {
    let dir = TempDir::new().unwrap();
    let text = "data = \"log\"\ndata-size = \"2GiB\"\nmax-memory = 1048576\nid-key-file = \"k\"\n\
         inbox = 0\n[tags.open]\n";
    let (code, summary, errors) = check(&dir, text, &[]);
    assert_eq!((code, &*errors), (Some(0), ""));
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (log, key) = (path("log"), path("k"));
    let open = "open: ring 100, 1 hour, 8 MiB; no inbox";
    for words in ["at most 2 GiB", "at most 1 MiB in memory", open, &log, &key] {
        assert!(summary.contains(words), "{words}: {summary}");
    }
    let (_, summary, _) = check(&dir, text, &["--data-size", "64MiB", "--data", "/nowhere"]);
    assert!(summary.contains("/nowhere, at most 64 MiB"), "{summary}");
    std::fs::write(dir.path().join("key"), KEY).unwrap();
    let output = program()
        .args(["check", "--open", "*:send", "--protect", &format!("shop:send:{}", path("key"))])
        .env("TOCSIN_MAX_MEMORY", "5MiB")
        .output()
        .unwrap();
    let summary = String::from_utf8(output.stdout).unwrap();
    for words in [
        "at most 5 MiB",
        "shop: ring 100, 1 hour, 8 MiB; inbox 50, 7 days, 1 MiB",
        "any other tag: ring 100, 1 hour, 8 MiB; no inbox",
    ] {
        assert!(summary.contains(words), "{words}: {summary}");
    }
}

#[tokio::test]
async fn each_tag_keeps_what_its_table_says() {
    let dir = TempDir::new().unwrap();
    let text = format!(
        "ring = 2\n\
         [tags.usual]\n\
         [tags.more]\nring = 3\n\
         [tags.none]\nring-age = \"0s\"\n\
         [tags.shop]\ninbox = 1\n[tags.shop.keys]\nsend = \"{KEY}\"\n"
    );
    std::fs::write(dir.path().join("server.toml"), text).unwrap();
    let server = Server::start_in(dir, &["--config", "{dir}/server.toml"]);
    for (tag, kept) in [("usual", 2), ("more", 3), ("none", 0), ("shop", 2)] {
        for number in 0..5 {
            let message = json!({"action":"broadcast","tag":tag,"message":number});
            assert_eq!(server.post(&message).await.0, 200);
        }
        let mut client = server.connect().await;
        client.send(&json!({"action":"set","tag":tag,"last":20})).await;
        assert_eq!(client.next().await["ok"], "set");
        for number in 5 - kept..5 {
            assert_eq!(client.message().await, number, "{tag}");
        }
        assert_eq!(client.next().await["event"], "live");
    }
    for (tag, stored) in [("shop", true), ("usual", false)] {
        let send = json!({"action":"send","tag":tag,"id":ALICE,"key":KEY,"message":1});
        for _ in 0..2 {
            assert_eq!(server.post(&send).await.1["stored"], stored);
        }
    }
    let (_, reply) = server.post(&json!({"action":"inbox","tag":"shop","id":ALICE})).await;
    assert_eq!(reply["messages"].as_array().unwrap().len(), 1);
}
