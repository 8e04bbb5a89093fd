//! Tests the clients of the command line at an address where no Tocsin server answers.

use serde_json::json;

use crate::harness::{ALICE, Impostor, Server, program};

const COMMANDS: [&[&str]; 2] = [&["broadcast", "--tag", "t", "x"], &["listen", "--tag", "t"]];

/// Runs the command with a key, which must not appear in its error. Returns its exit code and its
/// error.
async fn told(command: &[&str], to: &str) -> (Option<i32>, String) {
    let mut program = program();
    program.args(command).args(["--to", to]).env("TOCSIN_KEY", "a-key-0123456789abcdef");
    let output = testkit::output(program).await;
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.stdout.len(), errors.lines().count()), (0, 1), "one line: {errors}");
    assert!(!errors.contains("a-key-"), "{errors}");
    (output.status.code(), errors)
}

#[tokio::test]
async fn a_wrong_path_is_named_with_what_it_answers() {
    let server = Server::start(&[]);
    for (command, path) in COMMANDS.into_iter().zip(["/messages", "/ws"]) {
        let (code, words) = told(command, &format!("{}/nowhere", server.url())).await;
        assert_eq!(code, Some(65));
        let url = format!("{}/nowhere{path} answers 404 Not Found (text/plain", server.url());
        assert!(words.contains(&url) && words.contains("--to"), "{words}");
    }
}

#[tokio::test]
async fn the_port_for_proxies_is_told_from_a_server_that_is_away() {
    let server = Server::start(&["--listen-proxy", "127.0.0.1:0"]);
    let address = server.proxied.unwrap();
    for command in COMMANDS {
        let (code, words) = told(command, &format!("http://{address}")).await;
        assert_eq!(code, Some(69));
        let closed = format!("{address} closed the connection without an answer");
        assert!(words.contains(&closed) && words.contains("--listen-proxy"), "{words}");
    }
}

#[tokio::test]
async fn what_speaks_tls_is_told() {
    let impostor = Impostor::start().await;
    for command in COMMANDS {
        // The impostor sends a TLS alert, as a server that expects a handshake does.
        let answering = impostor.answer(b"\x15\x03\x03\x00\x02\x02\x32");
        let url = impostor.url();
        let ((code, words), ()) = tokio::join!(told(command, &url), answering);
        assert_eq!(code, Some(65), "{words}");
        assert!(
            words.contains(&format!("{} answers something that is not HTTP", impostor.address()))
        );
        assert!(words.contains("TLS"), "{words}");
        // This is how the gate answers HTTP without TLS.
        let bad = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n<!DOCTYPE html>";
        let ((code, words), ()) = tokio::join!(told(command, &url), impostor.answer(bad));
        assert_eq!(code, Some(65), "{words}");
        assert!(words.contains("answers 400 Bad Request (text/html)"), "{words}");
        assert!(words.contains("if that is the gate"), "{words}");
    }
}

/// Status 200 does not prove that a message was accepted, because any website answers with it.
#[tokio::test]
async fn a_page_is_no_acceptance() {
    let impostor = Impostor::start().await;
    let page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<h1>";
    for command in COMMANDS {
        let url = impostor.url();
        let ((code, words), ()) = tokio::join!(told(command, &url), impostor.answer(page));
        assert_eq!(code, Some(65), "{words}");
        assert!(words.contains("answers 200 OK (text/html), as no Tocsin server does"), "{words}");
    }
}

/// A 502 from a proxy whose server is away counts as temporary, so the client tries again.
#[tokio::test]
async fn a_proxy_without_its_server_is_unavailable() {
    let impostor = Impostor::start().await;
    let bad = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n";
    let url = impostor.url();
    let sending = async {
        impostor.answer(bad).await;
        let reply = json!({"ok":"broadcast","seq":1,"clients":0}).to_string();
        let length = reply.len();
        let good = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{reply}");
        impostor.answer(good.as_bytes()).await;
    };
    let require = ["broadcast", "--tag", "t", "--require", "-q", "x"];
    let ((code, words), ()) = tokio::join!(told(&require, &url), sending);
    assert_eq!(code, Some(3));
    assert!(words.contains("nobody is registered there"), "{words}");
    let ((code, words), ()) = tokio::join!(told(COMMANDS[1], &url), impostor.answer(bad));
    assert_eq!(code, Some(69));
    assert!(words.contains(&format!("{url}/ws answers 502 Bad Gateway")), "{words}");
}

/// If the count is partial, a server that did not answer may have delivered the message.
#[tokio::test]
async fn nobody_is_less_sure_where_a_count_is_partial() {
    let impostor = Impostor::start().await;
    let reply = json!({"ok":"send","seq":1,"clients":0,"stored":false,"partial":true}).to_string();
    let length = reply.len();
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{reply}");
    let require = ["send", "--tag", "t", "--id", ALICE, "--require", "-q", "x"];
    let url = impostor.url();
    let ((code, words), ()) =
        tokio::join!(told(&require, &url), impostor.answer(answer.as_bytes()));
    assert_eq!(code, Some(3));
    assert!(words.contains("did not answer in time: it may have"), "{words}");
}
