//! The gate serves a renewed certificate without a restart, however its file was replaced. A faulty
//! certificate is not served.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::process::Signal;
use rustls::version::TLS13;
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;
use testkit::files::make_fifo;

use crate::harness::{Gate, NEVER, Pki, echo, program_of_a_user, round_trip, write_secret};

/// The log line after a successful renewal.
pub(crate) const RENEWED: &str = "serving the certificate as it is now";
/// The log line after a failed renewal.
const KEPT: &str = "still serving the certificate from before";

const OFTEN: [&str; 2] = ["--reload-interval", "10ms"];

async fn leaf(gate: &Gate) -> CertificateDer<'static> {
    let client = gate.client_of(gate.pki.client(&TLS13)).await;
    client.get_ref().1.peer_certificates().unwrap()[0].clone()
}

/// Writes a temporary file and renames it to `path`.
pub(crate) fn replace(path: &Path, content: &str) {
    let aside = path.with_extension("new");
    write_secret(&aside, content);
    fs::rename(aside, path).unwrap();
}

/// Exchanges a file for an empty directory in one step, so that `path` always exists.
fn exchange(path: &Path, directory: &Path) {
    fs::create_dir(directory).unwrap();
    renameat_with(CWD, path, CWD, directory, RenameFlags::EXCHANGE).unwrap();
}

fn turn(link: &Path, target: &str) {
    let aside = link.with_extension("link");
    symlink(target, &aside).unwrap();
    fs::rename(aside, link).unwrap();
}

/// Starts a gate on `pem` in `dir` and replaces its certificate twice with `replace`. A connection
/// that was opened before must stay open throughout.
async fn renews(dir: &TempDir, pem: &str, replace: impl Fn(usize, &str)) {
    let pki = Pki::new();
    replace(0, &pki.together());
    let path = dir.path().join(pem);
    let mut gate = Gate::start_from(pki, path.to_str().unwrap(), echo().await, &OFTEN);
    let mut before = gate.client().await;
    assert_eq!(leaf(&gate).await, gate.pki.leaf());
    for number in 1..3 {
        gate.pki.renew();
        replace(number, &gate.pki.together());
        let line = gate.log_line(RENEWED);
        assert!(line.contains("INFO") && line.contains("localhost"), "{line}");
        assert!(line.contains("4096-01-01"), "{line}");
        assert_eq!(leaf(&gate).await, gate.pki.leaf());
        round_trip(&mut before).await;
    }
}

#[tokio::test]
async fn a_file_written_in_place() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("cert.pem");
    // The file is written with one call. With several, the gate could check the file between two of
    // them and report it as incomplete.
    renews(&dir, "cert.pem", |_, content| {
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(&path).unwrap();
        let mut content = content.to_owned();
        // All contents have the same length, so that no bytes of the old file remain after the new
        // ones.
        content.push_str(&"\n".repeat(4_000 - content.len()));
        std::os::unix::fs::FileExt::write_all_at(&file, content.as_bytes(), 0).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_file_renamed_over_the_old_one() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("cert.pem");
    renews(&dir, "cert.pem", |_, content| replace(&path, content)).await;
}

/// certbot: `live/shop/cert.pem` links to `../../archive/shop/cert1.pem`, later to `cert2.pem`.
#[tokio::test]
async fn a_link_turned_to_another_file() {
    let dir = TempDir::new().unwrap();
    for part in ["live/shop", "archive/shop"] {
        fs::create_dir_all(dir.path().join(part)).unwrap();
    }
    renews(&dir, "live/shop/cert.pem", |number, content| {
        write_secret(&dir.path().join(format!("archive/shop/cert{number}.pem")), content);
        let target = format!("../../archive/shop/cert{number}.pem");
        turn(&dir.path().join("live/shop/cert.pem"), &target);
    })
    .await;
}

/// Kubernetes, and many deployment tools: the link is a directory above the file.
#[tokio::test]
async fn a_directory_turned_to_another_one() {
    let dir = TempDir::new().unwrap();
    renews(&dir, "current/cert.pem", |number, content| {
        let release = dir.path().join(format!("release{number}"));
        fs::create_dir(&release).unwrap();
        write_secret(&release.join("cert.pem"), content);
        turn(&dir.path().join("current"), &format!("release{number}"));
    })
    .await;
}

#[tokio::test]
async fn sighup_looks_at_once_and_always_answers() {
    let mut gate = Gate::start(echo().await, &["--reload-interval", NEVER]);
    let mut before = gate.client().await;
    gate.pki.renew();
    replace(&gate.pem, &gate.pki.together());
    gate.signal(Signal::HUP);
    gate.log_line(RENEWED);
    assert_eq!(leaf(&gate).await, gate.pki.leaf());
    round_trip(&mut before).await;
    // The files have not changed, but a SIGHUP still reads them and logs the result.
    gate.signal(Signal::HUP);
    gate.log_line(RENEWED);
    fs::remove_file(&gate.pem).unwrap();
    for _ in 0..2 {
        gate.signal(Signal::HUP);
        let line = gate.log_line(KEPT);
        assert!(line.contains("WARN") && line.contains("no such file"), "{line}");
    }
    assert_eq!(leaf(&gate).await, gate.pki.leaf());
}

/// Replacing one of the two files is enough.
#[tokio::test]
async fn the_second_of_two_files() {
    let pki = Pki::new();
    let chain = [pki.leaf_pem.as_str(), &pki.intermediate_pem].concat();
    let files = [("key.pem", pki.key.serialize_pem()), ("chain.pem", chain)];
    let files = files.each_ref().map(|(name, content)| (*name, content.as_str()));
    let gate = Gate::start_with(pki, &files, echo().await, &OFTEN);
    let both = gate.pem.to_str().unwrap();
    let chain = Path::new(both.split(',').nth(1).unwrap());
    // The new certificate has the same key.
    let leaf_pem = gate.pki.sign(rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap());
    replace(chain, &(leaf_pem + &gate.pki.intermediate_pem));
    gate.log_line(RENEWED);
    assert_ne!(leaf(&gate).await, gate.pki.leaf());
}

/// The object that replaces the PEM file.
enum Bad<'a> {
    Content(&'a str),
    /// A file with this content that no user may read.
    Forbidden(&'a str),
    Directory,
    Nothing,
}

/// Each fault (cut off, wrong key, empty, unreadable, a directory, missing) is logged once, and the
/// old certificate stays in use.
#[tokio::test]
async fn what_cannot_be_served_is_told_once_and_not_served() {
    let dir = TempDir::new().unwrap();
    let pki = Pki::new();
    let path = dir.path().join("cert.pem");
    write_secret(&path, pki.together());
    let mut command = program_of_a_user();
    command.args(["127.0.0.1:0", &echo().await.to_string()]).arg(&path).args(OFTEN);
    let mut gate = Gate::launch(command, pki);
    let served = gate.pki.leaf();
    let good = gate.pki.together();
    let mismatched =
        [Pki::new().leaf_pem.as_str(), &gate.pki.intermediate_pem, &gate.pki.key.serialize_pem()]
            .concat();
    for (bad, words) in [
        (Bad::Content(&good[..good.len() - 100]), "no END line"),
        (Bad::Content(&mismatched), "does not belong"),
        (Bad::Content(""), "no PEM block"),
        (Bad::Forbidden(&good), "permission is missing"),
        (Bad::Directory, "it is a directory"),
        (Bad::Nothing, "no such file"),
    ] {
        match bad {
            Bad::Content(content) => replace(&path, content),
            Bad::Forbidden(content) => {
                let aside = path.with_extension("new");
                write_secret(&aside, content);
                fs::set_permissions(&aside, fs::Permissions::from_mode(0o000)).unwrap();
                fs::rename(aside, &path).unwrap();
            }
            Bad::Directory => exchange(&path, &dir.path().join("directory")),
            Bad::Nothing => fs::remove_dir(&path).unwrap(),
        }
        let line = gate.log_line("WARN");
        assert!(line.contains(words) && line.contains(KEPT), "{line}");
        assert!(line.contains(path.to_str().unwrap()), "{line}");
        assert_eq!(leaf(&gate).await, served);
    }
    gate.pki.renew();
    replace(&path, &gate.pki.together());
    // If a fault were logged twice, the second line would come before the line `RENEWED`.
    let mut line = gate.log_line("");
    while !line.contains(RENEWED) {
        assert!(!line.contains("WARN"), "{line}");
        line = gate.log_line("");
    }
    assert_eq!(leaf(&gate).await, gate.pki.leaf());
}

/// A renewed file gets the same checks as the first one.
#[tokio::test]
async fn warnings_come_with_a_renewed_certificate_too() {
    let mut gate = Gate::start(echo().await, &OFTEN);
    gate.pki.renew();
    let aside = gate.pem.with_extension("new");
    write_secret(&aside, [gate.pki.leaf_pem.as_str(), &gate.pki.key.serialize_pem()].concat());
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o644)).unwrap();
    fs::rename(&aside, &gate.pem).unwrap();
    gate.log_line(RENEWED);
    let mut warnings = [gate.log_line("WARN"), gate.log_line("WARN")];
    warnings.sort_by_key(|line| line.contains("chmod"));
    assert!(warnings[0].contains("intermediate certificate is missing"), "{warnings:?}");
    assert!(warnings[1].contains("chmod o-rwx"), "{warnings:?}");
}

/// `gate 9091 9090 <(cat leaf.crt main.key)` works. The pipe is not read again.
#[tokio::test]
async fn a_pipe_is_read_once() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("pipe");
    make_fifo(&path);
    let pki = Pki::new();
    let (content, writer) = (pki.together(), path.clone());
    let writing = tokio::task::spawn_blocking(move || fs::write(writer, content).unwrap());
    let backend = echo().await;
    let starting = tokio::task::spawn_blocking(move || {
        Gate::start_from(pki, path.to_str().unwrap(), backend, &OFTEN)
    });
    let gate = starting.await.unwrap();
    writing.await.unwrap();
    gate.log_line("cannot be read twice");
    round_trip(&mut gate.client().await).await;
}
