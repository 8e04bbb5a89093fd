//! The gate beside its peers.

pub(crate) mod cases;
mod client;
pub(crate) mod echo;
mod environment;
pub(crate) mod slow_handshakes;

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use clap::Args;

use crate::compare::{CompareOptions, ours, theirs};
use crate::options::{names, one_of};
use crate::programs::peers::{PEERS, Peer};
use crate::programs::{Build, machine};
use crate::run;
use cases::{GateLoad, Loaded};
use client::{Group, Offer, Suite};
use environment::{Environment, Gate};

#[derive(Args)]
pub(crate) struct GateOptions {
    /// The gate; give it again for another build beside it. The default is the one beside this program
    #[arg(long = "gate", value_name = "[NAME=]PATH", value_parser = Build::gate)]
    gates: Vec<Build>,

    /// The programs to compare with; `none` for the gate alone
    #[arg(long, value_delimiter = ',', default_values = names(&PEERS.gate[1..]), value_parser = one_of(&PEERS.gate))]
    pub(crate) peers: Vec<&'static Peer>,

    /// The only cipher suite that the client offers
    #[arg(long, default_value = "aes128")]
    suite: Suite,

    /// The only key exchange group that the client offers. httpGate supports P-256 alone and always
    /// gets that
    #[arg(long, default_value = "p256")]
    group: Group,

    #[command(flatten)]
    load: GateLoad,

    #[command(flatten)]
    pub(crate) compare: CompareOptions<Loaded>,
}

/// Measures, prints and writes what the options ask for.
///
/// # Errors
/// When a program is missing or fails.
pub(crate) fn run(options: &GateOptions) -> Result<()> {
    let load = options.load;
    // Each connection is two open files of a program under test, and one here.
    let what = format!("{} idle connections", load.idle);
    run::ensure_open_files(load.idle as usize * 2 + 800, &what, "give --idle less")?;
    let environment = Environment::new(Offer { suite: options.suite, group: options.group })?;
    let loaded = |kind, build| {
        let gate = Gate { environment: Arc::clone(&environment), kind, build };
        Loaded { gate, load }
    };
    let builds = Build::given_or_beside(&options.gates, "gate")?;
    let mut programs = ours(builds, |path| loaded(&PEERS.our_gate, Some(path)));
    for peer in options.peers.iter().filter(|peer| peer.option != "none") {
        programs.push((theirs(peer, Path::new(""))?, loaded(peer, None)));
    }
    let values = || values(options, &environment);
    options.compare.run(programs, &std::env::temp_dir(), values)
}

/// What the page says about how gates are measured.
fn values(options: &GateOptions, environment: &Environment) -> Vec<(&'static str, String)> {
    let suite = match options.suite {
        Suite::Aes128 => "TLS13_AES_128_GCM_SHA256 (which browsers offer first)",
        Suite::Aes256 => "TLS13_AES_256_GCM_SHA384",
    };
    let group = match options.group {
        Group::P256 => "P-256",
        Group::X25519 => "X25519 (httpGate P-256, as it knows no other group)",
    };
    let peers: Vec<String> = environment.closed_abruptly.lock().iter().cloned().collect();
    let closed_abruptly = match peers[..] {
        [] => String::new(),
        _ => format!("- Closed without `close_notify`: {}.\n", peers.join(", ")),
    };
    let load = options.load;
    vec![
        ("suite", suite.to_owned()),
        ("group", group.to_owned()),
        ("openssl", machine::version_of_package("libssl3")),
        ("handshakes", load.handshakes.to_string()),
        ("at_a_time", load.at_a_time.to_string()),
        ("round_trips", load.round_trips.to_string()),
        ("bulk", load.bulk.to_string()),
        ("idle", load.idle.to_string()),
        ("slow_handshakes", slow_handshakes::HANDSHAKES.to_string()),
        ("closed_abruptly", closed_abruptly),
    ]
}
