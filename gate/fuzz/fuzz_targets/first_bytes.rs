//! Checks that the gate neither panics nor hangs, whatever a client sends first. The gate must
//! answer with TLS if the first byte begins a TLS handshake, and otherwise with the whole page that
//! names the https address.

#![no_main]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown as End, SocketAddr, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::time::Duration;

use gate::{Command, Config, Listeners};
use libfuzzer_sys::fuzz_target;
use shared::shutdown::{Hangups, Shutdown};

/// The time limit for the gate to close the connection after the client ended its side. After this
/// time, the gate counts as hanging.
const PATIENCE: Duration = Duration::from_secs(20);

/// The content types of TLS records (RFC 8446 section 5.1).
const RECORDS: std::ops::RangeInclusive<u8> = 20..=23;
const HANDSHAKE: u8 = 22;

fuzz_target!(|input: &[u8]| {
    static GATE: OnceLock<SocketAddr> = OnceLock::new();
    let mut client = TcpStream::connect(GATE.get_or_init(start)).expect("the gate accepts");
    client.set_read_timeout(Some(PATIENCE)).expect("a time to wait");
    client.write_all(input).expect("the gate reads");
    client.shutdown(End::Write).expect("an end");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect("the gate closes in order");
    match (input.first(), answer.first()) {
        (None, first) => assert_eq!(first, None),
        (Some(&HANDSHAKE), None) => {}
        (Some(&HANDSHAKE), Some(kind)) => assert!(RECORDS.contains(kind), "{answer:?}"),
        (Some(_), _) => assert_whole_page(&String::from_utf8(answer).expect("text")),
    }
});

fn assert_whole_page(answer: &str) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{answer}");
    assert!(body.contains("https://localhost:"), "{body}");
}

/// Runs a gate in this process, so that libFuzzer sees which code its inputs reach. libfuzzer-sys
/// ends the process when a task panics.
fn start() -> SocketAddr {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let pem = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(&pem, certificate.pem() + &key.serialize_pem()).expect("written");
    let path = pem.path().to_str().expect("a path of text");
    // No client completes a handshake, so the backend is never used.
    let line = ["gate", "127.0.0.1:0", "1", path, "--handshake-timeout", "1h"].map(Into::into);
    let Ok(Command::Run(cli)) = Command::parse(line) else { panic!("a good command line") };
    let config = Config::resolve(&cli).expect("a good configuration");

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address");
    let (listeners, hangups) = {
        let _inside = runtime.enter();
        let listeners = Listeners::open(&config, vec![socket]).expect("a socket of ours");
        (listeners, Hangups::install().expect("a signal handler"))
    };
    std::thread::spawn(move || {
        let _file = pem;
        runtime.block_on(gate::run(listeners, config, hangups, Shutdown::new()))
    });
    address
}
