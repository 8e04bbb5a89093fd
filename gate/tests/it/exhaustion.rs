//! The gate runs out of file descriptors.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, prlimit};
use testkit::proc::{cpu_time, open_files};

use crate::harness::{Gate, NEVER, echo, round_trip};

/// The test lowers the limit of descriptors while the gate runs. The gate has computed its limit of
/// connections from the higher value before, so the descriptors run out first.
#[tokio::test]
async fn without_descriptors_accepting_waits_and_recovers() {
    let gate = Gate::start(echo().await, &["--handshake-timeout", NEVER]);
    let mut live = gate.client().await;
    round_trip(&mut live).await;
    let open = open_files(gate.pid()) as u64;
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
            // Connections wait in the queue, so a busy loop would use the CPU for the whole time.
            let before = cpu_time(gate.pid());
            tokio::time::sleep(Duration::from_millis(500)).await;
            let used = cpu_time(gate.pid()) - before;
            assert!(used < Duration::from_millis(100), "{used:?} of the processor in 500 ms");
        }
        // Open connections are not affected. A new connection is served once a descriptor is free.
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
