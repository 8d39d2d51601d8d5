//! How domain types become column values, the same on both engines, and the check that no bind is missing.

use crate::error::{Error, ErrorKind, Result};
use crate::id::{Id, Named};
use crate::money::Nanousd;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::{Database, Decode, Encode, Type};

/// A count as its column holds it.
///
/// # Errors
/// `Invalid` beyond 2⁶³ − 1.
pub(crate) fn count(count: u64) -> Result<i64> {
    i64::try_from(count).map_err(|error| Error::new(ErrorKind::Invalid, "A count is too large.").caused_by(error))
}

/// Fails to compile a query whose highest placeholder is not the number of its binds, or that has more than 99.
pub(super) const fn check_binds(sql: &str, binds: usize) {
    let text = sql.as_bytes();
    let mut seen = [false; 100];
    let mut at = 0;
    while at < text.len() {
        if text[at] == b'$' {
            let mut number = 0;
            while at + 1 < text.len() && text[at + 1].is_ascii_digit() {
                number = number * 10 + (text[at + 1] - b'0') as usize;
                at += 1;
            }
            assert!(number >= 1 && number <= binds, "the query names a placeholder that nothing is bound to");
            seen[number] = true;
        }
        at += 1;
    }
    let mut number = 1;
    while number <= binds {
        assert!(seen[number], "something is bound that the query does not name");
        number += 1;
    }
}

impl<K, DB: Database> Type<DB> for Id<K>
where
    String: Type<DB>,
{
    fn type_info() -> DB::TypeInfo {
        String::type_info()
    }

    fn compatible(given: &DB::TypeInfo) -> bool {
        String::compatible(given)
    }
}

impl<'q, K: Named, DB: Database> Encode<'q, DB> for Id<K>
where
    String: Encode<'q, DB>,
{
    fn encode_by_ref(&self, buffer: &mut DB::ArgumentBuffer) -> Result<IsNull, BoxDynError> {
        self.as_str().to_owned().encode(buffer)
    }
}

impl<'r, K: Named, DB: Database> Decode<'r, DB> for Id<K>
where
    String: Decode<'r, DB>,
{
    fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxDynError> {
        let text = String::decode(value)?;
        Id::parse(&text).ok_or_else(|| format!("a column holds no id of the form {}_…", K::PREFIX).into())
    }
}

impl<DB: Database> Type<DB> for Nanousd
where
    i64: Type<DB>,
{
    fn type_info() -> DB::TypeInfo {
        i64::type_info()
    }

    fn compatible(given: &DB::TypeInfo) -> bool {
        i64::compatible(given)
    }
}

impl<'q, DB: Database> Encode<'q, DB> for Nanousd
where
    i64: Encode<'q, DB>,
{
    fn encode_by_ref(&self, buffer: &mut DB::ArgumentBuffer) -> Result<IsNull, BoxDynError> {
        self.0.encode_by_ref(buffer)
    }
}

impl<'r, DB: Database> Decode<'r, DB> for Nanousd
where
    i64: Decode<'r, DB>,
{
    fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxDynError> {
        i64::decode(value).map(Nanousd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_with_as_many_binds_as_placeholders_passes() {
        check_binds("SELECT 1", 0);
        check_binds("SELECT $2, $1, $1", 2);
    }

    #[test]
    #[should_panic(expected = "nothing is bound to")]
    fn a_missing_bind_is_caught() {
        check_binds("INSERT INTO t VALUES ($1, $2)", 1);
    }

    #[test]
    #[should_panic(expected = "does not name")]
    fn a_bind_too_many_is_caught() {
        check_binds("INSERT INTO t VALUES ($1, $3)", 3);
    }
}
