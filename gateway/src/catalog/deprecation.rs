//! The end of a model's life, announced: callers are told before it, and refused after it.

use crate::clock::{Micros, rfc3339};
use crate::error::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use time::macros::format_description;
use time::{OffsetDateTime, format_description::BorrowedFormatItem};
use utoipa::ToSchema;

/// As RFC 9110 writes dates.
const HTTP_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
const DAY: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");

/// Says that a model is on its way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Deprecation {
    /// For callers; at most 500 characters.
    #[schema(min_length = 1, max_length = 500, example = "Its context is too short for our documents.")]
    pub message: Option<String>,
    /// Id of the model to use instead.
    #[schema(example = "amazon.nova-2-lite-v1:0")]
    pub replacement: Option<String>,
    /// Since when callers should leave it; may lie ahead.
    #[serde(with = "rfc3339")]
    #[schema(value_type = String, format = DateTime, example = "2026-01-01T00:00:00Z")]
    pub deprecated_at: Micros,
    /// From this moment on calls are refused; not before `deprecated_at`. Absent: not decided yet.
    #[serde(default, with = "rfc3339::optional")]
    #[schema(value_type = Option<String>, format = DateTime, example = "2026-07-01T00:00:00Z")]
    pub sunset_at: Option<Micros>,
}

impl Deprecation {
    /// Whether calls are refused by now.
    pub fn is_over(&self, now: Micros) -> bool {
        self.sunset_at.is_some_and(|sunset_at| sunset_at <= now)
    }

    /// Value of the header `Deprecation`, as RFC 9745 has it: `@` and seconds since 1970.
    pub fn deprecation_header(&self) -> String {
        format!("@{}", self.deprecated_at.div_euclid(1_000_000))
    }

    /// Value of the header `Sunset`, as RFC 8594 has it: an HTTP date. `None` when the end is not decided.
    pub fn sunset_header(&self) -> Option<String> {
        written(self.sunset_at?, HTTP_DATE)
    }

    /// The refusal after the end.
    pub(super) fn refusal(&self, id: &str) -> Error {
        let on = self.sunset_at.and_then(|at| written(at, DAY)).map(|day| format!(" on {day}")).unwrap_or_default();
        let mut text = format!("The model {id} was withdrawn{on}.");
        if let Some(replacement) = &self.replacement {
            text += &format!(" Use {replacement} instead.");
        }
        if let Some(message) = &self.message {
            text += &format!(" {message}");
        }
        Error::new(ErrorKind::ModelNotServed, text)
    }
}

fn written(at: Micros, form: &[BorrowedFormatItem<'_>]) -> Option<String> {
    OffsetDateTime::from_unix_timestamp(at.div_euclid(1_000_000)).ok()?.format(form).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 8594, and that of RFC 9745.
    #[test]
    fn the_headers_are_written_as_their_standards_write_them() {
        let deprecation = Deprecation {
            message: None,
            replacement: None,
            deprecated_at: 1_688_169_599_999_999,
            sunset_at: Some(1_546_300_799_000_000),
        };
        assert_eq!(deprecation.deprecation_header(), "@1688169599");
        assert_eq!(deprecation.sunset_header().unwrap(), "Mon, 31 Dec 2018 23:59:59 GMT");
        assert_eq!(Deprecation { sunset_at: None, ..deprecation }.sunset_header(), None);
    }

    #[test]
    fn it_is_over_at_the_very_microsecond() {
        let deprecation =
            Deprecation { message: None, replacement: None, deprecated_at: 0, sunset_at: Some(1_000_000) };
        assert!(!deprecation.is_over(999_999));
        assert!(deprecation.is_over(1_000_000));
        assert!(!Deprecation { sunset_at: None, ..deprecation }.is_over(Micros::MAX));
    }

    #[test]
    fn the_refusal_says_since_when_and_what_to_use_instead() {
        let deprecation = Deprecation {
            message: Some("Ask the platform team.".into()),
            replacement: Some("b.model".into()),
            deprecated_at: 0,
            sunset_at: Some(1_546_300_799_000_000),
        };
        let refusal = deprecation.refusal("a.model");
        assert_eq!(refusal.kind, ErrorKind::ModelNotServed);
        assert_eq!(
            refusal.message,
            "The model a.model was withdrawn on 2018-12-31. Use b.model instead. Ask the platform team."
        );
    }
}
