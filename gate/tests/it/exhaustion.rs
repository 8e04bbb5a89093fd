//! Running out of descriptors.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, prlimit};
use testkit::proc::{cpu_time, open_files};

use crate::harness::{Gate, NEVER, echo, round_trip};

/// The limit is lowered while the gate runs, and the gate believes that it has room for all
/// connections.
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
            // With connections in the queue, a busy loop would use all of this time.
            let before = cpu_time(gate.pid());
            tokio::time::sleep(Duration::from_millis(500)).await;
            let used = cpu_time(gate.pid()) - before;
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
