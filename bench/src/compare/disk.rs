//! How long the disk takes to sync, and a library that makes syncs slower.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use crate::load::message::latencies;
use crate::report::figure::millis;

const TIMES: usize = 200;
const BLOCK: [u8; 4_096] = [b'x'; 4_096];

/// The 99th percentile of syncing a block appended to a file, in milliseconds.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn sync(directory: &Path) -> Result<f64> {
    let mut file = File::create(directory.join("sync")).context("cannot write a file")?;
    let mut times = latencies()?;
    for _ in 0..TIMES {
        file.write_all(&BLOCK)?;
        let begun = Instant::now();
        file.sync_data()?;
        times.saturating_record(u64::try_from(begun.elapsed().as_nanos())?);
    }
    Ok(millis(times.value_at_quantile(0.99)))
}

/// A library that makes every sync take at least a millisecond, if it is loaded before the C library.
///
/// # Errors
/// Without a C compiler.
pub(crate) fn slowed(directory: &Path) -> Result<PathBuf> {
    let [source, library] = ["slow_sync.c", "slow_sync.so"].map(|name| directory.join(name));
    std::fs::write(&source, include_str!("slow_sync.c"))?;
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source);
    let output = compiler.output().context("a C compiler is needed")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(library)
}
