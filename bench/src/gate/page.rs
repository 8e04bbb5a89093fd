//! What the page tells of how gates are measured.

use crate::cli::gate::{GateOptions, Group, Suite};
use crate::results::Results;
use crate::slow;

/// `abrupt` are the programs that closed without `close_notify`.
pub(crate) fn how(options: &GateOptions, results: &Results, abrupt: &[String]) -> String {
    let suite = match options.suite {
        Suite::Aes128 => "TLS13_AES_128_GCM_SHA256 (which browsers offer first)",
        Suite::Aes256 => "TLS13_AES_256_GCM_SHA384",
    };
    let group = match options.group {
        Group::P256 => "P-256",
        Group::X25519 => "X25519 (httpGate P-256, as it knows no other group)",
    };
    let machine = &results.machine;
    let mut how = format!(
        "- {} rounds of {} handshakes, {} at a time, {} round trips, {} MiB and {} idle \
         connections. Each round of handshakes and of the transfers is shared by three fresh \
         processes.\n\
         - {machine}, OpenSSL {}; client, backend and the program under test share them.\n\
         - Certificate chain of two, all keys P-256. The client offers TLS 1.3, {group} and {suite} \
         only, and checks that each connection uses them.\n\
         - The gate runs with its three arguments alone. The others have one worker per core \
         (stunnel a thread, httpGate two processes for each connection), tickets and buffers as \
         their authors chose.\n\
         - The gate serves the first 64 connections with one of its threads unless that is busy, and \
         so its transfers here on one core (docs/internals.md). One worker instead of one per core \
         brought nginx 4 % in round trips and nothing elsewhere.\n\
         - A figure is the work of the program's whole process tree, not of the client or the \
         backend. CPU is what the kernel counted for it, until it had settled after the last \
         close. httpGate's processes end without anyone waiting for them; their times are read \
         while their connections are open, so that its figures lack the exit.\n\
         - Every connection is closed in both directions; a gate that omitted `close_notify` would \
         fail the run. So does any error, a peer that is not installed, and a connection that \
         should be resumed and is not.\n\
         - Slow clients send the beginning of a hello, then a byte a second, and come again when \
         they are given up. A run fails in which more than one in ten of them is missing at any of \
         the healthy client's {} handshakes.\n",
        options.rounds,
        options.handshakes,
        options.at_a_time,
        options.round_trips,
        options.bulk,
        options.idle,
        machine.openssl,
        slow::HANDSHAKES
    );
    if !abrupt.is_empty() {
        how.push_str(&format!("- Closed without `close_notify`: {}.\n", abrupt.join(", ")));
    }
    how
}
