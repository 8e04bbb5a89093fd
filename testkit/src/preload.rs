//! A library that takes the place of some of the C library's functions, by `LD_PRELOAD`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles the C file `source` to a library in `dir`; its path.
///
/// # Panics
/// When it cannot be compiled. Whoever builds these programs has a C compiler: their dependencies
/// need it.
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
