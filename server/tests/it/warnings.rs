//! Tests the warnings about settings that are valid but probably a mistake. `server check` and the
//! start report them.

use tempfile::TempDir;

use crate::harness::{Server, program};

const KEY: &str = "warnings-key-0123456789abcdef";

/// Returns the warnings of `server check`, which are also those of a start.
fn warnings(dir: &TempDir, variables: &[(&str, &str)], args: &[&str]) -> Vec<String> {
    let path = dir.path().to_str().unwrap();
    let output = program()
        .envs(variables.iter().copied())
        .arg("check")
        .args(args.iter().map(|arg| arg.replace("{dir}", path)))
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(output.stderr));
    let summary = text(output.stdout);
    summary.lines().filter_map(|line| Some(line.strip_prefix("warning    ")?.to_owned())).collect()
}

#[tokio::test]
async fn what_has_no_effect_is_warned_of() {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
    let keys =
        format!("keys = {{ send = \"sha256:{:064}\", broadcast = \"sha256:{:064}\" }}\n", 0, 0);
    write(
        "none.toml",
        format!("inbox = 0\ninbox-age = \"1d\"\n[tags.a]\n{keys}ring = 0\nring-bytes = 1000\n"),
    );
    write("some.toml", format!("ring = 0\nring-age = \"2h\"\n[tags.a]\n{keys}ring = 5\n"));
    write("inbox.toml", "open = \"*:send\"\ninbox = 9\n".into());
    write("send.key", KEY.into());
    for (args, expected) in [
        (&["--data-size", "1GiB"][..], &["--data-size: has no effect without --data"][..]),
        (&["--trust-proxy", "10.0.0.1"], &["--trust-proxy has no effect without --listen-proxy"]),
        (&["--connect-rate", "9:9"], &["--connect-rate has no effect without --listen-proxy"]),
        (&["--connect-rate", "9:9", "--listen", "unix:/run/s"], &[]),
        (&["--listen", "9092"], &["there is no admin port: clients connect to 127.0.0.1:9092"]),
        (&["--listen", "9092", "--admin", "off"], &[]),
        (&["--trust-proxy", "10.0.0.1", "--listen-proxy", "7002"], &[]),
        (
            &["--config", "{dir}/none.toml"],
            &[
                "line 2: inbox-age: has no effect: the count",
                "line 6: ring-bytes: has no effect: the count",
            ],
        ),
        (&["--config", "{dir}/some.toml"], &[]),
        (&["--config", "{dir}/inbox.toml"], &["line 2: inbox: has no effect: a tag has"]),
        (
            &["--config", "{dir}/some.toml", "--protect", "b:send:{dir}/send.key"],
            &["the rule for send on b has no effect"],
        ),
    ] {
        let mut found = warnings(&dir, &[], args);
        found.retain(|warning| !warning.contains("o-rwx"));
        assert_eq!(found.len(), expected.len(), "{args:?}: {found:?}");
        for (found, words) in found.iter().zip(expected) {
            assert!(found.contains(words), "{words}: {found}");
        }
    }
    // A start logs the same warnings. It also names environment variables that no option reads.
    let variables = [("TOCSIN_PING_INTERVALL", "9123ms".into()), ("TOCSIN_KEY", KEY.into())];
    let server = Server::start_with(&variables, &["--data-size", "1GiB", "--connect-rate", "9:9"]);
    let log = server.stop().await.output;
    for words in [
        "TOCSIN_PING_INTERVALL in the environment is no option: did you mean TOCSIN_PING_INTERVAL?",
        "--data-size: has no effect without --data",
        "--connect-rate has no effect",
    ] {
        assert_eq!(log.matches(words).count(), 1, "{words}: {log}");
    }
    assert!(!log.contains("TOCSIN_KEY") && !log.contains("9123ms"), "{log}");
}

/// A declared tag for which no key permits an action is closed to everybody.
#[test]
fn actions_that_nobody_can_perform_are_told_in_one_line() {
    let dir = TempDir::new().unwrap();
    let hash = format!("\"sha256:{:064}\"", 0);
    let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
    write(
        "some.toml",
        format!(
            "[tags.a]\nopen = [\"send\"]\n[tags.b.keys]\nsend = {hash}\n\
             [tags.c.keys]\nsend = {hash}\nbroadcast = {hash}\n"
        ),
    );
    let many: String = (1..=8).map(|n| format!("[tags.t{n}]\n")).collect();
    write("many.toml", format!("{many}[tags.t1.keys]\nsend = {hash}\n"));
    write("made.toml", many);
    write("key", format!("sha256:{:064}", 0));
    for (args, words) in [
        (&["--config", "{dir}/some.toml"][..], Some("use broadcast on a, broadcast on b: no key")),
        (
            &["--config", "{dir}/many.toml"],
            Some(
                "broadcast on t1, send on t2, broadcast on t2, send on t3, broadcast on t3, 10 more",
            ),
        ),
        // The server makes a key, or is given one for all tags.
        (&["--config", "{dir}/made.toml"], None),
        (&["--config", "{dir}/some.toml", "--protect", "*:broadcast:{dir}/key"], None),
        (&["--config", "{dir}/some.toml", "--open", "*:broadcast"], None),
    ] {
        let found = warnings(&dir, &[], args);
        let found: Vec<&String> =
            found.iter().filter(|warning| warning.starts_with("nobody can use")).collect();
        assert_eq!(found.len(), usize::from(words.is_some()), "{args:?}: {found:?}");
        assert!(words.is_none_or(|words| found[0].contains(words)), "{args:?}: {found:?}");
    }
}
