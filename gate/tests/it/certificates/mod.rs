//! PEM files as they occur in practice: in any order, with any key format, in one file or several,
//! complete or incomplete. Each one is a recipe in `tests/fixtures/pem`, whose README explains the
//! format.

mod ingredients;
mod recipe;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use gate::Identity;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tempfile::TempDir;

use crate::harness::{Gate, VERSIONS, echo, program, round_trip, write_secret};
use ingredients::Pantry;
use recipe::{Expected, Recipe};

/// Reads every recipe. Panics if there are none, because the tests would then test nothing.
fn recipes() -> Vec<(String, Recipe)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pem");
    let mut found: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "case"))
        .collect();
    found.sort();
    assert!(found.len() >= 40, "{} has {} cases only", folder.display(), found.len());
    found
        .into_iter()
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let recipe = Recipe::parse(&fs::read_to_string(&path).unwrap())
                .unwrap_or_else(|fault| panic!("{}: {fault}", path.display()));
            (name, recipe)
        })
        .collect()
}

/// The files of one case, and the command line argument that names them.
struct Served {
    dir: TempDir,
    argument: String,
}

impl Served {
    fn cook(pantry: &Pantry, recipe: &Recipe, files: &[(String, Vec<String>)]) -> Self {
        let dir = TempDir::new().unwrap();
        let mut paths = Vec::new();
        for (name, parts) in files {
            let path = dir.path().join(name);
            let content: Vec<u8> = parts.iter().flat_map(|part| pantry.take(part)).collect();
            write_secret(&path, content);
            fs::set_permissions(&path, fs::Permissions::from_mode(recipe.mode)).unwrap();
            paths.push(path.to_str().unwrap().to_owned());
        }
        Self { argument: paths.join(","), dir }
    }

    fn check(&self) -> Output {
        program().args(["127.0.0.1:0", "9090", &self.argument, "--check"]).output().unwrap()
    }

    /// Asserts that `--check` shows the chain and exactly the warnings that `recipe` names.
    fn is_good(&self, case: &str, pantry: &Pantry, recipe: &Recipe, chain: &[String]) {
        let output = self.check();
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{case}: {errors}");
        assert!(errors.is_empty(), "{case}: {errors}");
        let about = |what: &str| text.lines().filter(|line| line.starts_with(what)).count();
        assert_eq!(about("chain "), chain.len(), "{case}: {text}");
        assert_eq!(about("warning "), recipe.warnings, "{case}: {text}");
        for words in &recipe.says {
            assert!(text.contains(words), "{case}: {words:?} is not in {text}");
        }

        let expected: Vec<_> = chain
            .iter()
            .map(|name| CertificateDer::from_pem_slice(&pantry.take(name)).unwrap())
            .collect();
        let identity = Identity::load(Path::new(&self.argument)).unwrap();
        assert!(identity.certified().cert == expected, "{case}: another chain: {text}");
    }

    /// Asserts that the output is one line with the reason, and the exit code. A start and
    /// `--check` must agree.
    fn is_refused(&self, case: &str, recipe: &Recipe, code: i32) {
        let checked = self.check();
        let started = program().args(["127.0.0.1:0", "9090", &self.argument]).output().unwrap();
        assert_eq!(checked, started, "{case}");
        let text = String::from_utf8(started.stderr).unwrap();
        assert_eq!(started.status.code(), Some(code), "{case}: {text}");
        assert_eq!(text.lines().count(), 1, "{case}: {text}");
        assert!(started.stdout.is_empty(), "{case}");
        assert!(text.contains(self.dir.path().to_str().unwrap()), "{case}: no file in {text}");
        for words in &recipe.says {
            assert!(text.contains(words), "{case}: {words:?} is not in {text}");
        }
    }
}

/// Checks chain, warnings and faults of every case, in every order that the case allows.
#[test]
fn every_case_is_judged_as_it_says() {
    for (case, recipe) in recipes() {
        let pantry = Pantry::of(&recipe.key);
        let orders = recipe.orders();
        assert!(!orders.is_empty(), "{case} has no files");
        for files in orders {
            let served = Served::cook(&pantry, &recipe, &files);
            let case = format!("{case} {files:?}");
            match &recipe.expected {
                Expected::Chain(chain) => served.is_good(&case, &pantry, &recipe, chain),
                Expected::Exit(code) => served.is_refused(&case, &recipe, *code),
            }
        }
    }
}

/// A case without a warning also works for a client that knows only the root: the gate sends leaf
/// and intermediates, and has the leaf's key.
#[tokio::test]
async fn what_needs_no_warning_is_served_to_strict_clients() {
    let mut proved = 0;
    for (case, recipe) in recipes() {
        if recipe.warnings > 0 || recipe.private || matches!(recipe.expected, Expected::Exit(_)) {
            continue;
        }
        let pantry = Pantry::of(&recipe.key);
        let files = recipe.orders().remove(0);
        let served = Served::cook(&pantry, &recipe, &files);
        let gate = Gate::start_from(pantry.pki, &served.argument, echo().await, &[]);
        for version in VERSIONS {
            let client = gate.client_of(gate.pki.client(version)).await;
            let sent = client.get_ref().1.peer_certificates().unwrap().len();
            let Expected::Chain(chain) = &recipe.expected else { unreachable!() };
            assert_eq!(sent, chain.len(), "{case}");
            let mut client = client;
            round_trip(&mut client).await;
        }
        proved += 1;
    }
    assert!(proved >= 10);
}

/// The log has the warnings that `--check` prints.
#[tokio::test]
async fn the_log_warns_at_the_start() {
    let pantry = Pantry::of("p256");
    let [certificate, key] = ["self-signed-nameless", "key"].map(|part| pantry.take(part));
    let pem = String::from_utf8([certificate, key].concat()).unwrap();
    let gate = Gate::start_with(pantry.pki, &[("cert.pem", &pem)], echo().await, &[]);
    for words in ["is self-signed", "has no subject alternative name"] {
        let line = gate.log_line("WARN");
        assert!(line.contains(words), "{line}");
    }
}
