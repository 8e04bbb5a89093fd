//! Runs a test again in a namespace of its own, where the test may change settings of the machine.

use std::ffi::OsStr;
use std::process::Command;

/// The namespace that a test needs.
#[derive(Debug)]
pub struct Namespace<'a> {
    /// The option of `unshare`, such as `--net`.
    pub kind: &'a str,
    /// Shell commands that prepare the namespace before the test runs in it.
    pub prepare: &'a str,
    /// An environment variable and its value, which tell the test that it runs in the namespace.
    pub inside: (&'a str, &'a OsStr),
    /// The requirement on the machine, for the message if the namespace cannot be created.
    pub needs: &'a str,
}

impl Namespace<'_> {
    /// Runs the test with the name `test` (`module::function`) again, inside the namespace.
    ///
    /// # Panics
    /// If the namespace cannot be created, or if the test fails in it.
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
