//! `--check` describes what the gate would serve, and opens no port.

use std::net::TcpListener;

use tempfile::TempDir;

use crate::harness::{Pki, program, write_secret};

#[test]
fn it_prints_what_would_be_served() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("cert.pem");
    let pki = Pki::new();
    write_secret(&path, pki.together() + &pki.root_pem);
    // The port is in use, so that a start would fail.
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

/// If one of several files is at fault, the message names that file.
#[test]
fn of_two_files_the_wrong_one_is_named() {
    let dir = TempDir::new().unwrap();
    let (site, other) = (Pki::new(), Pki::new());
    let chain = site.leaf_pem.clone() + &site.intermediate_pem;
    for (name, content) in [
        ("key.pem", site.key.serialize_pem()),
        ("other.key", other.key.serialize_pem()),
        ("chain.pem", chain),
        (
            "parameters.pem",
            "-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n".into(),
        ),
    ] {
        write_secret(&dir.path().join(name), content);
    }
    let path = |name: &str| dir.path().join(name).display().to_string();
    for (first, second, wrong, words) in [
        ("chain.pem", "other.key", "other.key", "does not belong"),
        ("other.key", "chain.pem", "other.key", "does not belong"),
        ("key.pem", "parameters.pem", "parameters.pem", "no certificate"),
        ("chain.pem", "parameters.pem", "parameters.pem", "no private key"),
    ] {
        let list = format!("{},{}", path(first), path(second));
        let output = program().args(["0", "9090", &list, "--check"]).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(65), "{errors}");
        assert!(errors.starts_with(&format!("gate: {}: ", path(wrong))), "{list}: {errors}");
        assert!(errors.contains(words), "{list}: {errors}");
    }
    // Both files lack the key, so the message names both.
    let list = format!("{},{}", path("chain.pem"), path("chain.pem"));
    let output = program().args(["0", "9090", &list, "--check"]).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    let both = format!("{} and {}: no private key", path("chain.pem"), path("chain.pem"));
    assert!(errors.contains(&both), "{errors}");
}
