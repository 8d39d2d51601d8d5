//! Times as the admin API writes them: RFC 3339, in UTC, to the microsecond. For serde's `with`, [`optional`] where there
//! may be none.

use super::Micros;
use serde::{Deserialize, Deserializer, Serializer, de::Error as _};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

/// From text with any offset, of the years 1970 to 9999.
pub fn parse(text: &str) -> Option<Micros> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    let micros = Micros::try_from(time.unix_timestamp_nanos() / 1_000).ok()?;
    (micros >= 0).then_some(micros)
}

/// As text; a time that no calendar has is the first one.
pub fn text(at: Micros) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at) * 1_000);
    let text = time.ok().and_then(|time| time.to_offset(UtcOffset::UTC).format(&Rfc3339).ok());
    text.unwrap_or_else(|| "1970-01-01T00:00:00Z".to_owned())
}

/// Writes a time.
pub fn serialize<S: Serializer>(at: &Micros, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(*at))
}

/// Reads a time.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Micros, D::Error> {
    read(&String::deserialize(deserializer)?)
}

fn read<E: serde::de::Error>(text: &str) -> Result<Micros, E> {
    parse(text).ok_or_else(|| E::custom("not a time such as 2027-01-31T12:00:00Z"))
}

/// The same for a time that may be absent, or `null`.
pub mod optional {
    use super::*;

    /// Writes a time, or `null`.
    pub fn serialize<S: Serializer>(at: &Option<Micros>, serializer: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => super::serialize(at, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads a time, or `null`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Micros>, D::Error> {
        Option::<String>::deserialize(deserializer)?.as_deref().map(read).transpose()
    }

    /// Reads what a patch says of a time that may be cleared: `null` is told apart from absent.
    pub fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Micros>>, D::Error> {
        deserialize(deserializer).map(Some)
    }

    /// Reads what a patch says of a time that can't be cleared.
    pub fn stated<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Micros>, D::Error> {
        match deserialize(deserializer)? {
            Some(at) => Ok(Some(at)),
            None => Err(D::Error::custom("must not be null; leave it out to keep it")),
        }
    }
}
