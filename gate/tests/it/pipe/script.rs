//! Scripts: the steps of the two ends of a connection, and their order.

use proptest::collection::vec;
use proptest::prelude::*;

use super::end::{End, Ended, Finish, Pace};

/// The most bytes that one side writes in a script.
pub(super) const MOST: usize = LONGEST * LARGEST;
const LONGEST: usize = 14;
/// The most bytes of one write. All sockets between the ends hold less, so a paused reader blocks
/// the writer.
const LARGEST: usize = 3_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client = 0,
    Backend = 1,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }
}

/// One step of a script. Only `Settle` waits until earlier steps are complete.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Writes bytes. The numbers are the total and the size of each piece.
    Write(Side, usize, usize),
    /// Ends this side's stream. Later writes of this side are removed from the script.
    Finish(Side, Finish),
    Pause(Side),
    /// Reads with a buffer of this size.
    Read(Side, usize),
    /// Both sides read until all written bytes have arrived.
    Settle,
    /// Resets the connection, at most once in a script. Afterwards only the other side has steps.
    Abort(Side),
}

#[derive(Debug, Clone)]
pub(super) struct Script(Vec<Step>);

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Client), Just(Side::Backend)]
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![
        4 => (1..=300_usize, 1..=8_usize),
        4 => (1..=20_000_usize, 100..=5_000_usize),
        3 => (100_000..=400_000_usize, 20_000..=100_000_usize),
        1 => (LARGEST / 2..=LARGEST, Just(LARGEST)),
    ];
    let finish = prop_oneof![3 => Just(Finish::Proper), 1 => Just(Finish::Bare)];
    let buffer = prop_oneof![Just(1_usize), Just(3), Just(1_000), Just(65_536)];
    prop_oneof![
        10 => (side(), size).prop_map(|(side, (bytes, piece))| Step::Write(side, bytes, piece)),
        2 => (side(), finish).prop_map(|(side, finish)| Step::Finish(side, finish)),
        2 => side().prop_map(Step::Pause),
        3 => (side(), buffer).prop_map(|(side, size)| Step::Read(side, size)),
        2 => Just(Step::Settle),
        1 => side().prop_map(Step::Abort),
    ]
}

pub(super) fn any() -> impl Strategy<Value = Script> {
    vec(step(), 0..=LONGEST).prop_map(Script::possible)
}

impl Script {
    /// Removes the steps that a side cannot do after its end or abort.
    fn possible(steps: Vec<Step>) -> Self {
        let (mut finished, mut aborted) = ([false; 2], None);
        let steps = steps.into_iter().filter(|step| match *step {
            Step::Write(side, ..) => aborted != Some(side) && !finished[side as usize],
            Step::Finish(side, _) => {
                aborted != Some(side) && !std::mem::replace(&mut finished[side as usize], true)
            }
            Step::Pause(side) | Step::Read(side, _) => aborted != Some(side),
            Step::Settle => aborted.is_none(),
            Step::Abort(side) => aborted.is_none() && aborted.replace(side).is_none(),
        });
        Self(steps.collect())
    }

    pub(super) fn aborter(&self) -> Option<Side> {
        self.0.iter().find_map(|step| match *step {
            Step::Abort(side) => Some(side),
            _ => None,
        })
    }

    pub(super) fn written_by(&self, side: Side) -> usize {
        written(&self.0, side)
    }

    fn before_abort(&self) -> &[Step] {
        self.0.split(|step| matches!(step, Step::Abort(_))).next().unwrap_or_default()
    }

    /// The number of bytes from `aborter` that had certainly arrived before the abort.
    pub(super) fn settled_before_abort(&self, aborter: Side) -> usize {
        let before = self.before_abort();
        let settled = before.iter().rposition(|step| matches!(step, Step::Settle)).unwrap_or(0);
        written(&before[..settled], aborter)
    }

    /// Whether the end of `aborter`'s stream had certainly arrived before the abort. `None` if
    /// `aborter` had not ended its stream before.
    pub(super) fn ended_before_abort(&self, aborter: Side) -> Option<bool> {
        let before = self.before_abort();
        let end = |step: &Step| matches!(step, Step::Finish(side, _) if *side == aborter);
        let end = before.iter().position(end)?;
        Some(before[end..].iter().any(|step| matches!(step, Step::Settle)))
    }
}

fn written(steps: &[Step], by: Side) -> usize {
    let bytes = |step: &Step| match *step {
        Step::Write(side, bytes, _) if side == by => Some(bytes),
        _ => None,
    };
    steps.iter().filter_map(bytes).sum()
}

/// How the two ends of one connection ended.
pub(super) struct Outcome([Ended; 2]);

impl Outcome {
    pub(super) fn of(&self, side: Side) -> &Ended {
        &self.0[side as usize]
    }
}

/// Plays a script. Then both ends finish and read to the end.
pub(super) async fn play(script: &Script, mut ends: [End; 2]) -> Outcome {
    for (index, step) in script.0.iter().enumerate() {
        match *step {
            Step::Write(side, bytes, piece) => ends[side as usize].write(bytes, piece),
            Step::Finish(side, finish) => ends[side as usize].finish(finish),
            Step::Pause(side) => ends[side as usize].pace(Pace::Paused),
            Step::Read(side, size) => ends[side as usize].pace(Pace::Buffer(size)),
            Step::Abort(side) => ends[side as usize].abort().await,
            Step::Settle => {
                let past = &script.0[..index];
                for end in &ends {
                    end.pace(Pace::Buffer(65_536));
                }
                for side in [Side::Client, Side::Backend] {
                    let from = side.other();
                    let ended = |step: &Step| matches!(step, Step::Finish(s, _) if *s == from);
                    ends[side as usize].heard(written(past, from), past.iter().any(ended)).await;
                }
            }
        }
    }
    for end in &ends {
        end.finish(Finish::Proper);
        end.pace(Pace::Buffer(65_536));
    }
    let [client, backend] = ends;
    let (client, backend) = tokio::join!(client.ended(), backend.ended());
    Outcome([client, backend])
}
