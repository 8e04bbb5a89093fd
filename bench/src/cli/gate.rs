//! What can be asked about gates.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};

use super::{ReportOptions, Subject, named_gate};
use crate::gate::cases::Case;
use crate::gate::peers::Peer;
use crate::slow;

#[derive(Debug, Args)]
pub(crate) struct GateOptions {
    /// The gate; again for another build beside it. Beside this program if not given
    #[arg(long = "gate", value_name = "[NAME=]PATH", value_parser = named_gate)]
    pub(crate) gates: Vec<Subject>,

    /// What to compare with; `none` for the gate alone
    #[arg(long, value_delimiter = ',', default_values_t = Peer::ALL)]
    pub(crate) peers: Vec<Peer>,

    /// What to measure
    #[arg(long, value_delimiter = ',', default_values_t = Case::ALL)]
    pub(crate) cases: Vec<Case>,

    /// The only cipher suite that the client offers
    #[arg(long, default_value = "aes128")]
    pub(crate) suite: Suite,

    /// The only key exchange group that the client offers. httpGate knows P-256 alone and gets
    /// that in any case
    #[arg(long, default_value = "p256")]
    pub(crate) group: Group,

    /// Rounds; in each, every program is measured once
    #[arg(long, default_value = "5", value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) rounds: u32,

    /// Handshakes a round
    #[arg(long, default_value = "600", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) handshakes: u32,

    /// Handshakes at a time: with fewer, a program sleeps and wakes for each, which costs CPU too
    #[arg(long, default_value = "16", value_parser = clap::value_parser!(u8).range(1..=50))]
    pub(crate) at_a_time: u8,

    /// Round trips a round, on 16 connections together
    #[arg(long, default_value = "48000", value_parser = clap::value_parser!(u32).range(16..=10_000_000))]
    pub(crate) round_trips: u32,

    /// MiB echoed a round, on 4 connections together
    #[arg(long, default_value = "192", value_parser = clap::value_parser!(u32).range(4..=65_536))]
    pub(crate) bulk: u32,

    /// Idle connections
    #[arg(long, default_value = "3000", value_parser = clap::value_parser!(u32).range(50..=20_000))]
    pub(crate) idle: u32,

    #[command(flatten)]
    pub(crate) report: ReportOptions,
}

#[derive(Debug, Args)]
pub(crate) struct SlowOptions {
    /// The gate; beside this program if not given
    #[arg(long, value_name = "[NAME=]PATH", value_parser = named_gate)]
    pub(crate) gate: Option<Subject>,

    /// Slow clients, from 16 addresses
    #[arg(long, default_value_t = slow::CLIENTS, value_parser = clap::value_parser!(u32).range(16..=20_000))]
    pub(crate) slow: u32,

    /// Handshakes of the healthy client, before and during
    #[arg(long, default_value_t = slow::HANDSHAKES, value_parser = clap::value_parser!(u32).range(20..=10_000))]
    pub(crate) handshakes: u32,

    /// Fail when a goal is missed
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EchoOptions {
    /// Where to listen; port 0 takes a free one. 127.0.0.1 and ::1 if not given
    pub(crate) listen: Option<SocketAddr>,

    /// End with the program that started this one
    #[arg(long, hide = true)]
    pub(crate) with_parent: bool,
}

impl GateOptions {
    pub(crate) fn offer(&self) -> Offer {
        Offer { suite: self.suite, group: self.group }
    }
}

/// Browsers offer the first one first; the second one's hash has no CPU instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// `TLS13_AES_128_GCM_SHA256`
    Aes128,
    /// `TLS13_AES_256_GCM_SHA384`
    Aes256,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    P256,
    X25519,
}

/// What the client offers, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) suite: Suite,
    pub(crate) group: Group,
}
