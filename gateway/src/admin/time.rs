//! Times of the admin API: RFC 3339, in UTC, to the microsecond.

use crate::clock::{Micros, rfc3339};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-11-23T18:26:54.123456Z")]
pub struct Time(#[serde(with = "rfc3339")] pub Micros);

impl Time {
    /// From RFC 3339 text, with any offset, of the years 1970 to 9999.
    pub fn parse(text: &str) -> Option<Time> {
        rfc3339::parse(text).map(Time)
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&rfc3339::text(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_with_any_offset_and_written_in_utc() {
        let time = Time::parse("2027-01-31T12:00:00.5+02:00").unwrap();
        assert_eq!(time.to_string(), "2027-01-31T10:00:00.5Z");
        assert_eq!(Time::parse(&time.to_string()), Some(time));
        assert_eq!(serde_json::to_string(&Time(0)).unwrap(), r#""1970-01-01T00:00:00Z""#);
    }

    #[test]
    fn what_is_no_time_of_ours_is_refused() {
        for text in
            ["", "now", "1969-12-31T23:59:59Z", "2027-01-31", "2027-13-01T00:00:00Z", "1e9", "2027-01-31T12:00:00"]
        {
            assert_eq!(Time::parse(text), None, "{text}");
        }
    }
}
