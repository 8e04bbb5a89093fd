//! Compares the server with its peers.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use super::{Case, CompareOptions, Compared, Trial, ours, theirs};
use crate::load::senders::SendPlan;
use crate::load::wire::PublishMethod;
use crate::options::one_of;
use crate::programs::peers::{PEERS, Peer};
use crate::programs::{Build, version_of};
use crate::report::figure::{Figures, millis};
use crate::server::fanout::{Fanout, Probe, schedule, tag};
use crate::server::publish::{self, SENDERS, plan};
use crate::server::{AT_A_TIME, QUIET_TAG, Server, Tested, storm, tags};

/// The number of connections that are opened and closed to warm the program up, before the cost of
/// a connection is measured.
const FIRST: usize = 200;

/// The number of listeners in each case.
const LISTENERS: usize = 2_000;
const CROWD: usize = 15_000;
const SCALE: [usize; 2] = [10_000, 19_000];
const STORM: usize = 10_000;

#[derive(Args)]
pub(crate) struct ServerOptions {
    /// The path of the server, or several builds if the option is repeated. The default is the
    /// server in the directory of this program
    #[arg(long = "server", value_name = "[NAME=]PATH", value_parser = Build::server)]
    servers: Vec<Build>,

    /// The programs to compare with
    #[arg(long, value_delimiter = ',', default_values = ["uws", "nchan", "ws", "floor"], value_parser = one_of(&PEERS.server))]
    peers: Vec<&'static Peer>,

    /// Measure the server alone, without peers
    #[arg(long, conflicts_with = "peers")]
    alone: bool,

    /// The directory with the programs for Node
    #[arg(long, value_name = "DIR", default_value = "bench/peers")]
    peers_dir: PathBuf,

    #[command(flatten)]
    compare: CompareOptions<Tested>,
}

impl Compared for Tested {
    const SECTION: &'static str = "server";
    const ROUNDS: &'static str = "5";
    const CASES: &'static [Case<Self>] = &[
        Case { name: "delivery", connections: LISTENERS, measure: delivery },
        Case { name: "crowd", connections: CROWD, measure: crowd },
        Case { name: "scale", connections: SCALE[1], measure: scale },
        Case { name: "publish", connections: SENDERS as usize, measure: publish },
        Case { name: "storm", connections: STORM, measure: storm },
    ];
}

/// Runs the comparison, prints the figures, and writes the files that the options ask for.
///
/// # Errors
/// When a program is missing or fails.
pub(crate) fn run(options: &ServerOptions) -> Result<()> {
    let peers_dir = &options.peers_dir;
    let program = |kind, build| Tested { kind, build, peers_dir: peers_dir.clone() };
    let builds = Build::given_or_beside(&options.servers, "server")?;
    let mut programs = ours(builds, |path| program(&PEERS.server[0], path));
    for peer in options.peers.iter().filter(|peer| !options.alone && !peer.is_ours()) {
        programs.push((theirs(peer, peers_dir)?, program(peer, PathBuf::new())));
    }
    let values = || vec![("node", version_of("node".as_ref()))];
    options.compare.run(programs, &std::env::temp_dir(), values)
}

impl Trial<'_, Tested> {
    fn start(&self) -> Result<Server> {
        self.program.start(self.directory, &tags())
    }
}

fn delivery(trial: &Trial<'_, Tested>) -> Result<Figures> {
    let server = trial.start()?;
    Fanout::of(&server, FIRST)?;
    let mut fanout = Fanout::new(&server, tag())?;
    let cost = fanout.open(LISTENERS, AT_A_TIME)?;
    let one_by_one = fanout.deliver(&schedule(10.0, 1, 2_000), &schedule(10.0, 1, 3_000))?;
    let bursts = fanout.deliver(&schedule(16.0, 16, 1_000), &schedule(16.0, 16, 4_000))?;
    Ok(vec![
        ("delivery", one_by_one.micros),
        ("delivery-late", Some(millis(one_by_one.latencies.quantiles()[1]))),
        ("burst", bursts.micros),
        ("join", cost.micros),
    ])
}

fn crowd(trial: &Trial<'_, Tested>) -> Result<Figures> {
    let server = trial.start()?;
    let mut fanout = Fanout::new(&server, tag())?;
    let cost = fanout.open(CROWD, AT_A_TIME)?;
    let mut figures = vec![("idle-listener", cost.bytes)];
    if ["server", "uws"].contains(&trial.program.kind.option.as_str()) {
        // The probe measures 500 messages, all of them between the first and the last message of
        // the hot tag.
        let probe = Probe::start(&server, QUIET_TAG, Duration::from_secs(5))?;
        let hot = fanout.deliver(&schedule(2.0, 1, 2_000), &schedule(2.0, 1, 6_000))?;
        let [_, quiet_p99, _] = probe.finish()?;
        figures.extend([
            ("hot-delivery", hot.micros),
            ("hot-tag", Some(millis(hot.latencies.quantiles()[1]))),
            ("quiet-tag", Some(millis(quiet_p99))),
        ]);
    }
    Ok(figures)
}

fn scale(trial: &Trial<'_, Tested>) -> Result<Figures> {
    let server = trial.start()?;
    let mut fanout = Fanout::of(&server, SCALE[0])?;
    let some = fanout.deliver(&schedule(3.0, 1, 1_000), &schedule(3.0, 1, 4_000))?;
    fanout.open(SCALE[1] - SCALE[0], AT_A_TIME)?;
    let many = fanout.deliver(&schedule(2.0, 1, 1_000), &schedule(2.0, 1, 4_000))?;
    Ok(vec![("delivery10k", some.micros), ("delivery19k", many.micros)])
}

fn publish(trial: &Trial<'_, Tested>) -> Result<Figures> {
    let server = trial.start()?;
    let post = (PublishMethod::Post, "post");
    let web_socket = (PublishMethod::WebSocket, "over-web-socket");
    let methods = match trial.program.kind.option.as_str() {
        "server" => vec![post, web_socket],
        "nchan" => vec![post],
        _ => vec![web_socket],
    };
    let mut figures = Vec::new();
    for (over, figure) in methods {
        let plan = SendPlan { over, ..plan(1) };
        let times = [500, 2_000].map(Duration::from_millis);
        let cost = publish::measure(&server, plan, times)?;
        figures.push((figure, cost.micros));
    }
    Ok(figures)
}

fn storm(trial: &Trial<'_, Tested>) -> Result<Figures> {
    let server = trial.start()?;
    let cost = storm::measure(&server, &tags(), STORM, Duration::from_secs(6))?;
    let longest = millis(cost.healthy[2]);
    Ok(vec![("storm", Some(cost.time.as_secs_f64())), ("storm-healthy", Some(longest))])
}
