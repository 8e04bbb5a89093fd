//! The load generator can test any running server, including a server that it did not start.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Command;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use testkit::Program;
use testkit::files::write_secret;

/// Starts a program that was built beside the load generator. Returns the program and its address.
fn start(name: &str, args: &[&str]) -> (Program, String) {
    let path = Path::new(env!("CARGO_BIN_EXE_bench")).with_file_name(name);
    assert!(path.is_file(), "{} is missing: test the whole workspace", path.display());
    let mut command = testkit::command(path);
    command.args(args).args(["--log", "off"]);
    let program = Program::start(command);
    let address = program.announced(name);
    (program, address)
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
    write_secret(&pem, certificate.pem() + &key.serialize_pem());
    let pem = pem.to_str().unwrap();
    let rates = ["--connect-rate", "off", "--set-rate", "off", "--send-rate", "off"];
    let open = ["--open", "*:send", "--open", "*:broadcast"];
    let own = ["--listen", "127.0.0.1:0", "--admin", "off"];
    let (_server, plain_address) = start("server", &[&own[..], &open, &rates].concat());
    let (_gate, secure_address) = start("gate", &["127.0.0.1:0", &plain_address, pem]);
    let (_, port) = secure_address.rsplit_once(':').unwrap();
    let (plain, secure) =
        (format!("ws://{plain_address}/ws"), format!("wss://localhost:{port}/ws"));
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

/// The value in the row `title` of the printed table.
fn row<'a>(table: &'a str, title: &str) -> &'a str {
    let cells = table.lines().filter_map(|line| line.trim_matches('│').split_once('┆'));
    let found = cells.map(|(title, cell)| (title.trim(), cell.trim())).find(|row| row.0 == title);
    found.unwrap_or_else(|| panic!("no {title} in {table}")).1
}
