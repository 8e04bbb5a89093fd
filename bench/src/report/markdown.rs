//! The page for the documentation.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::{cell, measured};
use crate::cli::{GateOptions, Group, Suite};
use crate::gate::Results;
use crate::goals::Verdict;

/// Writes the page.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(
    options: &GateOptions,
    results: &Results,
    verdicts: &[Verdict],
    path: &Path,
) -> anyhow::Result<()> {
    fs::write(path, page(options, results, verdicts)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn page(options: &GateOptions, results: &Results, verdicts: &[Verdict]) -> anyhow::Result<String> {
    let metrics = measured(results);
    let mut page = String::from(
        "# What the gate costs\n\n\
         Written by `scripts/bench gate`, which anyone can run on a machine of their own. It \
         installs the other\nprograms from Debian, starts each with an equivalent configuration, \
         and measures all of them in turn.\n\n![Ratios to the best peer](benchmarks-gate.svg)\n\n",
    );
    let mut row = |cells: Vec<String>| writeln!(page, "| {} |", cells.join(" | "));
    row([String::new()].into_iter().chain(metrics.iter().map(|m| m.title().to_owned())).collect())?;
    row([String::from("---")]
        .into_iter()
        .chain(metrics.iter().map(|_| "---:".to_owned()))
        .collect())?;
    for program in &results.programs {
        let cells = metrics.iter().map(|metric| cell(results, program, *metric));
        row([format!("{} {}", program.name, program.version)].into_iter().chain(cells).collect())?;
    }
    writeln!(
        page,
        "\nMedians of {} rounds of {} handshakes, {} round trips, {} MiB and {} idle connections; \
         in parentheses\nthe ratio to the best peer. A figure is the work of the program's whole \
         process tree, not of the client\nor the backend.\n",
        options.rounds, options.handshakes, options.round_trips, options.bulk, options.idle
    )?;
    for metric in &metrics {
        writeln!(page, "- **{}**: {}.", metric.title(), metric.explanation())?;
    }
    writeln!(page, "\n## Goals\n")?;
    for verdict in verdicts {
        writeln!(page, "- {verdict}")?;
    }
    writeln!(page, "\n## How\n")?;
    let suite = match options.suite {
        Suite::Aes128 => "TLS13_AES_128_GCM_SHA256 (which browsers offer first)",
        Suite::Aes256 => "TLS13_AES_256_GCM_SHA384",
    };
    let group = match options.group {
        Group::P256 => "P-256",
        Group::X25519 => "X25519 (httpGate P-256, as it knows no other group)",
    };
    let machine = &results.machine;
    writeln!(
        page,
        "- Handshakes are {} at a time, and each round of them and of the transfers is shared by \
         three\n  fresh processes. Memory, which hardly differs between rounds, is measured in the first \
         two.\n\
         - {} cores ({}), Linux {} with {} congestion control, {}, OpenSSL {}; client, backend\n  \
         and the program under test share them.\n\
         - Certificate chain of two, all keys P-256. The client offers TLS 1.3, {group} and {suite} \
         only,\n  and checks that each connection uses them.\n\
         - The gate runs with its three arguments alone. The others have one worker per core \
         (stunnel a thread,\n  httpGate two processes for each connection), tickets and buffers \
         as their authors chose.\n\
         - The gate serves the first 64 connections with one of its threads, and so all of its \
         transfers here on\n  one core; docs/internals.md says why, and what it costs otherwise.\n\
         - Every connection is closed in both directions; a gate that omitted `close_notify` \
         would fail the run. So\n  does any error, a peer that is not installed, and a \
         connection that should be resumed and is not.\n\
         - CPU is what the kernel counted for all processes of the program, until it had settled \
         after the last\n  close. httpGate's processes end without anyone waiting for them; their \
         times are read while their\n  connections are open, so that its figures lack the exit.",
        options.at_a_time,
        machine.cores,
        machine.processor,
        machine.kernel,
        machine.congestion,
        machine.system,
        machine.openssl
    )?;
    let abrupt: Vec<&str> = results
        .programs
        .iter()
        .filter(|program| !program.closes_properly)
        .map(|program| program.name.as_str())
        .collect();
    if !abrupt.is_empty() {
        writeln!(page, "- Closed without `close_notify`: {}.", abrupt.join(", "))?;
    }
    Ok(page)
}
