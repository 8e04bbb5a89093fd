//! Tests of the settings that must be equal on all servers of one stream.

use std::fs;
use std::process::Output;

use serde_json::{Value, json};
use testkit::{PATIENCE, soon};

use super::nats::Nats;
use super::{Common, broadcast, until_peers};
use crate::harness::{ALICE, EVERYTHING_OPEN, Server, program};
use crate::reload::Managed;

/// Starts a server that must refuse to start. Returns its exit code and its error.
async fn refused(options: Vec<String>) -> (Option<i32>, String) {
    let output = run([], options).await;
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(errors.lines().count(), 1, "one line of error: {errors}");
    (output.status.code(), errors)
}

async fn run<const N: usize>(command: [&str; N], options: Vec<String>) -> Output {
    let mut program = program();
    program.args(command).args(["--listen", "127.0.0.1:0", "--admin", "off", "--log", "off"]);
    program.args(EVERYTHING_OPEN).args(options);
    testkit::output(program).await
}

#[tokio::test]
async fn a_server_that_differs_does_not_start_and_names_the_difference() {
    let nats = Nats::start(1).await;
    let common = Common::of(&nats, 1);
    let _first = common.server();
    let other_key = Common::of(&nats, 1);
    let (code, errors) = refused(other_key.options(&[])).await;
    // The refused server has created its key file at the start, so every new server without a key
    // gets this error.
    let key = fs::read_to_string(other_key.dir.path().join("id.key")).unwrap();
    assert_eq!(code, Some(78), "{errors}");
    assert!(errors.contains("fingerprint") && errors.contains("--id-key-file"), "{errors}");
    assert!(!errors.contains(key.trim()));

    let config = common.dir.path().join("server.toml");
    let config = config.to_str().unwrap();
    for (text, named) in [
        ("[tags.shop]\nring = 7\n", ": shop: ring 7 here, 100 in the stream. "),
        (
            "ring-age = \"2h\"\n",
            ": any other tag: ring-age 2 hours here, 1 hour in the stream; \
             shop: ring-age 2 hours here, 1 hour in the stream. ",
        ),
        ("max-memory = \"64MiB\"\n", ": max-memory 64MiB here, 256MiB in the stream. "),
    ] {
        fs::write(config, text).unwrap();
        let (code, errors) = refused(common.options(&["--config", config])).await;
        assert_eq!(code, Some(78), "{errors}");
        // The error names only the setting that differs, in the words of the configuration.
        assert!(errors.contains(named), "{named}: {errors}");
    }
    let key = common.dir.path().join("key");
    let pair = format!("news:broadcast:{}", key.display());
    let (code, errors) = refused(common.options(&["--protect", &pair])).await;
    assert_eq!(code, Some(78), "{errors}");
    assert!(errors.contains("news:broadcast has a key here, not in the stream"), "{errors}");
}

#[tokio::test]
async fn settings_change_for_all_by_adopting_them() {
    let nats = Nats::start(1).await;
    let common = Common::of(&nats, 1);
    let first = common.server();
    assert_eq!(first.post(&broadcast(&json!(1))).await.0, 200);
    let config = common.dir.path().join("server.toml");
    let config = config.to_str().unwrap();
    // The new settings have a window that is longer than the stream keeps entries, too.
    fs::write(config, "[tags.shop]\nring = 7\ninbox-age = \"30d\"\n").unwrap();
    let options = common.options(&["--config", config]);
    assert_eq!(refused(options.clone()).await.0, Some(78));
    // Settings that would delete entries cannot be adopted.
    let smaller = options.iter().cloned().chain(["--nats-size".into(), "1MiB".into()]).collect();
    let output = run(["adopt-settings"], smaller).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{errors}");
    assert!(errors.contains("1 GiB") && errors.contains("--nats-size"), "{errors}");
    let output = run(["adopt-settings"], options).await;
    assert!(output.status.success(), "{output:?}");
    let second = common.server_with(&["--config", config]);
    until_peers(&second, 1).await;
    let (_, reply) = first.post(&broadcast(&json!(2))).await;
    assert_eq!(reply["seq"], 2);
    // A server with the former settings can no longer start.
    assert_eq!(first.stop().await.status.code(), Some(0));
    assert_eq!(refused(common.options(&[])).await.0, Some(78));

    // Another ID key is refused, because with it nobody could receive the messages that are already
    // stored for IDs.
    let other = Common::of(&nats, 1);
    fs::write(other.dir.path().join("id.key"), "ab".repeat(32)).unwrap();
    let output = run(["adopt-settings"], other.options(&[])).await;
    assert_eq!(output.status.code(), Some(78), "{output:?}");
}

/// A server with other settings would store other messages than the rest of the servers.
#[tokio::test]
async fn sighup_changes_nothing_that_all_must_have_in_common() {
    let nats = Nats::start(1).await;
    let common = Common::of(&nats, 1);
    let options = common.options(&[]);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let managed = Managed::start("", &options);
    let mut client = managed.server.connect().await;
    managed.reload("ring = 1\nsend-rate = \"1:1\"\n");
    for number in 0..10 {
        let reply = client.ask(&broadcast(&json!(number))).await;
        assert_eq!(reply["ok"], "broadcast", "the rate stays too");
    }
    let kept = client.ask(&json!({"action":"set","tag":"shop","last":100})).await;
    assert_eq!(kept["ok"], "set");
    for number in 0..10 {
        assert_eq!(client.message().await, number, "so does the ring");
    }
    assert_eq!(client.next().await["event"], "live");
    assert_eq!(client.ask(&json!({"action":"unset","tag":"shop"})).await["ok"], "unset");
    managed.reload("send-rate = \"1:1\"\n");
    let limited =
        async { while client.ask(&broadcast(&json!(1))).await["error"] != "rate_limited" {} };
    soon(limited).await;
    drop(client);
    let log = managed.server.stop().await.output;
    assert!(log.contains("adopt-settings") && log.contains("stays as it was"), "{log}");
}

#[tokio::test]
async fn a_stream_of_which_entries_could_be_missing_is_refused() {
    let nats = Nats::start(1).await;
    let common = Common::of(&nats, 1);
    common.server().stop().await;
    let context = async_nats::jetstream::new(nats.client().await);
    let good = context.get_stream("tocsin").await.unwrap().cached_info().config.clone();
    assert!(good.deny_delete && good.deny_purge && good.max_messages_per_subject < 1);
    let mut short = good.clone();
    short.max_age = std::time::Duration::from_secs(60);
    short.duplicate_window = short.max_age;
    let mut few = good.clone();
    few.max_messages = 10;
    let no_acks = async_nats::jetstream::stream::Config { no_ack: true, ..good.clone() };
    const NAMED: &str = "no limit but age and bytes";
    for (bad, named) in [(short, "1m"), (few, NAMED), (no_acks, NAMED)] {
        context.update_stream(bad).await.unwrap();
        let (code, errors) = refused(common.options(&[])).await;
        assert_eq!(code, Some(78), "{errors}");
        assert!(errors.contains(named), "{errors}");
    }
    context.update_stream(good).await.unwrap();
    common.server().stop().await;

    let foreign = async_nats::jetstream::stream::Config {
        name: "theirs".into(),
        subjects: vec!["theirs.>".into()],
        ..Default::default()
    };
    context.create_stream(foreign).await.unwrap();
    let (code, errors) = refused(common.options(&["--nats-stream", "theirs"])).await;
    assert_eq!(code, Some(78), "{errors}");
    assert!(errors.contains("--nats-stream"), "{errors}");
    // Three replicas are impossible on a single node.
    let (code, errors) = refused(Common::of(&nats, 3).options(&["--nats-stream", "another"])).await;
    assert_eq!(code, Some(78), "{errors}");
    assert!(errors.contains("--nats-replicas"), "{errors}");
}

/// Each error quotes NATS, and gives advice only where advice helps.
#[tokio::test]
async fn a_stream_that_cannot_be_made_is_explained() {
    let nats = Nats::start(3).await;
    let common = Common::of(&nats, 3);
    let context = async_nats::jetstream::new(nats.client().await);
    let foreign = async_nats::jetstream::stream::Config {
        name: "theirs".into(),
        subjects: vec!["tocsin.>".into()],
        ..Default::default()
    };
    context.create_stream(foreign).await.unwrap();
    let (code, errors) = refused(common.options(&[])).await;
    assert_eq!(code, Some(78), "{errors}");
    assert!(errors.contains("subjects overlap"), "{errors}");
    assert!(!errors.contains("--nats-replicas"), "more of them are not what is missing: {errors}");
    // The option asks for more replicas than there are nodes.
    let (code, errors) = refused(Common::of(&nats, 5).options(&["--nats-stream", "five"])).await;
    assert_eq!(code, Some(78), "{errors}");
    assert!(errors.contains("--nats-replicas 1 needs only one"), "{errors}");
}

/// One server creates the stream, and the others find it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_may_make_the_stream_at_the_same_time() {
    let nats = Nats::start(3).await;
    let common = Common::of(&nats, 3);
    fs::write(common.dir.path().join("id.key"), "ab".repeat(32)).unwrap();
    // The harness blocks until a server announces its addresses, so each start has a thread of its
    // own.
    let servers: Vec<Server> = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..4).map(|_| scope.spawn(|| common.server())).collect();
        starting.into_iter().map(|server| server.join().unwrap()).collect()
    });
    let mut epochs = std::collections::BTreeSet::new();
    for server in &servers {
        until_peers(server, 3).await;
        epochs.insert(server.status().await["epoch"].to_string());
    }
    assert_eq!(epochs.len(), 1, "{epochs:?}");
}

/// If NATS refused the largest message, senders would retry it without end.
#[tokio::test]
async fn nats_must_take_the_largest_message() {
    let nats = Nats::start_with(1, "max_payload: 66559").await;
    let common = Common::of(&nats, 1);
    let (code, errors) = refused(common.options(&[])).await;
    assert_eq!(code, Some(78), "{errors}");
    for words in ["at most 66559 bytes", "up to 66560", "max_payload"] {
        assert!(errors.contains(words), "{errors}");
    }
    let output = run(["check"], common.options(&[])).await;
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    drop(nats);

    let nats = Nats::start_with(1, "max_payload: 66560").await;
    let server = Common::of(&nats, 1).server();
    // The two quotes of the JSON string count as bytes of the message.
    let message = json!("x".repeat(64 * 1024 - 2));
    let mut action = super::send(ALICE, &message, &"\u{1F514}".repeat(128));
    action["ttl"] = json!(3_600);
    let (status, reply) = server.post(&action).await;
    assert_eq!(status, 200, "{reply}");
}

#[tokio::test]
async fn what_is_given_wrongly_is_said() {
    let nats = Nats::start(1).await;
    let common = Common::of(&nats, 1);
    let data = common.dir.path().join("data");
    for (options, named) in [
        (common.options(&["--data", data.to_str().unwrap()]), "--data or --nats"),
        (common.options(&["--nats-replicas", "0"]), "--nats-replicas"),
        (common.options(&["--nats-stream", "a b"]), "--nats-stream"),
        (vec!["--nats-size".into(), "1GiB".into()], "without --nats"),
        (vec!["--nats".into(), common.urls.clone()], "--id-key-file"),
        (vec!["--nats".into(), "nats://me:secret@127.0.0.1".into()], "--nats-credentials"),
        (vec!["--nats".into(), "http://127.0.0.1".into()], "nats://HOST:PORT"),
    ] {
        let output = run([], options).await;
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{errors}");
        assert!(errors.contains(named) && !errors.contains("secret"), "{named}: {errors}");
    }
}

#[tokio::test]
async fn the_way_in_is_a_file() {
    let settings = "authorization { user: tocsin, password: \"pass:word\" }";
    let nats = Nats::start_locked(settings).await;
    let common = Common::of(&nats, 1);
    let (code, errors) = refused(common.options(&[])).await;
    assert_eq!(code, Some(69), "{errors}");
    let file = common.dir.path().join("nats.login");
    fs::write(&file, "tocsin:pass:word\n").unwrap();
    let server = common.server_with(&["--nats-credentials", file.to_str().unwrap()]);
    let (_, _, mut listener) = server.come_back(ALICE, &Value::Null).await;
    assert_eq!(server.post(&broadcast(&json!("in"))).await.0, 200);
    assert_eq!(listener.message().await, "in");
    let log = server.stop().await.output;
    assert!(!log.contains("pass:word"), "{log}");
    fs::write(&file, "tocsin:wrong\n").unwrap();
    let options = common.options(&["--nats-credentials", file.to_str().unwrap()]);
    assert_eq!(refused(options).await.0, Some(69));
}

/// No ID or key is in the data that a server sends to NATS, nor in the logs of the server and of
/// NATS.
#[tokio::test]
async fn no_id_or_key_reaches_nats() {
    const PASSWORD: &str = "pass:word-0123456789";
    let login = format!("authorization {{ user: tocsin, password: \"{PASSWORD}\" }}");
    let nats = Nats::start_locked(&format!("debug: true\ntrace: true\n{login}")).await;
    let common = Common::of(&nats, 1);
    let file = common.dir.path().join("nats.login");
    fs::write(&file, format!("tocsin:{PASSWORD}\n")).unwrap();
    let options = ["--log", "trace", "--nats-credentials", file.to_str().unwrap()];
    let [server, other] = [common.server_with(&options), common.server_with(&options)];
    until_peers(&server, 1).await;
    let (_, _, mut alice) = server.come_back(ALICE, &Value::Null).await;
    let (_, _, mut elsewhere) = other.come_back(ALICE, &Value::Null).await;
    let mut seqs = Vec::new();
    let direct = super::send(ALICE, &json!("seen by NATS"), "mid");
    for action in [direct, broadcast(&json!("all"))] {
        let (status, reply) = server.post(&action).await;
        assert_eq!(status, 200, "{reply}");
        assert_eq!(alice.message().await, action["message"]);
        assert_eq!(elsewhere.message().await, action["message"]);
        seqs.push(reply["seq"].clone());
    }
    // The first read mark is stored as an entry. The second one is not, because nobody stores who
    // has read a broadcast.
    for seq in seqs {
        let read = json!({"action":"read","tag":"shop","only":[seq]});
        assert_eq!(alice.ask(&read).await["ok"], "read");
        let event = elsewhere.next().await;
        assert_eq!((&event["event"], &event["only"]), (&json!("read"), &json!([seq])));
    }
    let logout = json!({"action":"drop","tag":"shop","id":ALICE,"key":super::KEY});
    let (_, dropped) = server.post(&logout).await;
    assert_eq!((&dropped["ok"], &dropped["clients"]), (&json!("drop"), &json!(2)));
    assert_eq!(elsewhere.closed().await, Some(4004));
    let logs = [server.stop().await.output, other.stop().await.output];
    let said = nats.said();
    // The log of NATS contains the messages that the servers send to each other, so the check below
    // can find a leak.
    for words in ["seen by NATS", "PUB tocsin.entry.", "PUB tocsin.read.", "PUB tocsin.counts"] {
        assert!(said.contains(words), "{words}");
    }
    assert!(logs.iter().all(|log| log.contains(" TRACE ")), "all that there is to log");
    for secret in [ALICE, super::KEY, PASSWORD] {
        assert!(!said.contains(secret), "NATS");
        assert!(logs.iter().all(|log| !log.contains(secret)), "a server");
    }
}

/// `server check` only asks NATS whether a start would succeed, and changes nothing there.
#[tokio::test]
async fn check_asks_nats_and_changes_nothing() {
    let nats = Nats::start(1).await;
    let common = Common::of(&nats, 1);
    let check = async |options: Vec<String>| {
        let output = run(["check"], options).await;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, summary, errors) = check(common.options(&[])).await;
    assert_eq!(code, Some(0), "{errors}");
    assert!(summary.contains("none yet; the first start creates it: 1 replicas"), "{summary}");
    assert!(summary.contains("id.key does not exist"), "{summary}");
    assert!(!common.dir.path().join("id.key").exists());
    let context = async_nats::jetstream::new(nats.client().await);
    assert!(context.get_stream("tocsin").await.is_err(), "the check has made nothing");

    // The stream exists but the ID key does not. A start would create a key that fits no stored ID.
    let server = common.server();
    assert_eq!(server.post(&broadcast(&json!(1))).await.0, 200);
    let keyless = Common::of(&nats, 1);
    let (code, _, errors) = check(keyless.options(&[])).await;
    assert_eq!(code, Some(78), "{errors}");
    assert!(errors.contains("--id-key-file"), "{errors}");

    let before = context.get_stream("tocsin").await.unwrap().cached_info().config.clone();
    let options = common.options(&["--nats-size", "2GiB"]);
    let (code, summary, errors) = check(options).await;
    assert_eq!(code, Some(0), "{errors}");
    assert!(summary.contains("entries  1, "), "{summary}");
    for words in ["at most 1GiB of entries", "the 2GiB of --nats-size", "server adopt-settings"] {
        assert!(summary.contains(words), "{summary}");
    }
    let config = common.dir.path().join("server.toml");
    fs::write(&config, "ring = 7\n").unwrap();
    let (code, _, errors) = check(common.options(&["--config", config.to_str().unwrap()])).await;
    assert_eq!(code, Some(78), "{errors}");
    assert!(errors.contains("shop: ring 7 here, 100 in the stream"), "{errors}");
    let after = context.get_stream("tocsin").await.unwrap().cached_info().config.clone();
    assert_eq!(before, after);

    // The first address accepts connections and stays silent, and nothing listens at the second
    // one.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), gone] {
        let mut options = common.options(&[]);
        options[1] = format!("nats://{address}");
        let begun = std::time::Instant::now();
        let (code, _, errors) = check(options).await;
        assert_eq!(code, Some(69), "{errors}");
        assert!(errors.contains(&format!("NATS at nats://{address}: ")), "{errors}");
        assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    }
}

/// Each warning is explained, with advice on what can be done.
#[tokio::test]
async fn a_stream_of_another_size_is_explained() {
    let nats = Nats::start(1).await;
    let mut common = Common::of(&nats, 1);
    common.server().stop().await;
    common.replicas = "3".into();
    let other = common.server_with(&["--nats-size", "2GiB"]);
    let log = other.stop().await.output;
    for words in [
        "stream tocsin holds at most 1GiB of entries, and not the 2GiB",
        "stores each entry on 1 node of NATS (if that node is lost, acknowledged messages are lost too)",
        "`server adopt-settings`",
    ] {
        assert!(log.contains(words), "{words}: {log}");
    }
}
