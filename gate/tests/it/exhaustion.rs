//! Running out of descriptors.

use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use rustix::process::{Resource, Rlimit, Signal, prlimit};

use crate::harness::{Gate, NEVER, echo, round_trip};

/// The CPU time of the gate, in user mode and in the kernel.
fn processor_time(gate: &Gate) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gate.id())).unwrap();
    // After the name, which may hold anything, these are the 12th and the 13th field (proc(5)).
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1_000 / clock_ticks_per_second())
}

/// The limit is lowered while the gate runs, and the gate believes that it has room for all
/// connections.
#[tokio::test]
async fn without_descriptors_accepting_waits_and_recovers() {
    let gate = Gate::start(echo().await, &["--handshake-timeout", NEVER]);
    let mut live = gate.client().await;
    round_trip(&mut live).await;
    let open = std::fs::read_dir(format!("/proc/{}/fd", gate.pid())).unwrap().count() as u64;
    let limit = Rlimit { current: Some(open + 4), maximum: Some(open + 4) };
    prlimit(Some(gate.pid()), Resource::Nofile, limit).unwrap();

    for wave in 0..5 {
        let mut silent = Vec::new();
        for _ in 0..8 {
            silent.push(gate.tcp().await);
        }
        if wave == 0 {
            let line = gate.log_line("cannot accept connections");
            assert!(line.contains("WARN"), "{line}");
            // With connections in the queue, a busy loop would use all of this time.
            let before = processor_time(&gate);
            tokio::time::sleep(Duration::from_millis(500)).await;
            let used = processor_time(&gate) - before;
            assert!(used < Duration::from_millis(100), "{used:?} of the processor in 500 ms");
        }
        // Open connections are not affected, and the new one is served once there is room.
        round_trip(&mut live).await;
        drop(silent);
        round_trip(&mut gate.client().await).await;
    }
    gate.signal(Signal::TERM);
    drop(live);
    let (status, log) = gate.ended().await;
    assert_eq!(status.code(), Some(0));
    let told = log.iter().filter(|line| line.contains("cannot accept")).count();
    assert_eq!(told, 0, "told once and not with every wave: {log:?}");
}
