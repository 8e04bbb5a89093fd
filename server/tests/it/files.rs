//! Tests the files for browsers: access, compression and caching.

use std::io::Read as _;

use flate2::read::GzDecoder;
use serde_json::json;

use crate::harness::{Answer, Client, Server, request};

const DEMO: [&str; 5] = ["/client.js", "/", "/demo.css", "/demo.js", "/demo-controls.js"];

async fn get(server: &Server, path: &str, headers: &[&str]) -> Answer {
    request(server.address, &format!("GET {path}"), headers, b"").await
}

#[tokio::test]
async fn the_client_is_served_and_the_demo_only_on_demand() {
    let server = Server::start(&[]);
    let client = server.get("/client.js").await;
    assert_eq!(client.status, 200);
    assert!(client.header("Content-Type").unwrap().starts_with("text/javascript"));
    assert_eq!(server.get("/demo.js").await.status, 404);

    let demo = Server::start(&["--demo"]);
    let page = demo.get("/").await;
    assert_eq!(page.status, 200);
    assert!(page.header("Content-Security-Policy").unwrap().contains("default-src 'none'"));
    for path in ["/demo.js", "/demo-controls.js", "/demo.css", "/client.js"] {
        assert_eq!(demo.get(path).await.status, 200, "{path}");
    }
    // Publishing on the demo's tag needs the key that is made for this run and printed at the
    // start.
    let broadcast = json!({"action":"broadcast","tag":"notifications","message":1});
    assert_eq!(demo.post(&broadcast).await.0, 401);
    assert_eq!(server.post(&broadcast).await.0, 200);
    // The demo serves the WebSocket at / too.
    let mut client = Client::connect(demo.address, "/", &[]).await.unwrap();
    assert_eq!(client.ask(&json!({"action":"ping"})).await["ok"], "ping");
}

#[tokio::test]
async fn a_file_is_compressed_for_who_takes_it() {
    let server = Server::start(&["--demo"]);
    for path in DEMO {
        let plain = get(&server, path, &[]).await;
        let gzip = get(&server, path, &["Accept-Encoding: gzip, deflate, br"]).await;
        assert_eq!((plain.status, gzip.status), (200, 200), "{path}");
        assert_eq!(plain.header("Content-Encoding"), None, "{path}");
        assert_eq!(gzip.header("Content-Encoding"), Some("gzip"), "{path}");
        assert_eq!(gzip.header("Content-Length"), Some(&*gzip.bytes.len().to_string()), "{path}");
        assert!(gzip.bytes.len() * 2 < plain.bytes.len(), "{path}: {} bytes", gzip.bytes.len());
        let mut unpacked = Vec::new();
        GzDecoder::new(&gzip.bytes[..]).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, plain.bytes, "{path}");
        for name in ["Content-Type", "Cache-Control", "Content-Security-Policy"] {
            assert_eq!(plain.header(name), gzip.header(name), "{path}");
            assert!(plain.header(name).is_some(), "{path}");
        }
        for answer in [&plain, &gzip] {
            assert_eq!(answer.header("Vary"), Some("Accept-Encoding, Origin"), "{path}");
        }
        let refused = get(&server, path, &["Accept-Encoding: gzip;q=0, *"]).await;
        assert_eq!(refused.bytes, plain.bytes, "{path}");
    }
}

#[tokio::test]
async fn who_has_a_file_already_is_told_so() {
    let server = Server::start(&["--demo"]);
    let gzip = "Accept-Encoding: gzip";
    let mut tags = Vec::new();
    for path in DEMO {
        for coding in [&[][..], &[gzip]] {
            let tag = get(&server, path, coding).await.header("ETag").unwrap().to_owned();
            assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag} is a strong one");
            let other = tags.last().map_or("\"other\"", String::as_str);
            let list = format!("If-None-Match: \"a\", W/{tag}");
            let any = "If-None-Match: *".to_owned();
            for known in [format!("If-None-Match: {tag}"), list, any] {
                let answer = get(&server, path, &[coding, &[&known]].concat()).await;
                assert_eq!((answer.status, answer.bytes.len()), (304, 0), "{path} {known}");
                assert_eq!(answer.header("ETag"), Some(&*tag));
                assert_eq!(answer.header("Vary"), Some("Accept-Encoding, Origin"));
                assert_eq!(answer.header("Cache-Control"), Some("no-cache"));
            }
            let unknown = format!("If-None-Match: {other}");
            let answer = get(&server, path, &[coding, &[&unknown]].concat()).await;
            assert_eq!(answer.status, 200, "{path} {unknown}");
            assert!(!answer.bytes.is_empty());
            tags.push(tag);
        }
    }
    // The compressed and the plain form have different ETags, because a cache may combine parts of
    // responses that have the same ETag.
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.len(), 2 * DEMO.len());
}

#[tokio::test]
async fn only_the_head_of_a_file() {
    let server = Server::start(&[]);
    let headers = ["Accept-Encoding: gzip"];
    let whole = get(&server, "/client.js", &headers).await;
    let head = request(server.address, "HEAD /client.js", &headers, b"").await;
    assert_eq!((head.status, head.bytes.len()), (200, 0));
    for name in ["ETag", "Content-Length", "Content-Encoding", "Content-Type"] {
        assert_eq!(head.header(name), whole.header(name), "{name}");
    }
}

#[tokio::test]
async fn a_page_of_another_port_may_import_the_client_again_and_again() {
    let server = Server::start(&[]);
    let headers = ["Host: shop.example:9091", "Origin: https://shop.example"];
    let first = get(&server, "/client.js", &headers).await;
    let known = format!("If-None-Match: {}", first.header("ETag").unwrap());
    let again = get(&server, "/client.js", &[&headers[..], &[&known]].concat()).await;
    assert_eq!((first.status, again.status), (200, 304));
    for answer in [first, again] {
        assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("https://shop.example"));
        assert_eq!(answer.header("Vary"), Some("Accept-Encoding, Origin"));
    }
}
