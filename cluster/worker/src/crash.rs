//! Named places where a simulated worker may be told to die, as a process does: at once, with everything it held.

use std::str::FromStr;

/// A place in the life of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CrashPoint {
    PrefillBeforeChunk,
    PrefillMidTransfer,
    PrefillBeforeCommit,
    HandoffAfterChunk,
    HandoffBeforeCommit,
    DecodeStep,
    DecodeBeforeDone,
}

const NAMES: [(&str, CrashPoint); 7] = [
    ("prefill.before_chunk", CrashPoint::PrefillBeforeChunk),
    ("prefill.mid_transfer", CrashPoint::PrefillMidTransfer),
    ("prefill.before_commit", CrashPoint::PrefillBeforeCommit),
    ("handoff.after_chunk", CrashPoint::HandoffAfterChunk),
    ("handoff.before_commit", CrashPoint::HandoffBeforeCommit),
    ("decode.step", CrashPoint::DecodeStep),
    ("decode.before_done", CrashPoint::DecodeBeforeDone),
];

/// Where to die, and at which passing: `<point>[:<n>]`, the first if no number is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashPlan {
    point: CrashPoint,
    passings_left: u32,
}

impl FromStr for CrashPlan {
    type Err = String;

    fn from_str(text: &str) -> Result<CrashPlan, String> {
        let (name, count) = text.split_once(':').unwrap_or((text, "1"));
        let known = || NAMES.map(|(name, _)| name).join(", ");
        let point = NAMES.iter().find(|(known, _)| *known == name).ok_or_else(|| format!("not one of {}", known()))?.1;
        match count.parse() {
            Ok(passings_left @ 1..) => Ok(CrashPlan { point, passings_left }),
            Ok(0) | Err(_) => Err("the passing must be a number from 1".into()),
        }
    }
}

/// Counts passings; does nothing without a plan.
#[derive(Debug, Default)]
pub(crate) struct Crasher(pub(crate) Option<CrashPlan>);

impl Crasher {
    pub(crate) fn pass(&mut self, point: CrashPoint) {
        if self.is_due(point) {
            tracing::error!(?point, "dying, as told by the crash plan");
            std::process::abort();
        }
    }

    fn is_due(&mut self, point: CrashPoint) -> bool {
        let Some(plan) = self.0.as_mut().filter(|plan| plan.point == point) else {
            return false;
        };
        plan.passings_left = plan.passings_left.saturating_sub(1);
        plan.passings_left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_at_the_nth_passing_of_its_point_only() {
        let mut crasher = Crasher(Some("decode.step:3".parse().unwrap()));
        let points = [CrashPoint::DecodeStep, CrashPoint::DecodeBeforeDone, CrashPoint::DecodeStep];
        assert!(points.into_iter().all(|point| !crasher.is_due(point)));
        assert!(crasher.is_due(CrashPoint::DecodeStep));
        assert!(!Crasher(None).is_due(CrashPoint::DecodeStep));
    }

    #[test]
    fn wrong_plans_are_refused() {
        for text in ["", "decode", "decode.step:0", "decode.step:x", "decode.step:"] {
            assert!(text.parse::<CrashPlan>().is_err(), "{text}");
        }
    }
}
