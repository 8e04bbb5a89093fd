//! The loads that may be put on a server which runs, whoever has started it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

/// A program that was built beside the load generator. Ended when dropped.
struct Program {
    child: Child,
    address: String,
}

impl Program {
    fn start(name: &str, args: &[&str]) -> Self {
        let path = Path::new(env!("CARGO_BIN_EXE_bench")).with_file_name(name);
        assert!(path.is_file(), "{} is missing: test the whole workspace", path.display());
        let mut child = Command::new(path)
            .args(args)
            .args(["--log", "off"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let beginning = format!("listening {name} ");
        let address = lines
            .map_while(Result::ok)
            .find_map(|line| Some(line.strip_prefix(&beginning)?.to_owned()));
        Self { address: address.expect("it listens"), child }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn bench(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_bench")).args(args).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn loads_can_be_put_on_any_server_directly_and_through_a_gate() {
    let dir = TempDir::new().unwrap();
    let pem = dir.path().join("cert.pem");
    let key = KeyPair::generate().unwrap();
    let names = ["localhost".to_owned()];
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    fs::write(&pem, certificate.pem() + &key.serialize_pem()).unwrap();
    fs::set_permissions(&pem, Permissions::from_mode(0o600)).unwrap();
    let pem = pem.to_str().unwrap();
    let rates = ["--connect-rate", "off", "--set-rate", "off", "--send-rate", "off"];
    let server = Program::start(
        "server",
        &[&["--listen", "127.0.0.1:0", "--admin", "off"], &rates[..]].concat(),
    );
    let gate = Program::start("gate", &["127.0.0.1:0", &server.address, pem]);
    let (_, port) = gate.address.rsplit_once(':').unwrap();
    let (plain, secure) =
        (format!("ws://{}/ws", server.address), format!("wss://localhost:{port}/ws"));
    for way in [vec!["--url", &plain], vec!["--url", &secure, "--ca", pem]] {
        let load = |load: &[&str]| bench(&[load, &way[..]].concat());
        let told = load(&["fanout", "--subscribers", "20", "--rate", "10", "--seconds", "1"]);
        assert_eq!(row(&told, "deliveries"), "200");
        let told = load(&["publish", "--publishers", "4", "--seconds", "1"]);
        assert!(row(&told, "messages accepted").parse::<u64>().unwrap() > 0);
        let told = load(&["storm", "--clients", "20", "--seconds", "3"]);
        assert_eq!(row(&told, "clients"), "20", "{told}");
    }
}

/// A figure of the table.
fn row<'a>(table: &'a str, title: &str) -> &'a str {
    let cells = table.lines().filter_map(|line| line.trim_matches('│').split_once('┆'));
    let found = cells.map(|(title, cell)| (title.trim(), cell.trim())).find(|row| row.0 == title);
    found.unwrap_or_else(|| panic!("no {title} in {table}")).1
}
