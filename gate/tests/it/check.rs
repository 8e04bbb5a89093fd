//! `--check`: what would be served; nothing is bound.

use std::net::TcpListener;

use tempfile::TempDir;

use crate::harness::{Pki, program, write_secret};

#[test]
fn it_prints_what_would_be_served() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("cert.pem");
    let pki = Pki::new();
    write_secret(&path, pki.together() + &pki.root_pem);
    // Taken, so that a start would fail.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let listener = TcpListener::bind(taken).unwrap();
    let output = program()
        .args([&taken.to_string(), "9090", path.to_str().unwrap(), "--check"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let [listen, backend, names, valid, key, leaf, intermediate, root] = lines[..] else {
        panic!("{text}")
    };
    assert_eq!(listen, format!("listen    {taken}"));
    assert_eq!(backend, "backend   127.0.0.1:9090, else [::1]:9090");
    assert_eq!(names, "names     localhost");
    assert!(valid.starts_with("valid     1975-01-01 to 4096-01-01, "), "{valid}");
    assert!(valid.ends_with(" days left"), "{valid}");
    assert_eq!(key, "key       P-256");
    assert_eq!(leaf, "chain     1. localhost, issued by Test Intermediate");
    assert_eq!(intermediate, "chain     2. Test Intermediate, issued by Test Root");
    assert_eq!(root, "not sent  Test Root");
    drop(listener);
}

#[test]
fn faults_of_the_command_line_are_found_too() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("cert.pem");
    write_secret(&path, Pki::new().together());
    for (listen, backend, code) in [("70000", "9090", 64), ("0", "shop:9090", 64)] {
        let args = [listen, backend, path.to_str().unwrap(), "--check"];
        let output = program().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        assert!(output.stdout.is_empty());
    }
    let output = program().args(["0", "9090", "/nowhere/cert.pem", "--check"]).output().unwrap();
    assert_eq!(output.status.code(), Some(66));
}
