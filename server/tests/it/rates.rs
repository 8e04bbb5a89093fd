//! Tests the rate limits.

use std::time::Instant;

use serde_json::{Value, json};
use testkit::files::directory_with;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::harness::{ALICE, Client, Server, exchange, exchange_over, program, proxy_line};
use crate::metrics::metrics;

const KEY: &str = "a-key-of-enough-length-1";

fn broadcast() -> Value {
    json!({"action": "broadcast", "tag": "shop", "message": 1})
}

#[tokio::test]
async fn a_connection_sends_so_much_and_no_more() {
    let server = Server::start(&["--send-rate", "1:3"]);
    let mut client = server.connect().await;
    let (granted, wait) = client.until_too_often(&broadcast()).await;
    assert!(granted >= 3 && (1..=1_001).contains(&wait), "{granted}, {wait} ms");
    // Each frame counts, valid or not. Registering has a rate limit of its own.
    client.until_too_often(&json!({"action": "ping"})).await;
    client.send_at_once((0..10).map(|_| json!({"action": "nonsense"}))).await;
    let mut refused = 2;
    for _ in 0..10 {
        refused += u32::from(client.next().await["error"] == "rate_limited");
    }
    assert!(refused > 2);
    let counted = metrics(server.admin).await["server_errors_total{code=\"rate_limited\"}"];
    assert_eq!(counted, f64::from(refused));
    client.set("shop", Some(ALICE)).await;
    // Other connections have limits of their own.
    let mut other = server.connect().await;
    assert_eq!(other.ask(&broadcast()).await["ok"], "broadcast");
    assert_eq!(client.message().await, 1);
}

#[tokio::test]
async fn so_does_a_connection_that_posts() {
    let server = Server::start(&["--send-rate", "1:2"]);
    let (status, replies) = server.post(&json!(vec![broadcast(); 20])).await;
    assert_eq!((status, &replies[1]["ok"]), (200, &json!("broadcast")));
    assert!((2..20).any(|index| replies[index]["error"] == "rate_limited"), "{replies}");
    // The client sends many requests on one connection.
    let body = broadcast().to_string();
    let one = format!("POST /messages HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n", body.len());
    let many = format!("{one}\r\n{body}").repeat(20);
    let requests = format!("{many}{one}Connection: close\r\n\r\n{body}");
    let answers = exchange(server.address, requests.as_bytes()).await;
    let answers = format!("{}\r\n\r\n{}", answers.head, answers.body);
    let refusal = answers.split("HTTP/1.1 ").find(|answer| answer.starts_with("429 ")).unwrap();
    let retry = refusal.lines().find_map(|line| line.strip_prefix("retry-after: ")).unwrap();
    assert!((1..=2).contains(&retry.parse::<u64>().unwrap()));
}

#[tokio::test]
async fn who_has_the_key_has_no_limit() {
    let server = Server::start_in(
        dir_with_key(),
        &["--protect", "shop:broadcast:{dir}/key", "--send-rate", "1:1", "--wrong-key-rate", "1:2"],
    );
    let with = |key: &str| {
        let mut action = broadcast();
        action["key"] = key.into();
        action
    };
    let mut client = server.connect().await;
    for _ in 0..20 {
        assert_eq!(client.ask(&with(KEY)).await["ok"], "broadcast");
    }
    let mut guesser = server.connect().await;
    guess_until_too_often(&mut guesser, &with("a guess")).await;
    // A client that has sent wrong keys can still use the right key at once.
    assert_eq!(guesser.ask(&with(KEY)).await["ok"], "broadcast");
}

/// Starts a server that reads PROXY headers, and on which `broadcast` on the tag shop needs the
/// key.
fn behind_a_gate(more: &[&str]) -> Server {
    let common = ["--listen-proxy", "127.0.0.1:0", "--protect", "shop:broadcast:{dir}/key"];
    Server::start_in(dir_with_key(), &[&common, more].concat())
}

/// Requests of other clients at the same address never delay a client that has the key.
#[tokio::test]
async fn a_right_key_is_never_refused_for_what_others_of_its_address_did() {
    let server = behind_a_gate(&[
        "--protect",
        "news:set:{dir}/key",
        "--send-rate",
        "1:40",
        "--wrong-key-rate",
        "1:40",
    ]);
    let guess = json!({"action": "set", "tag": "news", "key": "a guess"});
    let mut right = broadcast();
    right["key"] = KEY.into();
    let ping = json!({"action": "ping"});
    let told = |reply: &Value, what: &str| reply["detail"].as_str().is_some_and(|it| it == what);
    let mut listener = server.listener("shop", None).await;
    let mut others = Vec::new();
    // Each of the other connections sends as much as it may, until a new connection from this
    // address may send nothing.
    loop {
        let mut other = server.connect_from("192.0.2.7").await.unwrap();
        let most = [&guess, &ping].map(|action| std::iter::repeat_n(action.clone(), 40));
        other.send_at_once(most.into_iter().flatten()).await;
        for _ in 0..80 {
            other.next().await;
        }
        others.push(other);
        assert!(others.len() < 500, "nobody is refused");

        let mut fresh = server.connect_from("192.0.2.7").await.unwrap();
        fresh.send_at_once([&guess, &right, &ping].map(Value::clone)).await;
        let replies = [fresh.next().await, fresh.next().await, fresh.next().await];
        assert_eq!(replies[1]["ok"], "broadcast", "{replies:?}");
        assert_eq!(listener.message().await, 1);
        let over_ws =
            told(&replies[0], "too many wrong keys") && told(&replies[2], "too many requests");

        let body = json!([broadcast(), right, {"action": "sing"}]).to_string();
        let head = "POST /messages HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length:";
        let request = format!("{}{head} {}\r\n\r\n{body}", proxy_line("192.0.2.7"), body.len());
        let stream = TcpStream::connect(server.proxied.unwrap()).await.unwrap();
        let answer = exchange_over(stream, request.as_bytes()).await;
        let replies: Vec<Value> = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(replies[1]["ok"], "broadcast", "{replies:?}");
        assert_eq!(listener.message().await, 1);
        if over_ws
            && told(&replies[0], "too many requests")
            && told(&replies[2], "too many requests")
        {
            break;
        }
    }
}

#[tokio::test]
async fn registrations_and_wrong_keys_of_an_address_are_bounded_too() {
    let server =
        behind_a_gate(&["--set-rate", "1:40", "--wrong-key-rate", "1:40", "--send-rate", "off"]);
    let mut guess = broadcast();
    guess["key"] = "a guess".into();
    let unset = json!({"action": "unset", "tag": "shop"});
    for (action, granted, host) in [(guess, "denied", 1), (unset, "not_registered", 2)] {
        let (mut refused, mut connections) = (0, 0);
        while refused == 0 {
            connections += 1;
            assert!(connections < 200, "nobody is refused: {action}");
            let from = format!("198.51.100.{host}");
            let mut client = server.connect_from(&from).await.unwrap();
            client.send_at_once(std::iter::repeat_n(action.clone(), 40)).await;
            for _ in 0..40 {
                let reply = client.next().await;
                refused += u32::from(reply["error"] == "rate_limited");
                assert!(refused > 0 || reply["error"] == *granted, "{reply}");
            }
        }
        assert!(connections > 20, "{connections}: {action}");
        let mut other = server.connect_from("198.51.100.9").await.unwrap();
        assert_eq!(other.ask(&action).await["error"], *granted);
    }
}

/// `--help` names the default rates.
#[test]
fn the_rates_are_those_that_are_told() {
    let output = program().arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let default = server::Limits::default();
    for (option, rate) in [
        ("--connect-rate", default.connect),
        ("--set-rate", default.set),
        ("--send-rate", default.send),
        ("--wrong-key-rate", default.wrong_key),
    ] {
        let rate = rate.unwrap();
        let told = format!("[default: {}:{}]", rate.per_second, rate.burst);
        let text = help.split_once(&format!("{option} <")).unwrap().1;
        let text = text.split_once("[default: ").unwrap();
        assert!(text.1.starts_with(&told["[default: ".len()..]), "{option}: {}", text.1);
    }
}

/// Checks the rates that apply without options.
#[tokio::test]
async fn four_hundred_requests_at_once_are_fine_by_default_and_ten_wrong_keys() {
    let server = Server::start_in(dir_with_key(), &["--protect", "shop:broadcast:{dir}/key"]);
    let mut client = server.connect().await;
    let mut guess = broadcast();
    guess["key"] = "a guess".into();
    for (action, burst, a_second) in [
        (json!({"action": "ping"}), 400, 200),
        (json!({"action": "unset", "tag": "shop"}), 400, 50),
        (guess, 10, 1),
    ] {
        let mut client = server.connect().await;
        let begun = Instant::now();
        let many = 20 * burst;
        let mut granted = 0;
        let mut first = None;
        for _ in 0..many / 50 {
            client.send_at_once(std::iter::repeat_n(action.clone(), 50)).await;
            for _ in 0..50 {
                match client.next().await["error"] == "rate_limited" {
                    false => granted += 1,
                    true => first = first.or(Some(granted)),
                }
            }
            if first.is_some() {
                break;
            }
        }
        let most = burst + a_second * (begun.elapsed().as_secs() + 1);
        assert!(first.unwrap() >= burst && granted <= most, "{granted} of {action}: {most}");
    }
    assert_eq!(client.ask(&json!({"action": "ping"})).await["ok"], "ping");
}

#[tokio::test]
async fn wrong_keys_are_counted_apart() {
    let server = Server::start_in(
        dir_with_key(),
        &["--protect", "shop:set:{dir}/key", "--wrong-key-rate", "1:2"],
    );
    let mut client = server.connect().await;
    let guess = json!({"action": "set", "tag": "shop", "key": "a guess"});
    assert!(guess_until_too_often(&mut client, &guess).await >= 2);
    let right = json!({"action": "set", "tag": "shop", "key": KEY});
    assert_eq!(client.ask(&right).await["ok"], "set");
}

#[tokio::test]
async fn a_connection_registers_so_often_and_no_more() {
    let server = Server::start(&["--set-rate", "1:3"]);
    let mut client = server.connect().await;
    client.set("shop", None).await;
    let mut granted = 1;
    // Both `set` and `unset` count towards the limit.
    let refusal = loop {
        let action = ["unset", "set"][granted % 2];
        let reply = client.ask(&json!({"action": action, "tag": "news"})).await;
        if reply["error"] == "rate_limited" {
            break reply;
        }
        assert_eq!(reply["ok"], action);
        if action == "set" {
            assert_eq!(client.next().await["event"], "live");
        }
        granted += 1;
        assert!(granted < 100, "never too often");
    };
    assert!(granted >= 3 && refusal["retry_in_ms"].is_u64(), "{granted}, {refusal}");
    // The registrations of the client stay.
    assert_eq!(server.post(&broadcast()).await.0, 200);
    assert_eq!(client.message().await, 1);
}

#[tokio::test]
async fn one_that_goes_on_and_on_is_closed() {
    let server = Server::start(&["--send-rate", "1:1"]);
    let mut client = server.connect().await;
    let mut bystander = server.listener("shop", None).await;
    client.send_at_once((0..3_000).map(|_| json!({"action": "ping"}))).await;
    assert_eq!(client.closed().await, Some(4500));
    assert_eq!(server.post(&broadcast()).await.0, 200);
    assert_eq!(bystander.message().await, 1);
}

#[tokio::test]
async fn an_address_has_twenty_times_what_a_connection_has() {
    let server = Server::start(&["--listen-proxy", "127.0.0.1:0", "--send-rate", "1:20"]);
    // All addresses of an IPv6 /64 count as one. Each connection sends as many frames as it may.
    let mut refused = 0;
    let mut connections = 0;
    while refused == 0 {
        connections += 1;
        assert!(connections < 200, "nobody is refused");
        let mut client =
            server.connect_from(&format!("2001:db8:1:2::{connections:x}")).await.unwrap();
        client.send_at_once((0..20).map(|_| json!({"action": "ping"}))).await;
        for _ in 0..20 {
            refused += u32::from(client.next().await["error"] == "rate_limited");
        }
    }
    assert!(connections > 20, "{connections}");
    let mut other = server.connect_from("2001:db8:1:3::1").await.unwrap();
    assert_eq!(other.ask(&broadcast()).await["ok"], "broadcast");
    let mut nameless = server.connect().await;
    assert_eq!(nameless.ask(&broadcast()).await["ok"], "broadcast");
}

#[tokio::test]
async fn an_address_connects_so_often_and_no_more() {
    let server = Server::start(&["--listen-proxy", "127.0.0.1:0", "--connect-rate", "1:2"]);
    let mut granted = 0;
    let refusal = loop {
        match server.connect_from("192.0.2.7").await {
            Ok(_client) => granted += 1,
            Err(refusal) => break refusal,
        }
        assert!(granted < 100, "never too often");
    };
    assert_eq!(refusal, (429, Some("1".into())));
    assert!(granted >= 2);
    assert!(server.connect_from("192.0.2.8").await.is_ok());
    // Without the PROXY protocol, connections from this machine are not counted by address.
    for _ in 0..5 {
        server.connect().await.close().await;
    }
}

/// Clients that connect too often appear in the same metric as clients that send too much.
#[tokio::test]
async fn who_connects_too_often_is_told_when_to_come_back_and_counted() {
    let server = Server::start(&["--listen-proxy", "127.0.0.1:0", "--connect-rate", "1:1"]);
    let to = server.proxied.unwrap();
    let mut refused = 0;
    for _ in 0..10 {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(proxy_line("192.0.2.7").as_bytes()).await.unwrap();
        let Err(answer) = Client::over(stream, &format!("ws://{to}/ws"), &[]).await else {
            continue;
        };
        refused += 1;
        assert_eq!(answer.status(), 429);
        assert_eq!(answer.headers()["content-type"], "application/json");
        let reply: Value = serde_json::from_slice(answer.body().as_ref().unwrap()).unwrap();
        assert_eq!(reply["error"], "rate_limited");
        assert!(reply["detail"].is_string() && reply["retry_in_ms"].as_u64() <= Some(1_001));
    }
    assert!(refused > 0);
    let counted = metrics(server.admin).await["server_errors_total{code=\"rate_limited\"}"];
    assert_eq!(counted, f64::from(refused));
}

#[tokio::test]
async fn one_that_goes_on_with_wrong_keys_over_http_is_closed() {
    let server = Server::start_in(
        dir_with_key(),
        &["--protect", "shop:broadcast:{dir}/key", "--wrong-key-rate", "1:1"],
    );
    let batch = |length| {
        let body = json!(vec![broadcast(); length]).to_string();
        let head = "POST /messages HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a-guess";
        format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    // A client may go on after a hundred refusals, but not after thousands.
    let requests = batch(50).repeat(2) + &batch(1_000).repeat(3);
    let answers = exchange(server.address, requests.as_bytes()).await;
    let answers = format!("{}\r\n\r\n{}", answers.head, answers.body);
    let heads: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).collect();
    let closing: Vec<bool> =
        heads.iter().map(|answer| answer.contains("\r\nconnection: close\r\n")).collect();
    assert!(closing.len() >= 3 && closing.len() <= 5, "{closing:?}");
    assert_eq!(closing.iter().position(|closes| *closes), Some(closing.len() - 1), "{closing:?}");
    assert!(heads[0].contains("denied") && heads[0].contains("rate_limited"), "{}", heads[0]);
    // A client with the key may still publish on another connection.
    let bearer = format!("Authorization: Bearer {KEY}");
    assert_eq!(server.post_with(&broadcast().to_string(), &[&bearer]).await.0, 200);
}

#[tokio::test]
async fn rates_that_make_no_sense_are_said() {
    for text in ["200", "0:5", "5:0", "many", "1:2:3", ":"] {
        let output = program().args(["check", "--send-rate", text]).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{text}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(&format!("--send-rate: {text}: write N:BURST")), "{error}");
    }
}

/// Sends a wrong key until it is rate limited. Returns how often it was denied before.
async fn guess_until_too_often(client: &mut Client, guess: &Value) -> u32 {
    for denied in 0..100 {
        let reply = client.ask(guess).await;
        if reply["error"] == "rate_limited" {
            assert!(reply["retry_in_ms"].is_u64(), "{reply}");
            return denied;
        }
        assert_eq!(reply["error"], "denied");
    }
    panic!("a guess is never too often");
}

fn dir_with_key() -> tempfile::TempDir {
    directory_with("key", KEY)
}
