use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;

fn pem(name: &str) -> String {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
    certificate.pem() + &key.serialize_pem()
}

/// A watch on a file that was written some minutes ago, so that its metadata can be relied on.
fn settled(dir: &TempDir) -> (Watch, std::path::PathBuf) {
    let path = dir.path().join("cert.pem");
    fs::write(&path, pem("first")).unwrap();
    let (mut watch, _) = Watch::open(Source::new(&path)).unwrap();
    watch.settled = true;
    (watch, path)
}

fn name(found: Option<Result<Identity, Error>>) -> Option<String> {
    found.map(|found| found.unwrap().names().join(" "))
}

fn fault(found: Option<Result<Identity, Error>>) -> Option<String> {
    found.map(|found| found.unwrap_err().to_string())
}

#[test]
fn what_has_not_changed_is_not_told() {
    let dir = TempDir::new().unwrap();
    let (mut watch, path) = settled(&dir);
    assert_eq!(name(watch.look(false)), None);
    // Touched: other metadata, the same content.
    fs::write(&path, fs::read(&path).unwrap()).unwrap();
    assert_eq!(name(watch.look(false)), None);
    // Asked for.
    assert_eq!(name(watch.look(true)), Some("first".to_owned()));
}

#[test]
fn content_is_read_only_where_metadata_changed() {
    let dir = TempDir::new().unwrap();
    let (mut watch, _) = settled(&dir);
    // Were it read, it would count as changed.
    watch.found = Found::Content(0);
    assert_eq!(name(watch.look(false)), None);
    watch.traces.clear();
    assert_eq!(name(watch.look(false)), Some("first".to_owned()));
}

/// Metadata of the same tick and the same length: only the content tells.
#[test]
fn a_second_write_in_the_same_moment_is_seen() {
    let dir = TempDir::new().unwrap();
    let (mut watch, path) = settled(&dir);
    fs::write(&path, pem("other")).unwrap();
    watch.traces = watch.source.traces();
    watch.settled = is_settled(&watch.traces);
    assert_eq!(name(watch.look(false)), Some("other".to_owned()));
}

#[test]
fn each_fault_is_told_once_and_so_is_its_end() {
    let dir = TempDir::new().unwrap();
    let (mut watch, path) = settled(&dir);
    let good = fs::read(&path).unwrap();

    fs::remove_file(&path).unwrap();
    assert!(fault(watch.look(false)).unwrap().contains("no such file"));
    assert_eq!(fault(watch.look(false)), None);

    fs::write(&path, &good[..good.len() / 2]).unwrap();
    assert!(fault(watch.look(false)).unwrap().contains("END line"));
    assert_eq!(fault(watch.look(false)), None);

    // Another file with the same fault is another change.
    fs::write(&path, &good[..good.len() / 2 - 1]).unwrap();
    assert!(fault(watch.look(false)).unwrap().contains("END line"));
    assert_eq!(fault(watch.look(false)), None);

    fs::write(&path, &good).unwrap();
    assert_eq!(name(watch.look(false)), Some("first".to_owned()));
    assert_eq!(name(watch.look(false)), None);
}

/// Opening it would wait for a writer.
#[test]
fn a_pipe_in_the_place_of_the_file_is_not_opened() {
    let dir = TempDir::new().unwrap();
    let (mut watch, path) = settled(&dir);
    fs::remove_file(&path).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    assert!(fault(watch.look(false)).unwrap().contains("a pipe or a device"));
    assert_eq!(fault(watch.look(true)).map(|_| ()), Some(()));
}

#[test]
fn what_cannot_be_read_twice_is_left_alone() {
    let dir = TempDir::new().unwrap();
    let (mut watch, _) = settled(&dir);
    watch.once = true;
    watch.traces.clear();
    assert_eq!(name(watch.look(true)), None);
    assert!(is_unrepeatable(&Source::new(Path::new("/dev/null")).traces()));
}

/// As certbot leaves it (`live/…/cert.pem`), and as Kubernetes does (`..data`).
#[test]
fn links_are_followed_each_time() {
    let dir = TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (number, directory) in ["archive1", "archive2"].iter().enumerate() {
        fs::create_dir(at(directory)).unwrap();
        fs::write(at(directory).join("cert.pem"), pem(&format!("number{number}"))).unwrap();
    }
    let turn = |link: &str, target: &str| {
        symlink(target, at("new")).unwrap();
        fs::rename(at("new"), at(link)).unwrap();
    };
    turn("live", "archive1");
    turn("cert.pem", "archive1/cert.pem");
    for (link, path) in [("live", "live/cert.pem"), ("cert.pem", "cert.pem")] {
        let (mut watch, identity) = Watch::open(Source::new(&at(path))).unwrap();
        watch.settled = true;
        assert_eq!(identity.names(), ["number0"]);
        assert_eq!(name(watch.look(false)), None);
        turn(link, if link == "live" { "archive2" } else { "archive2/cert.pem" });
        assert_eq!(name(watch.look(false)), Some("number1".to_owned()), "{link}");
    }
}

#[test]
fn reminders_come_once_a_day() {
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let hours = |hours: u64| start + Duration::from_secs(hours * 60 * 60);
    let mut reminder = Reminder::new(start);
    let due: Vec<u64> = (0..60).filter(|hour| reminder.is_due(hours(*hour))).collect();
    assert_eq!(due, [24, 48]);
    assert!(!reminder.is_due(hours(2)));
}
