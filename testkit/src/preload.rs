//! Compiles a library that replaces some functions of the C library through `LD_PRELOAD`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles the C file `source` to a library in `dir`, and returns the library's path.
///
/// # Panics
/// If the file cannot be compiled. A C compiler is always present, because dependencies of these
/// programs need one to build.
pub fn compile(source: &str, dir: &Path) -> PathBuf {
    let library = dir.join(Path::new(source).with_extension("so").file_name().unwrap());
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([library.as_os_str(), source.as_ref()])
        .output()
        .expect("this test needs a C compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}
