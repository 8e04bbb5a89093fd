//! The metrics of the process, under the names that Prometheus' own clients use.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// A collector of CPU time, memory and open files. It reads `/proc` whenever metrics are requested.
#[derive(Debug, Default)]
pub struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut tell = |name: &str, help: &str, metric: &dyn Metric| {
            metric.encode_as(&mut encoder, name, help)
        };
        // A value that cannot be read is left out, because a hardened unit may hide `/proc`.
        if let Some(seconds) = cpu_seconds() {
            let help = "User and system CPU time spent, in seconds";
            tell("process_cpu_seconds", help, &ConstCounter::new(seconds))?;
        }
        if let Some(bytes) = resident_bytes() {
            let help = "Resident memory, in bytes";
            tell("process_resident_memory_bytes", help, &ConstGauge::new(bytes))?;
        }
        if let Some(files) = open_files() {
            tell("process_open_fds", "Open file descriptors", &ConstGauge::new(files))?;
        }
        if let Some(limit) = getrlimit(Resource::Nofile).current {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            tell("process_max_fds", "File descriptors allowed", &ConstGauge::new(limit))?;
        }
        Ok(())
    }
}

/// A metric that knows its own type.
trait Metric {
    fn encode_as(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str)
    -> fmt::Result;
}

impl<M: EncodeMetric> Metric for M {
    fn encode_as(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
    ) -> fmt::Result {
        self.encode(encoder.encode_descriptor(name, help, None, self.metric_type())?)
    }
}

/// The user and system time in seconds: fields 14 and 15 of proc_pid_stat(5). Field 2, the name,
/// may contain spaces and parentheses, so the fields after its last parenthesis are counted.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_name, rest) = stat.rsplit_once(')')?;
    let mut times = rest.split_whitespace().skip(11).map(str::parse::<u32>);
    let ticks = f64::from(times.next()?.ok()?) + f64::from(times.next()?.ok()?);
    Some(ticks / f64::from(u32::try_from(clock_ticks_per_second()).ok()?))
}

/// The resident memory in bytes. The second field of proc_pid_statm(5) has it in pages.
fn resident_bytes() -> Option<i64> {
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(i64::try_from(page_size()).ok()?)
}

fn open_files() -> Option<i64> {
    // One descriptor belongs to the directory that is being read.
    i64::try_from(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1)).ok()
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn everything_is_told_and_plausible() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
            line.rsplit_once(' ').unwrap().1.parse().unwrap()
        };
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!(value("process_resident_memory_bytes") > 100_000.0);
        assert!((3.0..10_000.0).contains(&value("process_open_fds")));
        assert!(value("process_max_fds") >= value("process_open_fds"));
    }
}
