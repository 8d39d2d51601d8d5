//! Money in integers: prices in pico-USD per token, amounts in nano-USD.

use serde::{Deserialize, Serialize};

/// 10⁻¹² USD per token. One USD per million tokens is 1,000,000.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PicousdPerToken(pub i64);

/// 10⁻⁹ USD.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nanousd(pub i64);

impl Nanousd {
    /// `None` when it would not fit.
    pub fn checked_add(self, other: Nanousd) -> Option<Nanousd> {
        self.0.checked_add(other.0).map(Nanousd)
    }
}

impl PicousdPerToken {
    /// Price of `tokens`, rounded up to whole nano-USD: called once per usage bucket. `None` when it would not fit, or
    /// the price is negative.
    pub fn cost(self, tokens: u64) -> Option<Nanousd> {
        if self.0 < 0 {
            return None;
        }
        let picousd = i128::from(self.0).checked_mul(i128::from(tokens))?;
        i64::try_from((picousd + 999) / 1000).ok().map(Nanousd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_rounded_up_once() {
        assert_eq!(PicousdPerToken(60_000).cost(3), Some(Nanousd(180)));
        assert_eq!(PicousdPerToken(1).cost(1), Some(Nanousd(1)));
        assert_eq!(PicousdPerToken(1).cost(1001), Some(Nanousd(2)));
        assert_eq!(PicousdPerToken(0).cost(u64::MAX), Some(Nanousd(0)));
    }

    #[test]
    fn what_does_not_fit_is_none_and_never_wraps() {
        assert_eq!(PicousdPerToken(i64::MAX).cost(u64::MAX), None);
        assert_eq!(PicousdPerToken(-1).cost(1), None);
        assert_eq!(Nanousd(i64::MAX).checked_add(Nanousd(1)), None);
    }
}
