//! Tests that IDs, keys and messages never appear in logs, replies or errors.

use serde_json::json;
use testkit::files::directory_with;

use crate::harness::{ALICE, BOB, Server, program};

const KEY: &str = "k3y0-0123456789abcdef-0123";
const WRONG_KEY: &str = "wr0ng-key-0123456789abcdef";
const MESSAGE: &str = "m3ssage-of-nobody-s-business";

#[tokio::test]
async fn a_full_run_at_trace_level_tells_no_secret() {
    let dir = directory_with("key", KEY);
    let server = Server::start_in(
        dir,
        &["--log", "trace", "--protect", "t:send:{dir}/key", "--ping-interval", "300ms"],
    );
    let mut said = String::new();

    let mut alice = server.listener("t", Some(ALICE)).await;
    let keys = json!({"action":"set","tag":"u","id":BOB,"keys":{"send":KEY}});
    said.push_str(&alice.ask(&keys).await.to_string());
    said.push_str(&alice.next().await.to_string());
    for key in [KEY, WRONG_KEY] {
        let send = json!({"action":"send","tag":"t","id":ALICE,"key":key,"message":MESSAGE});
        said.push_str(&server.post(&send).await.1.to_string());
        let bearer = format!("Authorization: Bearer {key}");
        let send = json!({"action":"send","tag":"t","id":BOB,"message":MESSAGE}).to_string();
        said.push_str(&server.post_with(&send, &[&bearer]).await.1.to_string());
    }
    said.push_str(&alice.next_text().await.replace(MESSAGE, ""));
    for wrong in [
        json!({"action":"set","tag":"t","id":format!("{ALICE}\u{e4}")}),
        json!({"action":"set","tag":ALICE.repeat(4)}),
        json!({"action":KEY}),
        json!({"action":"ping",KEY:1}),
        json!({"action":"send","tag":"t","id":ALICE,"keys":{KEY:1}}),
        json!({"action":"set","tag":"t","since":ALICE}),
    ] {
        said.push_str(&alice.ask(&wrong).await.to_string());
    }
    alice.send_text(&format!("{{\"action\":\"ping\" {ALICE}")).await;
    said.push_str(&alice.next_text().await);
    alice.next_ping().await;

    let id_file = server.file("id", ALICE);
    for key in [KEY, WRONG_KEY] {
        let key_file = server.file("used-key", key);
        let output = program()
            .args(["send", "--tag", "t", "--to", &server.url(), "--id-file"])
            .arg(&id_file)
            .arg("--key-file")
            .arg(&key_file)
            .arg(MESSAGE)
            .output()
            .unwrap();
        said.push_str(&String::from_utf8(output.stdout).unwrap());
        said.push_str(&String::from_utf8(output.stderr).unwrap());
    }
    said.push_str(&server.status().await.to_string());
    let ended = server.stop().await;
    assert!(ended.output.contains("TRACE") || ended.output.contains("DEBUG"), "it did log");
    said.push_str(&ended.output);
    for secret in [ALICE, BOB, KEY, WRONG_KEY, MESSAGE] {
        assert!(!said.contains(secret), "{secret} was told:\n{said}");
    }
}
