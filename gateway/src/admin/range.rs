//! Ranges of time that a caller asks about: half-open, and never without an end.

use super::time::Time;
use crate::clock::Micros;
use crate::error::{Error, Result};

/// A day in µs.
const DAY: Micros = 86_400_000_000;

/// From one time up to, but not including, another; µs since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// In it.
    pub from: Micros,
    /// The first time that is not.
    pub to: Micros,
}

/// How long a range is when the caller does not say, and at most; in days.
#[derive(Debug, Clone, Copy)]
pub struct Days {
    /// Unless said otherwise.
    pub default: i64,
    /// At most.
    pub most: i64,
}

impl Range {
    /// What the caller asks for. Without `to` it ends now, without `from` it is as long as the default.
    ///
    /// # Errors
    /// `Invalid`, naming `from`, for a range that is empty, turned round, or too long.
    pub fn of(from: Option<Time>, to: Option<Time>, now: Micros, days: Days) -> Result<Range> {
        let to = to.map_or(now, |time| time.0);
        let from = from.map_or((to - days.default * DAY).max(0), |time| time.0);
        if from >= to {
            return Err(Error::invalid("from", "`from` must be before `to`, which is now unless given."));
        }
        if to - from > days.most * DAY {
            let text = format!("The range from `from` to `to` (now unless given) is at most {} days long.", days.most);
            return Err(Error::invalid("from", text));
        }
        Ok(Range { from, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAYS: Days = Days { default: 1, most: 31 };
    const NOW: Micros = 100 * DAY;

    #[test]
    fn what_is_not_said_is_the_last_day() {
        let of = |from: Option<Micros>, to: Option<Micros>| Range::of(from.map(Time), to.map(Time), NOW, DAYS).unwrap();
        assert_eq!(of(None, None), Range { from: 99 * DAY, to: NOW });
        assert_eq!(of(Some(90 * DAY), None), Range { from: 90 * DAY, to: NOW });
        assert_eq!(of(None, Some(50 * DAY)), Range { from: 49 * DAY, to: 50 * DAY });
        assert_eq!(of(None, Some(1)), Range { from: 0, to: 1 });
        assert_eq!(of(Some(19 * DAY), Some(50 * DAY)), Range { from: 19 * DAY, to: 50 * DAY });
    }

    #[test]
    fn a_range_that_is_empty_turned_round_or_too_long_is_refused() {
        for (from, to) in [(5, Some(5)), (6, Some(5)), (NOW, None), (19 * DAY - 1, Some(50 * DAY)), (0, None)] {
            let error = Range::of(Some(Time(from)), to.map(Time), NOW, DAYS).unwrap_err();
            assert_eq!(error.param.as_deref(), Some("from"), "{from} {to:?}");
        }
    }
}
