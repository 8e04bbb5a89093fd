//! A test that runs again in a namespace of its own, where it may change what the machine has only
//! one of.

use std::ffi::OsStr;
use std::process::Command;

/// What a test needs around it.
#[derive(Debug)]
pub struct Namespace<'a> {
    /// The option of `unshare`, such as `--net`.
    pub kind: &'a str,
    /// Shell commands that prepare the namespace before the test runs in it.
    pub prepare: &'a str,
    /// A variable that tells the test that it runs inside, and its value.
    pub inside: (&'a str, &'a OsStr),
    /// What the machine must have, for the message when it has not.
    pub needs: &'a str,
}

impl Namespace<'_> {
    /// Runs the test of this name, `module::function`, again inside the namespace.
    ///
    /// # Panics
    /// When the namespace cannot be had, or the test fails in it.
    pub fn run_again(&self, test: &str) {
        let mut unshare = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            unshare.arg("--map-root-user");
        }
        let (variable, value) = self.inside;
        let script = format!("{} && echo prepared && exec \"$@\"", self.prepare);
        let output = unshare
            .args([self.kind, "sh", "-c", &script, "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(variable, value)
            .output()
            .expect("this test needs unshare (Debian: util-linux)");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains("prepared"), "this test needs {}: {text}", self.needs);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }
}
