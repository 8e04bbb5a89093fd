//! The figures: what they are called, their unit, and what they should be.

/// One kind of figure; less is better in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Metric {
    Handshake,
    Resumed,
    RoundTrip,
    Bulk,
    Idle,
    Growth,
    Kept,
}

impl Metric {
    pub(crate) const ALL: [Self; 7] = [
        Self::Handshake,
        Self::Resumed,
        Self::RoundTrip,
        Self::Bulk,
        Self::Idle,
        Self::Growth,
        Self::Kept,
    ];

    /// For a column's head.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Resumed => "resumed",
            Self::RoundTrip => "round trip",
            Self::Bulk => "KiB echoed",
            Self::Idle => "idle connection",
            Self::Growth => "after 5 cycles",
            Self::Kept => "kept 15 s later",
        }
    }

    /// In a sentence.
    pub(crate) fn explanation(self) -> &'static str {
        match self {
            Self::Handshake => {
                "CPU of a full TLS 1.3 handshake, the connection to the backend, one exchange of \
                 125 bytes, and the close"
            }
            Self::Resumed => "the same with a session ticket",
            Self::RoundTrip => "CPU of 125 bytes there and back, on 16 connections",
            Self::Bulk => "CPU of each KiB there and back, in blocks of 64 KiB on 4 connections",
            Self::Idle => {
                "user memory (anonymous and shared pages) that each idle connection adds to a \
                 fresh process"
            }
            Self::Growth => {
                "resident memory after opening and closing those connections five times, relative \
                 to that after the first time"
            }
            Self::Kept => {
                "share of the resident memory added by the connections that is still there 15 s \
                 after the fifth time"
            }
        }
    }

    /// Whether the goal is a ratio to the best peer's figure, or else the figure itself.
    pub(crate) fn is_compared(self) -> bool {
        !matches!(self, Self::Growth | Self::Kept)
    }

    /// The most that the ratio to the best peer may be.
    pub(crate) fn ratio_goal(self) -> Option<f64> {
        match self {
            Self::Handshake => Some(0.35),
            Self::RoundTrip => Some(0.65),
            Self::Bulk | Self::Idle => Some(0.50),
            Self::Resumed | Self::Growth | Self::Kept => None,
        }
    }

    /// The most that the figure itself may be.
    pub(crate) fn goal(self) -> Option<f64> {
        match self {
            Self::Idle => Some(9_000.0),
            Self::Growth => Some(1.1),
            Self::Kept => Some(0.5),
            Self::Handshake | Self::Resumed | Self::RoundTrip | Self::Bulk => None,
        }
    }

    /// With its unit.
    pub(crate) fn show(self, figure: f64) -> String {
        match self {
            Self::Handshake | Self::Resumed => format!("{figure:.0} µs"),
            Self::RoundTrip => format!("{figure:.1} µs"),
            Self::Bulk => format!("{figure:.2} µs"),
            Self::Idle => format!("{:.1} KB", figure / 1_000.0),
            Self::Growth => format!("{figure:.2} ×"),
            Self::Kept => format!("{:.0} %", figure * 100.0),
        }
    }
}
