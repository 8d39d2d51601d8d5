//! Money, times and lengths of time, as people write and read them.

use crate::admin::time::Time;
use crate::clock::Micros;
use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

const SECOND: Micros = 1_000_000;
const DAY: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");

/// Nano-USD in dollars, to the last digit.
pub(super) fn usd(nanousd: i64) -> String {
    let sign = if nanousd < 0 { "-" } else { "" };
    let amount = nanousd.unsigned_abs();
    format!("{sign}${}.{:09}", amount / 1_000_000_000, amount % 1_000_000_000)
}

/// A price of the API, pico-USD per token, as people compare prices: dollars for a million tokens.
pub(super) fn usd_per_million(picousd_per_token: i64) -> String {
    let sign = if picousd_per_token < 0 { "-" } else { "" };
    let price = picousd_per_token.unsigned_abs();
    let (whole, rest) = (price / 1_000_000, format!("{:06}", price % 1_000_000));
    // Cents are always there; what is finer only where it is.
    let (cents, finer) = rest.split_at(2);
    format!("{sign}${whole}.{cents}{}", finer.trim_end_matches('0'))
}

/// Dollars for a million tokens as the API takes a price: pico-USD per token, exactly.
///
/// # Errors
/// Says what is asked for.
pub(super) fn picousd_per_token(text: &str) -> Result<i64, String> {
    let refuse = || format!("`{text}` is no price such as 0.06: dollars for a million tokens, at most six decimals");
    let (whole, decimals) = text.trim_start_matches('$').split_once('.').unwrap_or((text.trim_start_matches('$'), ""));
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || decimals.len() > 6 || !is_digits(whole) || !is_digits(decimals) {
        return Err(refuse());
    }
    let whole: i64 = whole.parse().map_err(|_| refuse())?;
    let decimals: i64 = format!("{decimals:0<6}").parse().map_err(|_| refuse())?;
    whole.checked_mul(1_000_000).and_then(|price| price.checked_add(decimals)).ok_or_else(refuse)
}

/// A time of the API without its fraction of a second; what is no such time stays.
pub(super) fn to_the_second(time: &str) -> String {
    match time.strip_suffix('Z').and_then(|time| time.split_once('.')) {
        Some((whole, _)) => format!("{whole}Z"),
        None => time.to_owned(),
    }
}

/// A length of time such as `90d`, `24h`, `1h30m` or `2w`, in seconds.
///
/// # Errors
/// Says what is asked for.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let refuse = || format!("`{text}` is no length of time such as 30m, 24h, 90d or 2w");
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| refuse())?;
        let unit = after.chars().next().ok_or_else(refuse)?;
        let length: u64 = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 7 * 86_400,
            _ => return Err(refuse()),
        };
        total = number.checked_mul(length).and_then(|part| total.checked_add(part)).ok_or_else(refuse)?;
        rest = &after[unit.len_utf8()..];
    }
    // Ten years fit many times over; what doesn't is a typing mistake.
    if text.is_empty() || total > 100 * 366 * 86_400 { Err(refuse()) } else { Ok(total) }
}

/// A time as the API takes it: RFC 3339, or a day in UTC.
///
/// # Errors
/// Says what is asked for.
pub(super) fn at(text: &str) -> Result<String, String> {
    let day = || Date::parse(text, DAY).ok().and_then(|day| day.midnight().assume_utc().format(&Rfc3339).ok());
    Time::parse(text)
        .map(|time| time.to_string())
        .or_else(day)
        .ok_or_else(|| format!("`{text}` is no time such as 2027-01-31T12:00:00Z, and no day such as 2027-01-31"))
}

/// As [`at`], or so long ago: `7d`.
///
/// # Errors
/// Says what is asked for.
pub(super) fn at_or_ago(text: &str) -> Result<String, String> {
    match seconds(text) {
        Ok(seconds) => Ok(shifted(-i64::try_from(seconds).map_err(|error| error.to_string())?)),
        Err(_) => at(text).map_err(|error| format!("{error}, nor a length of time ago such as 7d")),
    }
}

/// So many seconds from now, as the API takes it.
pub(super) fn shifted(seconds: i64) -> String {
    let now = OffsetDateTime::now_utc().unix_timestamp();
    Time(now.saturating_add(seconds).max(0).saturating_mul(SECOND)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_shown_to_the_last_digit_without_floating_point() {
        for (nanousd, text) in [
            (0, "$0.000000000"),
            (1, "$0.000000001"),
            (-1, "-$0.000000001"),
            (1_234_567_890, "$1.234567890"),
            (i64::MAX, "$9223372036.854775807"),
            (i64::MIN, "-$9223372036.854775808"),
        ] {
            assert_eq!(usd(nanousd), text);
        }
    }

    #[test]
    fn a_price_is_dollars_for_a_million_tokens_and_exact_both_ways() {
        for (picousd, text) in
            [(0, "$0.00"), (60_000, "$0.06"), (1_000_000, "$1.00"), (37_500, "$0.0375"), (1, "$0.000001")]
        {
            assert_eq!(usd_per_million(picousd), text);
            assert_eq!(picousd_per_token(text).unwrap(), picousd);
        }
        assert_eq!(picousd_per_token("15"), Ok(15_000_000));
        for text in ["", "$", ".5", "-1", "1e3", "0.0000001", "1,5", "9223372036855", "0.1.2"] {
            assert!(picousd_per_token(text).unwrap_err().contains("no price"), "{text}");
        }
    }

    #[test]
    fn a_length_of_time_is_read_as_people_write_it() {
        for (text, expected) in [
            ("0s", 0),
            ("45s", 45),
            ("30m", 1_800),
            ("24h", 86_400),
            ("90d", 7_776_000),
            ("2w", 1_209_600),
            ("1h30m", 5_400),
        ] {
            assert_eq!(seconds(text).unwrap(), expected, "{text}");
        }
        for text in ["", "90", "d", "-1d", "1.5h", "90 d", "1y", "99999999999d", "18446744073709551616s", "1dé"] {
            assert!(seconds(text).unwrap_err().contains("length of time"), "{text}");
        }
    }

    #[test]
    fn a_time_may_be_a_moment_a_day_or_so_long_ago() {
        assert_eq!(at("2027-01-31T12:00:00+02:00").unwrap(), "2027-01-31T10:00:00Z");
        assert_eq!(at("2027-01-31").unwrap(), "2027-01-31T00:00:00Z");
        for text in ["yesterday", "2027-02-30", "31.1.2027"] {
            assert!(at(text).unwrap_err().contains("no day such as"), "{text}");
        }
        let ago = Time::parse(&at_or_ago("7d").unwrap()).unwrap().0;
        let now = OffsetDateTime::now_utc().unix_timestamp() * SECOND;
        assert!((now - ago - 7 * 86_400 * SECOND).abs() < 5 * SECOND);
        assert_eq!(at_or_ago("2027-01-31").unwrap(), "2027-01-31T00:00:00Z");
        assert!(at_or_ago("soon").unwrap_err().contains("7d"));
    }

    #[test]
    fn a_time_is_shown_to_the_second() {
        assert_eq!(to_the_second("2026-11-23T18:26:54.123456Z"), "2026-11-23T18:26:54Z");
        assert_eq!(to_the_second("2026-11-23T18:26:54Z"), "2026-11-23T18:26:54Z");
        assert_eq!(to_the_second("v1.2"), "v1.2");
    }
}
