//! From usage and prices to an amount. Pure.

use crate::catalog::Price;
use crate::inference::Usage;
use crate::money::{Nanousd, PicousdPerToken};

/// What `usage` costs: each bucket rounded up once to whole nano-USD, then summed. Reasoning is priced as output, and a
/// cache bucket without a price of its own as input. `None` when it does not fit or a price is negative.
pub fn rate(price: &Price, usage: &Usage) -> Option<Nanousd> {
    let Usage { input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens } = *usage;
    let buckets = [
        (price.input, input_tokens),
        (price.cache_read.unwrap_or(price.input), cache_read_tokens),
        (price.cache_write.unwrap_or(price.input), cache_write_tokens),
        (price.output, output_tokens),
        (price.output, reasoning_tokens),
    ];
    buckets.into_iter().try_fold(Nanousd(0), |sum, (price, tokens)| sum.checked_add(price.cost(tokens)?))
}

/// Whether any usage of at most `tokens` tokens, however it falls into buckets, can be rated.
pub(super) fn can_rate(price: &Price, tokens: u64) -> bool {
    let prices = [Some(price.input), Some(price.output), price.cache_read, price.cache_write];
    let dearest = prices.iter().flatten().max().copied().unwrap_or_default();
    let none_negative = prices.iter().flatten().all(|&price| price >= PicousdPerToken(0));
    let rounding = Nanousd(4); // five buckets round up where one sum would once
    none_negative && dearest.cost(tokens).and_then(|cost| cost.checked_add(rounding)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn price(input: i64, output: i64, cache: Option<(i64, i64)>) -> Price {
        Price {
            input: PicousdPerToken(input),
            output: PicousdPerToken(output),
            cache_read: cache.map(|(read, _)| PicousdPerToken(read)),
            cache_write: cache.map(|(_, write)| PicousdPerToken(write)),
            source: "test".into(),
        }
    }

    const ONE_EACH: Usage =
        Usage { input_tokens: 1, cache_read_tokens: 1, cache_write_tokens: 1, output_tokens: 1, reasoning_tokens: 1 };

    #[test]
    fn each_bucket_has_its_own_price_and_rounds_up_once() {
        assert_eq!(rate(&price(1_000, 5_000, Some((100, 2_000))), &ONE_EACH), Some(Nanousd(1 + 1 + 2 + 5 + 5)));
        let thousand = Usage { input_tokens: 1_000, ..Usage::default() };
        assert_eq!(rate(&price(1, 1, None), &thousand), Some(Nanousd(1)));
    }

    #[test]
    fn a_cache_without_a_price_costs_as_input() {
        assert_eq!(rate(&price(3_000, 0, None), &ONE_EACH), Some(Nanousd(9)));
    }

    #[test]
    fn nothing_costs_nothing_and_what_does_not_fit_is_none() {
        assert_eq!(rate(&price(i64::MAX, i64::MAX, None), &Usage::default()), Some(Nanousd(0)));
        let much = Usage { input_tokens: 1_000, output_tokens: 1_000, ..Usage::default() };
        assert_eq!(rate(&price(i64::MAX, i64::MAX, None), &much), None);
        assert_eq!(rate(&price(-1, 0, None), &Usage::default()), None);
    }

    proptest! {
        #[test]
        fn what_was_accepted_can_be_rated_however_it_falls_into_buckets(
            magnitudes in prop::array::uniform3(0u32..63),
            spare in 0u64..10,
            parts in prop::array::uniform5(0u64..20_000),
        ) {
            let [input, output, read] = magnitudes.map(|magnitude| i64::MAX >> magnitude);
            let price = price(input, output, Some((read, 0)));
            prop_assume!(can_rate(&price, parts.iter().sum::<u64>() + spare));
            let [input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens] = parts;
            let usage = Usage { input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens };
            prop_assert!(rate(&price, &usage).is_some());
        }
    }
}
