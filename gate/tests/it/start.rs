//! Starts that fail, each with one line that names the file and the remedy, and with an exit code.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;
use testkit::files::directory_with;

use crate::harness::{Gate, Pki, echo, program, program_of_a_user, round_trip};

fn run(args: &[&str]) -> Output {
    program().args(args).output().unwrap()
}

/// Asserts the exit code, and that stderr is one line with all of `words`.
fn fails(args: &[&str], code: i32, words: &[&str]) {
    fails_of(program(), args, code, words);
}

fn fails_of(mut program: Command, args: &[&str], code: i32, words: &[&str]) {
    let output = program.args(args).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{args:?}");
    for word in words {
        assert!(stderr.contains(word), "{args:?}: {word:?} is not in {stderr:?}");
    }
}

/// Creates a directory with `cert.pem`, and returns the file's path too.
fn with(content: impl AsRef<[u8]>) -> (TempDir, String) {
    let dir = directory_with("cert.pem", content);
    let path = dir.path().join("cert.pem");
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

#[test]
fn wrong_command_lines() {
    let (_dir, good) = with(Pki::new().together());
    for (args, words) in [
        (vec![], vec!["PEM", "--help"]),
        (vec!["9091", "9090"], vec!["PEM", "--help"]),
        (vec!["9091", "9090", &good, "more"], vec!["more"]),
        (vec!["0", "9090", &good, "--unheard-of"], vec!["--unheard-of"]),
        (vec!["0", "9090", &good, "--drain", "soon"], vec!["--drain", "soon"]),
        (vec!["0", "9090", &good, "--handshake-timeout", "0s"], vec!["--handshake-timeout"]),
        (vec!["0", "9090", &good, "--reload-interval", "0s"], vec!["--reload-interval"]),
        (vec!["0", "9090", &good, "--log-format", "xml"], vec!["--log-format", "json"]),
        (vec!["0", "9090", &good, "--log", "gate=loud"], vec!["--log", "loud"]),
        (vec!["0", "9090", &good, "--max-connections", "0"], vec!["--max-connections"]),
        (vec!["99999", "9090", &good], vec!["99999", "port"]),
        (vec!["0", "shop:9090", &good], vec!["shop:9090", "127.0.0.1:9090"]),
        (vec!["0", "0", &good], vec!["port 0"]),
        (vec!["0", "unix:", &good], vec!["\"unix:\"", "path"]),
        (vec!["0", "9090", &good, "--proxy-protocol", "v3"], vec!["--proxy-protocol", "v1", "v2"]),
        (vec!["0", "9090", &good, "--backend-retry", "often"], vec!["--backend-retry", "often"]),
    ] {
        fails(&args, 64, &words);
    }
}

/// A gate that forwards to itself would open connection after connection, until no file descriptor
/// is left.
#[test]
fn a_gate_that_forwards_to_itself() {
    let (_dir, good) = with(Pki::new().together());
    for (listen, backend) in [
        ("9091", "9091"),
        ("9091", "127.0.0.1:9091"),
        ("9091", "[::1]:9091"),
        ("0.0.0.0:9091", "127.0.0.1:9091"),
        ("127.0.0.1:9091", "0.0.0.0:9091"),
        ("[::]:9091", "localhost:9091"),
        ("127.0.0.1:9091", "9091"),
    ] {
        for check in [vec![], vec!["--check"]] {
            let args = [vec![listen, backend, &good], check].concat();
            fails(&args, 64, &["9091: gate itself listens there", "the server behind"]);
        }
    }
    let admin = ["0", "9093", &good, "--admin", "127.0.0.1:9093"];
    fails(&admin, 64, &["127.0.0.1:9093: that is its own --admin"]);
    // The same port on another address belongs to another program.
    for (listen, backend) in [("127.0.0.2:9091", "127.0.0.1:9091"), ("192.0.2.1:9091", "9091")] {
        assert!(run(&[listen, backend, &good, "--check"]).status.success(), "{listen} {backend}");
    }
}

/// Two options of the gate name the same port. The message must not be "another program uses it",
/// because the operator would search for a program that does not exist.
#[test]
fn one_port_for_clients_and_administrators() {
    let (_dir, good) = with(Pki::new().together());
    for (listen, admin) in [
        ("9091", "9091"),
        ("127.0.0.1:9091", "9091"),
        ("0.0.0.0:9091", "127.0.0.1:9091"),
        ("[::1]:9091", "[::]:9091"),
    ] {
        for check in [vec![], vec!["--check"]] {
            let args = [vec![listen, "9090", &good, "--admin", admin], check].concat();
            fails(&args, 64, &["--admin", "clients connect there", "port of its own"]);
        }
    }
    for (listen, admin) in [("[::1]:9091", "127.0.0.1:9091"), ("127.0.0.1:0", "0")] {
        assert!(run(&[listen, "9090", &good, "--admin", admin, "--check"]).status.success());
    }
}

/// A usage error is one line that says what is wrong and what to give instead.
#[test]
fn faults_of_options_are_said_in_words_for_people() {
    let (_dir, good) = with(Pki::new().together());
    let usual = "gate takes where to listen, where to forward to and the PEM file, as in \
                 gate 9091 9090 cert.pem";
    let number = "give a whole number, 1 or more";
    let time = "give a number with its unit, as 500ms, 10s, 5m or 1h";
    for (options, words) in [
        ("--threads 0", format!("--threads cannot be \"0\": {number}")),
        ("--max-connections many", format!("--max-connections cannot be \"many\": {number}")),
        ("--max-handshakes -1", "there is no option -1".to_owned()),
        ("--max-handshakes=-1", format!("--max-handshakes cannot be \"-1\": {number}")),
        ("--bogus", "there is no option --bogus".to_owned()),
        ("-x", "there is no option -x".to_owned()),
        ("--drian 5s", "there is no option --drian; did you mean --drain?".to_owned()),
        ("--drain 5", format!("--drain cannot be \"5\": {time}")),
        ("--drain=", format!("--drain cannot be \"\": {time}")),
        ("--drain", "--drain needs a value after it".to_owned()),
        ("--log-format", "--log-format needs a value after it: text or json".to_owned()),
        ("--log-format xml", "--log-format cannot be \"xml\": give text or json".to_owned()),
        ("--proxy-protocol v3", "--proxy-protocol cannot be \"v3\": give off, v1 or v2".to_owned()),
        ("--check=yes", "--check takes no value, but was given \"yes\"".to_owned()),
        ("--threads 1 --threads 2", "--threads is given more than once; leave one".to_owned()),
        (
            "chain.pem",
            format!(
                "\"chain.pem\" is one argument too many: {usual}; several PEM files are one \
                 argument with commas, as key.pem,chain.pem"
            ),
        ),
    ] {
        let args: Vec<_> = ["0", "9090", &good].into_iter().chain(options.split(' ')).collect();
        fails(&args, 64, &[&format!("gate: {words} (see gate --help)\n")]);
    }
    fails(&["0", "9090", ""], 64, &["gate: PEM is empty; ", usual]);
    let missing = "gate: missing: PORT|ADDR:PORT|unix:PATH, PEM; ";
    fails(&["9091"], 64, &[&format!("{missing}{usual} (see gate --help)\n")]);
}

#[test]
fn options_come_from_the_environment_too() {
    let output = program().env("GATE_LISTEN", "0").env("GATE_DRAIN", "soon").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr.contains("GATE_DRAIN cannot be \"soon\": give a number"), "{stderr}");
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    for name in [
        "LISTEN",
        "BACKEND",
        "PEM",
        "HANDSHAKE_TIMEOUT",
        "PROXY_PROTOCOL",
        "BACKEND_RETRY",
        "DRAIN",
        "LOG",
        "LOG_FORMAT",
    ] {
        assert!(help.contains(&format!("[env: GATE_{name}=]")), "{name}: {help}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for flag in ["--help", "--version"] {
        let output = run(&[flag]);
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty());
        assert!(String::from_utf8(output.stdout).unwrap().contains("gate"));
    }
}

#[tokio::test]
async fn a_port_alone_is_every_address() {
    let pki = Pki::new();
    let together = pki.together();
    let mut gate = Gate::start_at("0", pki, &[("cert.pem", &together)], echo().await, &[]);
    gate.reached_at(Ipv4Addr::LOCALHOST);
    round_trip(&mut gate.client().await).await;
    // This part runs only if the machine has IPv6.
    if TcpListener::bind("[::1]:0").is_ok() {
        gate.reached_at(Ipv6Addr::LOCALHOST);
        round_trip(&mut gate.client().await).await;
    }
}

#[test]
fn addresses_that_cannot_be_had() {
    let (_dir, good) = with(Pki::new().together());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    fails(&[&address, "9090", &good], 69, &[&address, "another program", "choose"]);
    let everywhere = TcpListener::bind("[::]:0").unwrap();
    let port = everywhere.local_addr().unwrap().port().to_string();
    fails(&[&port, "9090", &good], 69, &[&port, "another program", "choose"]);
    // 192.0.2.1 is reserved for documentation, so no machine has it.
    fails(&["192.0.2.1:0", "9090", &good], 69, &["192.0.2.1", "no such address"]);
}

#[test]
fn files_that_cannot_be_read() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().to_str().unwrap();
    fails(&["0", "9090", path], 66, &[path, "directory"]);
    let missing = format!("{path}/missing.pem");
    fails(&["0", "9090", &missing], 66, &[&missing, "no such file", "cat leaf.crt"]);
    fs::write(format!("{path}/file"), "").unwrap();
    let beneath = format!("{path}/file/cert.pem");
    fails(&["0", "9090", &beneath], 66, &[&beneath, "no such file"]);
    let list = format!("{path}/key.pem,{path}/chain.pem");
    fails(&["0", "9090", &list], 66, &[&format!("{path}/key.pem:"), "no such file"]);
}

#[test]
fn what_is_not_permitted() {
    use std::os::unix::fs::PermissionsExt as _;

    let (dir, path) = with(Pki::new().together());
    let permit = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    let file = Path::new(&path);
    permit(file, 0o000).unwrap();
    for args in [vec!["0", "9090", &path], vec!["0", "9090", &path, "--check"]] {
        fails_of(program_of_a_user(), &args, 77, &[&path, "permission", "chmod g+r"]);
    }
    permit(file, 0o600).unwrap();
    permit(dir.path(), 0o000).unwrap();
    fails_of(program_of_a_user(), &["0", "9090", &path], 77, &[&path, "permission"]);
    permit(dir.path(), 0o700).unwrap();

    // In some containers, port 1 needs no privilege, so the start would succeed.
    let free = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    if free.trim() != "0" {
        let args = ["127.0.0.1:1", "9090", &path];
        fails_of(program_of_a_user(), &args, 77, &["127.0.0.1:1", "1024"]);
    }
}

#[test]
fn files_without_end() {
    assert!(Path::new("/dev/zero").exists());
    fails(&["0", "9090", "/dev/zero"], 65, &["/dev/zero", "larger"]);
}
