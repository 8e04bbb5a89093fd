//! Options, environment and configuration file, and the errors that keep a server from starting.

use std::process::Output;

use serde_json::json;
use tempfile::TempDir;
use testkit::files::directory_with;

use crate::harness::{Server, program};

const KEY: &str = "config-key-0123456789abcdef";

fn start_wrongly(dir: &TempDir, args: &[&str]) -> Output {
    let path = dir.path().to_str().unwrap();
    let output =
        program().args(args.iter().map(|arg| arg.replace("{dir}", path))).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(errors.lines().count(), 1, "one line of error: {errors}");
    assert!(!errors.contains(KEY));
    output
}

#[tokio::test]
async fn a_file_declares_tags_and_keys() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("server.toml");
    std::fs::write(dir.path().join("key"), KEY).unwrap();
    let text = format!(
        "demo = true\norigin = [\"https://shop.example\"]\n\
         [tags.open]\n[tags.news.keys]\nbroadcast = [\"{KEY}\", \"sha256:{:064}\"]\n\
         [tags.shop.key-files]\nsend = \"{}\"\n",
        0,
        dir.path().join("key").display(),
    );
    std::fs::write(&path, text).unwrap();
    let server = Server::start_in(dir, &["--config", "{dir}/server.toml"]);
    let broadcast = |tag: &str| json!({"action":"broadcast","tag":tag,"message":1});
    assert_eq!(server.post(&broadcast("open")).await.0, 200);
    assert_eq!(server.post(&broadcast("shop")).await.0, 200);
    assert_eq!(server.post(&broadcast("news")).await.1["error"], "denied");
    assert_eq!(server.post(&broadcast("undeclared")).await.1["error"], "bad_tag");
    let mut client = server.connect().await;
    let reply = client.ask(&json!({"action":"set","tag":"undeclared"})).await;
    assert_eq!(reply["error"], "bad_tag");
    assert_eq!(server.get("/").await.status, 200);
    assert_eq!(
        server.status().await["protected"],
        json!([
            "news:broadcast",
            "notifications:send",
            "notifications:broadcast",
            "notifications:drop",
            "shop:send"
        ])
    );
}

#[test]
fn what_is_wrong_at_the_start_is_one_line_and_an_exit_code() {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("key", KEY);
    write("short", "short");
    write("empty", "\n");
    write("unknown.toml", "lisen = []\n");
    write("type.toml", &format!("demo = true\n[tags.a]\nkeys = \"{KEY}\"\n"));
    write("syntax.toml", &format!("[tags.a.keys]\nsend = \"{KEY}\n"));
    write("action.toml", &format!("[tags.a.keys]\nsing = \"{KEY}\"\n"));
    write("shortkey.toml", "[tags.a.keys]\nsend = \"short\"\n");
    for (args, code, word) in [
        (&["--listen", "nowhere"][..], 64, "ADDR:PORT"),
        (&["--ping-interval", "soon"], 64, "25s"),
        (&["--ping-interval", "1ms"], 64, "at least"),
        (&["--origin", "shop.example"], 64, "https://"),
        (&["--protect", "a:send"], 64, "TAG:ACTION:KEYFILE"),
        (&["--protect", "a:sing:{dir}/key"], 64, "cannot be protected"),
        (&["--protect", "a:send:{dir}/nothing"], 66, "nothing"),
        (&["--protect", "a:send:{dir}/short"], 65, "new-key"),
        (&["--protect", "a:send:{dir}/empty"], 65, "empty"),
        (&["--config", "{dir}/nothing.toml"], 66, "nothing.toml"),
        (&["--config", "{dir}/unknown.toml"], 78, "line 1"),
        (&["--config", "{dir}/type.toml"], 78, "line 3"),
        (&["--config", "{dir}/syntax.toml"], 78, "line 2"),
        (&["--config", "{dir}/action.toml"], 78, "cannot be protected"),
        (&["--config", "{dir}/shortkey.toml"], 78, "new-key"),
        (&["--log", "a=b=c"], 64, "--log"),
        (&["--log", "blub"], 64, "trace"),
    ] {
        let output = start_wrongly(&dir, args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {errors}");
        assert!(errors.contains(word), "{args:?}: {errors}");
    }
}

#[test]
fn check_names_every_fault_with_its_line() {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("key", KEY);
    write(
        "bad.toml",
        &format!(
            "listen = [\"nowhere\", 9090]\n\
             lisen = 1\n\
             demo = \"yes\"\n\
             ping-interval = \"soon\"\n\
             origin = \"shop.example\"\n\
             [tags.\"a b\"]\n\
             [tags.shop.keys]\n\
             send = \"short\"\n\
             sing = \"{KEY}\"\n\
             [tags.shop.key-files]\n\
             broadcast = \"nothing\"\n"
        ),
    );
    let check = |name: &str| {
        let output =
            program().args(["check", "--config"]).arg(dir.path().join(name)).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, _, errors) = check("bad.toml");
    assert_eq!(code, Some(78), "{errors}");
    assert!(!errors.contains(KEY));
    for (line, word) in [
        (1, "ADDR:PORT"),
        (2, "`lisen` is no option"),
        (3, "true or false"),
        (4, "25s"),
        (5, "https://"),
        (6, "a tag is"),
        (8, "new-key"),
        (9, "cannot be protected"),
    ] {
        let found =
            errors.lines().find(|error| error.contains(&format!("bad.toml, line {line}: ")));
        assert!(found.is_some_and(|error| error.contains(word)), "line {line}: {errors}");
    }
    assert!(errors.contains("nothing: "), "{errors}");
    assert_eq!(errors.lines().count(), 9);
    // Errors come in the order of the file's lines, and those of other files come last.
    let lines: Vec<&str> =
        errors.lines().filter_map(|error| error.split("line ").nth(1)?.split(':').next()).collect();
    assert_eq!(lines, ["1", "2", "3", "4", "5", "6", "8", "9"], "{errors}");

    // Relative paths are relative to the directory of the configuration file.
    write("good.toml", "listen = 7000\n[tags.b]\n[tags.a.key-files]\nsend = \"key\"\n");
    let (code, summary, errors) = check("good.toml");
    assert_eq!((code, &*errors), (Some(0), ""));
    for words in ["127.0.0.1:7000 [::1]:7000", "tags       a b", "protected  a:send", "is good"] {
        assert!(summary.contains(words), "{summary}");
    }
}

#[test]
fn a_fault_names_its_option_and_is_told_once() {
    let dir = TempDir::new().unwrap();
    let text = "threads = 0\nping-interval = soon\nmax-memory = \"lots\"\nlog = 1\nlog = 2\n\
                [tags.a]\ninbox = \"many\"\n[tags.b]\nring-age = \"long\"\nrimg = 5\n";
    std::fs::write(dir.path().join("bad.toml"), text).unwrap();
    let output =
        program().args(["check", "--config"]).arg(dir.path().join("bad.toml")).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    let told: Vec<&str> =
        errors.lines().filter_map(|error| Some(error.split_once("bad.toml, ")?.1)).collect();
    let [threads, ping, memory, log, inbox, age, unknown] = told[..] else { panic!("{errors}") };
    for (told, words) in [
        (threads, "line 1: threads: 0: must be at least 1"),
        (ping, "line 2: ping-interval: string values must be quoted"),
        (memory, "line 3: max-memory: lots: write a size"),
        (log, "line 5: log: duplicate key"),
        (inbox, "line 7: inbox: many: write a whole number"),
        (age, "line 9: ring-age: long: write a time"),
        (unknown, "line 10: `rimg` is no option of a tag"),
    ] {
        assert!(told.starts_with(words), "{told:?}: {words}");
    }
}

#[test]
fn taken_ports() {
    let dir = TempDir::new().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = start_wrongly(&dir, &["--listen", &address, "--admin", "off"]);
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&address));
    let output = start_wrongly(&dir, &["--listen", "127.0.0.1:0", "--admin", &address]);
    assert_eq!(output.status.code(), Some(69));
}

/// The error says that two options of this server name the same port, instead of blaming another
/// program. `server check` reports it too.
#[test]
fn one_port_for_two_options() {
    let dir = TempDir::new().unwrap();
    let socket = format!("unix:{}", dir.path().join("s").display());
    for (args, words) in [
        (&["--listen", "7001", "--admin", "7001"][..], "--admin: 127.0.0.1:7001 is where --listen"),
        (&["--listen", "7001", "--listen-proxy", "7001"], "--listen-proxy: 127.0.0.1:7001 is"),
        (&["--listen", "0.0.0.0:7001", "--admin", "127.0.0.1:7001"], "--admin: 127.0.0.1:7001"),
        (&["--admin", "9090"], "--admin: 127.0.0.1:9090 is where --listen"),
        (&["--listen", "7001", "--listen", "[::1]:7001"], "--listen: [::1]:7001 is named twice"),
        (&["--listen", &socket, "--listen", &socket], "is named twice"),
    ] {
        for check in [&[][..], &["check"]] {
            let output = start_wrongly(&dir, &[check, args].concat());
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(64), "{args:?}: {errors}");
            assert!(errors.contains(words), "{args:?}: {errors}");
        }
    }
    // Port 0 stands for another free port each time.
    let free = ["check", "--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--admin", "0"];
    assert_eq!(program().args(free).output().unwrap().status.code(), Some(0));
}

#[test]
fn a_data_directory_that_cannot_be_made() {
    let dir = directory_with("file", "");
    for (data, words) in [
        ("/proc/tocsin", "data directory /proc/tocsin: cannot be made in /proc: "),
        ("/proc/a/b", "data directory /proc/a/b: cannot be made in /proc: "),
        ("/proc", "data directory /proc: no file can be made in it: "),
        ("{dir}/file", "file is not a directory; name another"),
        ("{dir}/file/data", "file is not a directory; name another"),
    ] {
        let listen = ["--listen", "127.0.0.1:0", "--admin", "off", "--log", "off"];
        for command in [&[][..], &["check"]] {
            let output = start_wrongly(&dir, &[command, &listen, &["--data", data]].concat());
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(71), "{command:?} {data}: {errors}");
            if data != "/proc" || !command.is_empty() {
                assert!(errors.contains(words), "{command:?} {data}: {errors}");
            }
        }
    }
    // The checks leave no file behind.
    let good = dir.path().join("good/data");
    let output = program().args(["check", "--data"]).arg(&good).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn options_come_from_the_environment_too() {
    let dir = TempDir::new().unwrap();
    let output = program()
        .env("TOCSIN_PING_INTERVAL", "soon")
        .args(["--listen", "127.0.0.1:0"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    // These variables do not keep the other commands from running.
    let output =
        program().env("TOCSIN_DEMO", "true").env("TOCSIN_LISTEN", "1").arg("new-id").output();
    assert_eq!(output.unwrap().status.code(), Some(0));
    drop(dir);
}

#[test]
fn help_is_no_failure() {
    for args in [&["--help"][..], &["--version"], &["send", "--help"]] {
        let output = program().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(!output.stdout.is_empty());
    }
    assert_eq!(program().arg("--nonsense").output().unwrap().status.code(), Some(64));
}
