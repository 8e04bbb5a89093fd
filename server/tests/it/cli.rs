//! The commands that publish, and helper commands such as `new-id`.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use testkit::files::directory_with;

use crate::harness::{ALICE, BOB, Server, program};

const KEY: &str = "cli-key-0123456789abcdef";

/// Runs the program with `input` on stdin.
async fn run_with(input: &str, args: &[&str]) -> Output {
    let mut command = program();
    command.args(args);
    run_command(command, input.to_owned()).await
}

async fn run(args: &[&str]) -> Output {
    run_with("", args).await
}

async fn run_command(mut command: Command, input: String) -> Output {
    tokio::task::spawn_blocking(move || {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Writing fails if the program has ended without reading its input.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    })
    .await
    .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn send_and_broadcast_and_what_they_print() {
    let server = Server::start(&[]);
    let url = server.url();
    let mut alice = server.listener("t", Some(ALICE)).await;
    let sent = run(&["send", "--tag", "t", "--id", ALICE, "--to", &url, r#"{"a":1.50}"#]).await;
    assert_eq!(sent.status.code(), Some(0), "{}", text(&sent.stderr));
    let reply: Value = serde_json::from_slice(&sent.stdout).unwrap();
    assert_eq!((&reply["ok"], &reply["clients"]), (&json!("send"), &json!(1)));
    assert!(alice.next_text().await.contains(r#""message":{"a":1.50}"#));

    let quiet = run(&["broadcast", "--tag", "t", "--to", &url, "-q", "not JSON"]).await;
    assert_eq!((quiet.status.code(), quiet.stdout.len()), (Some(0), 0));
    assert_eq!(alice.message().await, "not JSON");

    run(&["broadcast", "--tag", "t", "--to", &url, "--text", "17"]).await;
    assert_eq!(alice.message().await, "17");
    run_with("[1, 2]\n", &["broadcast", "--tag", "t", "--to", &url, "-"]).await;
    assert_eq!(alice.message().await, json!([1, 2]));
    run_with("two\nlines\n", &["broadcast", "--tag", "t", "--to", &url, "-"]).await;
    assert_eq!(alice.message().await, "two\nlines");
}

/// Broken JSON is refused. Otherwise a page that expects an object would get a string, and the
/// sender would not notice.
#[tokio::test]
async fn what_begins_like_json_but_is_not_is_refused() {
    let server = Server::start(&[]);
    let url = server.url();
    let mut alice = server.listener("t", Some(ALICE)).await;
    for (broken, place) in [
        (r#"{"text": "a" "b"}"#, "line 1 column 14"),
        ("{\n  \"text\": 1,\n}\n", "line 3 column 1"),
        ("[1, 2", "line 1 column 5"),
        ("[ACME] down", "line 1 column 2"),
        ("\"unfinished", "line 1 column 11"),
        ("{}{}", "line 1 column 3"),
    ] {
        let args = ["broadcast", "--tag", "t", "--to", &url, "-"];
        let refused = run_with(broken, &args).await;
        let words = text(&refused.stderr);
        assert_eq!((refused.status.code(), refused.stdout.len()), (Some(65), 0), "{broken}");
        assert!(words.contains(place) && words.contains("--text"), "{words}");
        let args = ["broadcast", "--tag", "t", "--to", &url, "--text", "-"];
        assert_eq!(run_with(broken, &args).await.status.code(), Some(0));
        assert_eq!(alice.message().await, broken.strip_suffix('\n').unwrap_or(broken));
    }
    // Input that is too long is refused, never sent in part.
    let long =
        run_with(&"x".repeat(200_000), &["broadcast", "--tag", "t", "--to", &url, "-"]).await;
    assert_eq!(long.status.code(), Some(65));
    assert!(text(&long.stderr).contains("too_large"), "{}", text(&long.stderr));
}

#[tokio::test]
async fn exit_codes_of_the_senders() {
    let dir = directory_with("key", KEY);
    let server = Server::start_in(dir, &["--protect", "p:broadcast:{dir}/key"]);
    let url = server.url();
    let code = async |args: &[&str]| {
        let output = run(&[args, &["--to", &url]].concat()).await;
        let errors = text(&output.stderr);
        let lines = errors.lines().count();
        assert_eq!(lines, usize::from(!output.status.success()), "one line of error: {errors}");
        output.status.code()
    };
    assert_eq!(code(&["broadcast", "--tag", "t", "x"]).await, Some(0));
    assert_eq!(code(&["broadcast", "--tag", "t", "--require", "x"]).await, Some(3));
    assert_eq!(code(&["send", "--tag", "t", "--id", ALICE, "--require", "x"]).await, Some(3));
    assert_eq!(code(&["broadcast", "--tag", "a b", "x"]).await, Some(65));
    assert_eq!(code(&["send", "--tag", "t", "--id", "1234567890123456", "x"]).await, Some(65));
    assert_eq!(code(&["broadcast", "--tag", "p", "x"]).await, Some(77));
    assert_eq!(code(&["broadcast", "--tag", "t", "--key-file", "/nowhere", "x"]).await, Some(66));
    let key = server.dir.path().join("key");
    let key = key.to_str().unwrap();
    assert_eq!(code(&["broadcast", "--tag", "p", "--key-file", key, "x"]).await, Some(0));
    let usage = run(&["send", "--tag", "t"]).await;
    assert_eq!(usage.status.code(), Some(64));
    let tls = run(&["broadcast", "--tag", "t", "--to", "https://localhost:9091", "x"]).await;
    assert_eq!(tls.status.code(), Some(64));
}

#[tokio::test]
async fn a_server_that_is_away_is_unavailable() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let begun = std::time::Instant::now();
    let output = run(&["broadcast", "--tag", "t", "--to", &url, "x"]).await;
    assert_eq!(output.status.code(), Some(69));
    assert!(text(&output.stderr).contains("is the server running?"));
    // `--help` says that the attempts take 4.2 s in all.
    assert!(begun.elapsed() >= std::time::Duration::from_millis(4_200));
    for command in ["send", "broadcast"] {
        let help = text(&run(&[command, "--help"]).await.stdout).replace('\n', " ");
        assert!(help.contains("tries again after 0.2, 1 and 3 s, 4.2 s in all"), "{help}");
    }
}

#[tokio::test]
async fn secrets_from_stdin_and_environment() {
    let dir = directory_with("key", KEY);
    let server = Server::start_in(dir, &["--protect", "p:send:{dir}/key"]);
    let url = server.url();
    let mut alice = server.listener("p", Some(ALICE)).await;
    let args = ["send", "--tag", "p", "--to", &url, "--id", ALICE, "--key-file", "-", "1"];
    assert_eq!(run_with(&format!("{KEY}\n"), &args).await.status.code(), Some(0));
    assert_eq!(alice.message().await, 1);
    let mut command = program();
    command.args(["send", "--tag", "p", "--to", &url, "2"]);
    command.env("TOCSIN_KEY", KEY).env("TOCSIN_ID", ALICE);
    assert_eq!(run_command(command, String::new()).await.status.code(), Some(0));
    assert_eq!(alice.message().await, 2);
    // `--id-file` takes precedence over the environment.
    let mut command = program();
    command.args(["send", "--tag", "p", "--to", &url, "--id-file", "-", "3"]);
    command.env("TOCSIN_KEY", KEY).env("TOCSIN_ID", BOB);
    assert_eq!(run_command(command, format!("{ALICE}\n")).await.status.code(), Some(0));
    assert_eq!(alice.message().await, 3);
}

#[tokio::test]
async fn listen_prints_messages_and_ends_after_count() {
    let server = Server::start(&[]);
    let url = server.url();
    let id_file = server.file("id", ALICE);
    let id_file = id_file.to_str().unwrap();
    let args = ["listen", "--tag", "t", "--id-file", id_file, "--count", "2", "--to", &url];
    let listening = run(&args);
    let sending = async {
        server.until_counts("t", (1, 1)).await;
        server.post(&json!({"action":"send","tag":"t","id":ALICE,"message":"one"})).await;
        server.post(&json!({"action":"broadcast","tag":"t","message":"two"})).await;
    };
    let (output, ()) = tokio::join!(listening, sending);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let lines: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let messages: Vec<&Value> = lines.iter().map(|line| &line["message"]).collect();
    assert_eq!(messages, [&json!("one"), &json!("two")]);
    server.until_counts("t", (0, 0)).await;
}

#[tokio::test]
async fn ids_and_keys() {
    let first = text(&run(&["new-id"]).await.stdout);
    let second = text(&run(&["new-id"]).await.stdout);
    assert_ne!(first, second);
    assert_eq!(first.trim().len(), 32);

    let args = ["new-id", "--for", "alice", "--secret-file", "-"];
    let derived = run_with("a secret of the site\n", &args).await;
    let again = run_with("a secret of the site", &args).await;
    assert_eq!(derived.stdout, again.stdout);
    assert_eq!(text(&derived.stdout).trim().len(), 64);
    let newer =
        run_with("a secret of the site", &[&args[..], &["--id-version", "2"]].concat()).await;
    assert_ne!(derived.stdout, newer.stdout);

    // A secret that is short enough to guess is refused.
    assert_eq!(run_with("short\n", &args).await.status.code(), Some(65));
    // A secret that is too long to be read completely is also refused.
    assert_eq!(run_with(&"long".repeat(1_100), &args).await.status.code(), Some(65));
    let nobody = ["new-id", "--for", "", "--secret-file", "-"];
    assert_eq!(run_with("a secret of the site\n", &nobody).await.status.code(), Some(65));

    let key = text(&run(&["new-key"]).await.stdout);
    assert_eq!(key.trim().len(), 64);
    let hash = text(&run_with(&key, &["hash-key"]).await.stdout);
    assert!(hash.starts_with("sha256:"));
    // A server that knows only the hash accepts the key, and refuses the hash.
    let dir = directory_with("hash", &hash);
    let server = Server::start_in(dir, &["--protect", "t:broadcast:{dir}/hash"]);
    let body = json!({"action":"broadcast","tag":"t","message":1,"key":key.trim()});
    assert_eq!(server.post(&body).await.0, 200);
    let body = json!({"action":"broadcast","tag":"t","message":1,"key":hash.trim()});
    assert_eq!(server.post(&body).await.0, 403);
    assert_eq!(run_with("short\n", &["hash-key"]).await.status.code(), Some(65));
}
