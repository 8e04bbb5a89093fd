//! The figures: what they are called and their unit.

use std::time::Duration;

/// One kind of figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Metric {
    Handshake,
    Resumed,
    RoundTrip,
    Bulk,
    Idle,
    Growth,
    Kept,
    AmongSlow,

    Delivery,
    DeliveryLate,
    Burst,
    Join,
    Listener,
    HotTag,
    HotDelivery,
    QuietTag,
    Delivery10k,
    Delivery19k,
    Post,
    OverSocket,
    StormBack,
    StormHealthy,

    Durable,
    DurableLate,
    DurableHere,
    Fsync,
    Keeping,
    Resume,
    ResumeHealthy,
    Start,

    NatsLatency,
    NatsDelivery,
    NatsServers,
    NatsRate,
    NatsStart,
}

/// Nanoseconds as [`Unit::Millis`] has them.
pub(crate) fn millis(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64() * 1e3
}

/// How a figure is shown.
#[derive(Debug, Clone, Copy)]
enum Unit {
    /// With so many decimals.
    Micros(usize),
    Millis,
    Seconds,
    Bytes,
    Times,
    Percent,
    PerSecond,
    /// CPU of one, in microseconds, and how many of them a core can do in a second.
    PerCore,
}

impl Metric {
    pub(crate) const ALL: [Self; 35] = [
        Self::Handshake,
        Self::Resumed,
        Self::RoundTrip,
        Self::Bulk,
        Self::Idle,
        Self::Growth,
        Self::Kept,
        Self::AmongSlow,
        Self::Delivery,
        Self::DeliveryLate,
        Self::Burst,
        Self::Join,
        Self::Listener,
        Self::HotTag,
        Self::HotDelivery,
        Self::QuietTag,
        Self::Delivery10k,
        Self::Delivery19k,
        Self::Post,
        Self::OverSocket,
        Self::StormBack,
        Self::StormHealthy,
        Self::Durable,
        Self::DurableLate,
        Self::DurableHere,
        Self::Fsync,
        Self::Keeping,
        Self::Resume,
        Self::ResumeHealthy,
        Self::Start,
        Self::NatsLatency,
        Self::NatsDelivery,
        Self::NatsServers,
        Self::NatsRate,
        Self::NatsStart,
    ];

    /// For the head of a row.
    pub(crate) fn title(self) -> &'static str {
        self.about().0
    }

    /// In a sentence.
    pub(crate) fn explanation(self) -> &'static str {
        self.about().2
    }

    fn about(self) -> (&'static str, Unit, &'static str) {
        match self {
            Self::Handshake => (
                "handshake",
                Unit::Micros(0),
                "CPU of a full TLS 1.3 handshake, the connection to the backend, one exchange of \
                 125 bytes, and the close",
            ),
            Self::Resumed => ("resumed", Unit::Micros(0), "the same with a session ticket"),
            Self::RoundTrip => (
                "round trip",
                Unit::Micros(1),
                "CPU of 125 bytes there and back, on 16 connections",
            ),
            Self::Bulk => (
                "KiB echoed",
                Unit::Micros(2),
                "CPU of each KiB there and back, in blocks of 64 KiB on 4 connections",
            ),
            Self::Idle => (
                "idle connection",
                Unit::Bytes,
                "user memory (anonymous and shared pages) that each idle connection adds to a \
                 fresh process",
            ),
            Self::Growth => (
                "after 5 cycles",
                Unit::Times,
                "resident memory after opening and closing those connections five times, relative \
                 to that after the first time",
            ),
            Self::Kept => (
                "kept 15 s later",
                Unit::Percent,
                "share of the resident memory added by the connections that is still there 15 s \
                 after the fifth time",
            ),
            Self::AmongSlow => (
                "among slow clients",
                Unit::Times,
                "how long a healthy client's handshake takes, median, while 4,000 clients from 16 \
                 addresses never finish theirs, relative to that without them",
            ),
            Self::Delivery => (
                "delivery",
                Unit::Micros(2),
                "CPU of each delivery to 2,000 listeners at 10 messages a second",
            ),
            Self::DeliveryLate => (
                "delivery, p99",
                Unit::Millis,
                "from sending to arrival, 99th percentile of the same",
            ),
            Self::Burst => (
                "delivery in a burst",
                Unit::Micros(2),
                "CPU of each delivery to 2,000 listeners when 16 messages come back to back, once \
                 a second",
            ),
            Self::Join => (
                "join",
                Unit::Micros(1),
                "CPU of connecting, upgrading and registering, for each of 2,000 listeners",
            ),
            Self::Listener => (
                "idle listener",
                Unit::Bytes,
                "user memory (anonymous and shared pages) that each of 15,000 idle listeners adds \
                 to a fresh process",
            ),
            Self::HotTag => (
                "hot tag, p99",
                Unit::Millis,
                "from sending to arrival, 99th percentile over 15,000 listeners at 2 messages a \
                 second",
            ),
            Self::HotDelivery => {
                ("hot tag, delivery", Unit::Micros(2), "CPU of each of those deliveries")
            }
            Self::QuietTag => (
                "quiet tag, p99",
                Unit::Millis,
                "meanwhile on another tag, from sending to arrival, 500 messages to a client in a \
                 process of its own",
            ),
            Self::Delivery10k => (
                "delivery, 10,000",
                Unit::Micros(2),
                "CPU of each delivery to 10,000 listeners at 3 messages a second",
            ),
            Self::Delivery19k => (
                "delivery, 19,000",
                Unit::Micros(2),
                "CPU of each delivery to 19,000 listeners at 2 messages a second",
            ),
            Self::Post => (
                "POST",
                Unit::PerCore,
                "CPU of each accepted `POST /messages`, 64 senders that stay connected",
            ),
            Self::OverSocket => (
                "over WebSocket",
                Unit::PerCore,
                "CPU of each message accepted over a WebSocket, 64 senders",
            ),
            Self::StormBack => (
                "storm",
                Unit::Seconds,
                "10,000 clients lose their connections and come back at once: until the last one \
                 is registered again",
            ),
            Self::StormHealthy => (
                "storm, healthy client",
                Unit::Millis,
                "the longest time meanwhile from sending to arrival for a client that stayed, at \
                 100 messages a second",
            ),
            Self::Durable => (
                "on disk",
                Unit::PerSecond,
                "messages a second that are accepted, and so on disk, from 64 senders with one \
                 on its way each, where a sync takes a millisecond or more",
            ),
            Self::DurableHere => (
                "on this disk",
                Unit::PerSecond,
                "the same without that: a sync takes as long as it takes",
            ),
            Self::DurableLate => (
                "on disk, p99",
                Unit::Millis,
                "from sending one of them to the answer, 99th percentile",
            ),
            Self::Fsync => (
                "one fsync",
                Unit::Millis,
                "what the disk takes to sync 4 KiB appended to a file, 99th percentile, while \
                 nothing else happens",
            ),
            Self::Keeping => (
                "keeping",
                Unit::Times,
                "CPU of each delivery to 2,000 listeners at 10 messages a second, relative to a \
                 server that keeps nothing for those who are away",
            ),
            Self::Resume => (
                "resume",
                Unit::Seconds,
                "10,000 clients come back at once, each with a cursor and 20 messages missed: \
                 until the last one has everything",
            ),
            Self::ResumeHealthy => (
                "resume, live, p99",
                Unit::Millis,
                "from sending to arrival for a client that stayed, 500 messages from the moment \
                 when the others come back, 99th percentile",
            ),
            Self::Start => (
                "start",
                Unit::Seconds,
                "from starting a server with 1,000,000 messages on disk until it is ready",
            ),
            Self::NatsLatency => (
                "added latency",
                Unit::Millis,
                "what the way through NATS adds to the time from sending to arrival, median, at 50 \
                 messages a second to 100 listeners",
            ),
            Self::NatsDelivery => (
                "delivery, one server",
                Unit::Micros(2),
                "CPU of each delivery to 1,000 listeners at 10 messages a second",
            ),
            Self::NatsServers => (
                "two, three servers",
                Unit::Times,
                "the same on each of several servers, relative to one alone; the higher of both",
            ),
            Self::NatsRate => (
                "accepted",
                Unit::PerSecond,
                "messages a second from 64 senders of one server, through NATS and back",
            ),
            Self::NatsStart => (
                "start, shared log",
                Unit::Seconds,
                "from starting a server on a stream with 1,000,000 entries until it is ready",
            ),
        }
    }

    /// Whether less than the best peer is better; the others stand for themselves.
    pub(crate) fn is_compared(self) -> bool {
        !matches!(self, Self::Growth | Self::Kept | Self::AmongSlow | Self::QuietTag)
    }

    /// With its unit.
    pub(crate) fn show(self, figure: f64) -> String {
        match self.about().1 {
            Unit::Micros(decimals) => format!("{figure:.decimals$} µs"),
            Unit::Millis => format!("{figure:.1} ms"),
            Unit::Seconds => format!("{figure:.2} s"),
            Unit::Bytes if figure < 1_000.0 => format!("{figure:.0} B"),
            Unit::Bytes => format!("{:.1} KB", figure / 1_000.0),
            Unit::PerSecond => format!("{figure:.0}/s"),
            Unit::Times => format!("{figure:.2} ×"),
            Unit::Percent => format!("{:.0} %", figure * 100.0),
            Unit::PerCore => format!("{figure:.1} µs, {:.0}/s", 1e6 / figure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_units() {
        assert_eq!(Metric::Delivery.show(5.283), "5.28 µs");
        assert_eq!(Metric::Listener.show(1_699.0), "1.7 KB");
        assert_eq!(Metric::Listener.show(512.0), "512 B");
        assert_eq!(Metric::Post.show(20.0), "20.0 µs, 50000/s");
        assert_eq!(Metric::Kept.show(0.5), "50 %");
    }
}
