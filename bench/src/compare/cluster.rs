//! The comparison of servers that share a log in NATS JetStream.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::Args;

use super::{Case, CompareOptions, Compared, Trial, ours};
use crate::options::range;
use crate::programs::program::{Program, free_address};
use crate::programs::{Build, version_of};
use crate::report::figure::{Figures, millis};
use crate::server::fanout::{Fanout, in_turn, schedule};
use crate::server::publish::SENDERS;
use crate::server::{Launch, Server};

/// How many listeners there are while the latency is measured. They are few, so that the latency is
/// that of the log.
const FEW: usize = 100;
const TURNS: u32 = 4;

/// Listeners of each server, and the largest number of servers in a cluster.
const LISTENERS: usize = 1_000;
const SERVERS: usize = 3;

#[derive(Args)]
pub(crate) struct ClusterOptions {
    /// The path of the server. The default is the server in the directory of this program
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,

    /// The path of the nats-server program
    #[arg(long, value_name = "PATH", env = "NATS_SERVER")]
    nats: PathBuf,

    /// Entries in the stream when the server is started
    #[arg(long, default_value = "1000000", value_parser = range(1..=100_000_000))]
    entries: u32,

    #[command(flatten)]
    compare: CompareOptions<Member>,
}

/// The server to measure, and the NATS server for its cluster.
pub(crate) struct Member {
    path: PathBuf,
    nats: PathBuf,
    /// Entries in the stream at the start.
    entries: u64,
}

impl Compared for Member {
    const SECTION: &'static str = "cluster";
    const ROUNDS: &'static str = "5";
    const CASES: &'static [Case<Self>] = &[
        Case { name: "latency", connections: 2 * FEW, measure: latency },
        Case { name: "servers", connections: SERVERS * LISTENERS, measure: servers },
        Case { name: "follow", connections: SENDERS as usize, measure: follow },
    ];
}

/// Runs the comparison, prints the figures, and writes the files that the options ask for.
///
/// # Errors
/// When a program is missing or fails.
pub(crate) fn run(options: &ClusterOptions) -> Result<()> {
    let (nats, entries) = (&options.nats, options.entries);
    ensure!(nats.is_file(), "{} is not a program", nats.display());
    let given = options.server.clone().map(|path| Build { name: "server".to_owned(), path });
    let builds = Build::given_or_beside(given.as_slice(), "server")?;
    let member = |path| Member { path, nats: nats.clone(), entries: entries.into() };
    let values = || vec![("nats", version_of(nats)), ("entries", entries.to_string())];
    options.compare.run(ours(builds, member), &std::env::temp_dir(), values)
}

impl Trial<'_, Member> {
    /// Starts a NATS node with JetStream, an empty store and the defaults of NATS, which syncs to
    /// disk every two minutes. Returns it with the server options that connect to it.
    fn nats(&self, name: &str) -> Result<(Program, Vec<String>)> {
        let (place, address) = (self.place(name)?, free_address()?);
        let (file, store) = (place.join("nats.conf"), place.join("nats"));
        let store = store.display();
        let config = format!("listen: \"{address}\"\njetstream {{ store_dir: \"{store}\" }}\n");
        fs::write(&file, config).context("cannot write a configuration")?;
        let mut command = Command::new(&self.program.nats);
        command.arg("--config").arg(&file);
        let program = Program::start("nats-server", command, &place)?;
        program.wait_for(address)?;
        let id_key = self.directory.join("id.key");
        let id_key = format!("--id-key-file={}", id_key.display());
        let nats = format!("--nats=nats://{address}");
        Ok((program, vec![nats, "--nats-replicas=1".to_owned(), id_key]))
    }

    fn server(&self, name: &str, more_options: &[String]) -> Result<Server> {
        let place = self.place(name)?;
        let launch = Launch::new(&self.program.path, &place);
        Launch { more_options, ..launch }.start()
    }

    fn place(&self, name: &str) -> Result<PathBuf> {
        let place = self.directory.join(name);
        fs::create_dir(&place)?;
        Ok(place)
    }
}

fn latency(trial: &Trial<'_, Member>) -> Result<Figures> {
    let (_nats, options) = trial.nats("nats")?;
    let servers = [&trial.server("shared", &options)?, &trial.server("memory", &[])?];
    let [shared, memory] = in_turn(servers, FEW, 50.0, TURNS, |delivered| {
        Ok(millis(delivered.latencies.quantiles()[0]))
    })?;
    Ok(vec![("nats-latency", Some(shared - memory))])
}

fn servers(trial: &Trial<'_, Member>) -> Result<Figures> {
    let alone = cost_with(trial, 1)?;
    let mut most: f64 = 0.0;
    for count in 2..=SERVERS {
        let cost = cost_with(trial, count).with_context(|| format!("{count} servers"))?;
        most = most.max(cost / alone);
    }
    Ok(vec![("nats-delivery", Some(alone)), ("nats-servers", Some(most))])
}

/// Returns the CPU time of a delivery in microseconds, as the mean over all servers. The first
/// server publishes, and each server delivers to its own listeners.
fn cost_with(trial: &Trial<'_, Member>, count: usize) -> Result<f64> {
    let (_nats, options) = trial.nats(&format!("nats-{count}"))?;
    let start = |number| trial.server(&format!("server-{number}-of-{count}"), &options);
    let servers = (0..count).map(start).collect::<Result<Vec<Server>>>()?;
    let mut first = Fanout::of(&servers[0], LISTENERS)?;
    let others = servers[1..].iter().map(|server| Fanout::of(server, LISTENERS));
    let others = others.collect::<Result<Vec<Fanout>>>()?;
    let stop = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let listening = |fanout: Fanout| scope.spawn(move || fanout.listen(stop));
        let others: Vec<_> = others.into_iter().map(listening).collect();
        let delivered = first.deliver(&schedule(10.0, 1, 1_000), &schedule(10.0, 1, 5_000));
        stop.store(true, Ordering::Relaxed);
        let mut sum = delivered?.micros.context("the server has ended")?;
        for other in others {
            sum += other.join().map_err(|_| anyhow!("a thread has panicked"))??;
        }
        Ok(sum / count as f64)
    })
}

fn follow(trial: &Trial<'_, Member>) -> Result<Figures> {
    let (_nats, more_options) = trial.nats("nats")?;
    let place = trial.place("follow")?;
    let launch = Launch::new(&trial.program.path, &place);
    let launch = Launch { more_options: &more_options, ..launch };
    let (per_second, seconds) = launch.fill_and_restart(trial.program.entries)?;
    Ok(vec![("nats-rate", Some(per_second)), ("nats-start", Some(seconds))])
}
