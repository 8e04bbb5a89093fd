//! The gate stops at SIGTERM and SIGINT.

use std::io;

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use testkit::Program;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::admin::metrics;
use crate::harness::{Gate, NEVER, backend, echo, rest, round_trip, soon};

/// Waits until the gate refuses connections. The listener is closed shortly after the signal.
async fn refuses(gate: &Gate) {
    soon(async {
        loop {
            match TcpStream::connect(gate.address).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return,
                // The connection was in the queue of a listener that is being closed.
                _ => tokio::task::yield_now().await,
            }
        }
    })
    .await;
}

#[tokio::test]
async fn without_connections_it_ends_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let gate = Gate::start(echo().await, &["--drain", NEVER]);
        gate.signal(signal);
        let (status, log) = gate.ended().await;
        assert_eq!(status.code(), Some(0));
        assert!(log.last().unwrap().contains("ended: no connection was left"), "{log:?}");
    }
}

#[tokio::test]
async fn live_connections_go_on_and_may_end_by_themselves() {
    let gate = Gate::start(echo().await, &["--drain", NEVER]);
    let mut client = gate.client().await;
    round_trip(&mut client).await;
    gate.signal(Signal::TERM);
    refuses(&gate).await;
    round_trip(&mut client).await;
    drop(client);
    let (status, log) = gate.ended().await;
    assert_eq!(status.code(), Some(0));
    assert!(log.last().unwrap().contains("no connection was left"), "{log:?}");
}

#[tokio::test]
async fn connections_that_stay_are_closed_in_order_within_the_drain_time() {
    for drain in ["0s", "300ms"] {
        let gate = Gate::start(echo().await, &["--drain", drain]);
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut client = gate.client().await;
            round_trip(&mut client).await;
            clients.push(client);
        }
        gate.signal(Signal::TERM);
        for client in &mut clients {
            // `Ok` means that the stream ended with a `close_notify`.
            assert_eq!(rest(client).await.unwrap(), b"", "{drain}");
        }
        drop(clients);
        let (status, log) = gate.ended().await;
        assert_eq!(status.code(), Some(0));
        assert!(log.last().unwrap().contains("no connection was left"), "{drain}: {log:?}");
    }
}

/// If all connections were closed at once, all clients would reconnect at once.
#[tokio::test]
async fn those_who_stay_are_closed_one_by_one() {
    const DRAIN: Duration = Duration::from_secs(3);
    // A quarter of the expected gap. With four connections, each gap is a fifth of the drain time.
    const APART: Duration = Duration::from_millis(150);

    let gate = Gate::start(echo().await, &["--drain", "3s"]);
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = gate.client().await;
        round_trip(&mut client).await;
        clients.push(client);
    }
    let begun = Instant::now();
    gate.signal(Signal::TERM);
    let mut closing = JoinSet::new();
    for mut client in clients {
        closing.spawn(async move {
            assert_eq!(rest(&mut client).await.unwrap(), b"");
            begun.elapsed()
        });
    }
    let mut ends = closing.join_all().await;
    ends.sort();
    assert!(ends[0] > APART, "{ends:?}");
    assert!(ends.windows(2).all(|pair| pair[1] - pair[0] > APART), "{ends:?}");
    assert!(ends[3] < DRAIN, "{ends:?}");
    let (status, log) = gate.ended().await;
    assert_eq!(status.code(), Some(0));
    assert!(log.last().unwrap().contains("no connection was left"), "{log:?}");
}

/// Clients that have not completed their handshake must not delay a restart.
#[tokio::test]
async fn unfinished_handshakes_are_given_up() {
    let gate = Gate::start(echo().await, &["--drain", "300ms", "--handshake-timeout", NEVER]);
    let mut silent = gate.tcp().await;
    round_trip(&mut gate.client().await).await;
    gate.signal(Signal::TERM);
    assert_eq!(rest(&mut silent).await.unwrap(), b"");
    let (status, _) = gate.ended().await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    for (second, name) in [(Signal::TERM, "SIGTERM"), (Signal::INT, "SIGINT")] {
        let gate = Gate::start(echo().await, &["--drain", NEVER]);
        let mut client = gate.client().await;
        round_trip(&mut client).await;
        gate.signal(Signal::TERM);
        gate.log_line("SIGTERM: accepting no more");
        gate.signal(second);
        let (status, log) = gate.ended().await;
        assert_eq!(status.code(), Some(0));
        let told = format!("{name} again: ended at once");
        assert!(log.last().unwrap().contains(&told), "{log:?}");
    }
}

/// The name and the CPU time of each thread that serves connections.
fn processor_times(gate: &Gate) -> Vec<(String, Duration)> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", gate.pid())).unwrap();
    let mut times: Vec<_> = tasks
        .map(|task| task.unwrap().path())
        .map(|task| {
            let name = std::fs::read_to_string(task.join("comm")).unwrap().trim().to_owned();
            // The first field is the CPU time in nanoseconds.
            let used = std::fs::read_to_string(task.join("schedstat")).unwrap();
            let used = used.split(' ').next().unwrap().parse().unwrap();
            (name, Duration::from_nanos(used))
        })
        .filter(|(name, _)| name.starts_with("gate"))
        .collect();
    times.sort();
    times
}

/// The accepting thread keeps the first connections and passes later ones to other threads. All of
/// them are served, and closed at the end.
#[tokio::test]
async fn the_connections_of_every_thread_are_served_and_closed() {
    let gate = Gate::start(echo().await, &["--threads", "3", "--drain", "500ms"]);
    let mut clients = Vec::new();
    for _ in 0..200 {
        clients.push(gate.client().await);
    }
    for client in &mut clients {
        round_trip(client).await;
    }
    let used = processor_times(&gate);
    assert_eq!(used.len(), 3, "{used:?}");
    for (name, used) in used {
        // Starting a thread takes less CPU time than 3 ms, and dozens of handshakes take more.
        assert!(used > Duration::from_millis(3), "{name} did nothing");
    }
    gate.signal(Signal::TERM);
    for client in &mut clients {
        assert_eq!(rest(client).await.unwrap(), b"");
    }
    drop(clients);
    let (status, log) = gate.ended().await;
    assert_eq!(status.code(), Some(0));
    assert!(log.last().unwrap().contains("no connection was left"), "{log:?}");
}

/// A client that waits for the backend is closed properly, and logged like every other client.
#[tokio::test]
async fn those_who_wait_for_the_backend_are_closed_in_order() {
    let (listener, address) = backend().await;
    drop(listener);
    let gate = Gate::start(address, &["--backend-retry", NEVER, "--drain", "300ms"]);
    let mut client = gate.client().await;
    gate.log_line("waiting for the backend");
    gate.signal(Signal::TERM);
    // `Ok` means that the stream ended with a `close_notify`.
    assert_eq!(rest(&mut client).await.unwrap(), b"");
    drop(client);
    let (status, log) = gate.ended().await;
    assert_eq!(status.code(), Some(0));
    let told = log.iter().find(|line| line.contains("access: "));
    assert!(told.is_some_and(|line| line.contains("ended=\"gate stopped\"")), "{log:?}");
}

#[tokio::test]
async fn handshakes_that_the_stop_ends_are_counted() {
    let options = ["--admin", "127.0.0.1:0", "--handshake-timeout", NEVER, "--drain", "1s"];
    let gate = Gate::start(echo().await, &options);
    let admin = gate.admin();
    let mut silent = [gate.tcp().await, gate.tcp().await];
    // After this round trip, both silent clients have been accepted.
    round_trip(&mut gate.client().await).await;
    gate.signal(Signal::TERM);
    // Either client may be closed first. The other one keeps the gate running.
    let [one, other] = &silent;
    let first = async {
        tokio::select! { it = one.readable() => it, it = other.readable() => it }
    };
    soon(first).await.unwrap();
    let stopped = "gate_handshakes_total{outcome=\"stopping\",version=\"\",group=\"\"}";
    assert!(metrics(admin).await.get(stopped).is_some_and(|count| *count >= 1.0));
    for silent in &mut silent {
        assert_eq!(rest(silent).await.unwrap(), b"");
    }
}

/// Holds a lease on a file, so that opening the file blocks as on a file system that hangs. The
/// kernel ends the block after 45 s (`/proc/sys/fs/lease-break-time`).
fn lease(path: &std::path::Path) -> Program {
    // 1024 is F_SETLEASE and 1 is F_WRLCK. SIGIO reports that another process waits for the file.
    let script = "$SIG{IO} = sub {}; open(my $file, '<', $ARGV[0]) or die; \
                  fcntl($file, 1024, 1) or die; $| = 1; print \"held\\n\"; sleep 1 while 1";
    let mut perl = Command::new("perl");
    perl.args(["-e", script]).arg(path);
    let holder = Program::start(perl);
    assert_eq!(holder.stdout.next_blocking().as_deref(), Some("held"));
    holder
}

#[tokio::test]
async fn a_file_system_that_hangs_does_not_delay_the_end() {
    let gate = Gate::start(echo().await, &["--reload-interval", NEVER]);
    let _holder = lease(&gate.pem);
    gate.signal(Signal::HUP);
    // Once a process waits for the file, `/proc/locks` lists the lease as breaking.
    soon(async {
        while !std::fs::read_to_string("/proc/locks").unwrap().contains("BREAKING") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    gate.signal(Signal::TERM);
    let (status, log) = gate.ended().await;
    assert_eq!(status.code(), Some(0), "{log:?}");
}
