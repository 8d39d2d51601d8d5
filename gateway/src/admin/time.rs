//! Times of the admin API: RFC 3339, in UTC, to the microsecond.

use crate::clock::Micros;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};
use utoipa::ToSchema;

/// A time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-11-23T18:26:54.123456Z")]
pub struct Time(pub Micros);

impl Time {
    /// From RFC 3339 text, with any offset, of the years 1970 to 9999.
    pub fn parse(text: &str) -> Option<Time> {
        let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        let micros = Micros::try_from(time.unix_timestamp_nanos() / 1_000).ok()?;
        (micros >= 0).then_some(Time(micros))
    }
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000);
        let text = time.ok().and_then(|time| time.to_offset(UtcOffset::UTC).format(&Rfc3339).ok());
        f.write_str(text.as_deref().unwrap_or("1970-01-01T00:00:00Z"))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Time::parse(&text).ok_or_else(|| D::Error::custom("not a time such as 2027-01-31T12:00:00Z"))
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
