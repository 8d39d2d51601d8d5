//! Pages of lists, by key and not by number: what is added or removed in between moves nothing.

use crate::error::{Error, Result};
use crate::id::{Id, Named};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Entries of a page unless asked otherwise.
const DEFAULT: u32 = 50;
/// Most entries of a page.
const MOST: u32 = 200;

/// Which page.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    /// Most entries; 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<u32>,
    /// Begin after this one: the former page's `next_after`.
    pub after: Option<String>,
}

/// A page of a list.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The entries.
    pub data: Vec<T>,
    /// Whether more come after them.
    pub has_more: bool,
    /// For the next page's `after`; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_after: Option<String>,
}

impl PageQuery {
    /// Entries of this page.
    ///
    /// # Errors
    /// `Invalid`, naming `limit`.
    pub fn size(&self) -> Result<usize> {
        size(self.limit)
    }
}

/// Entries of a page whose caller asked for `limit`.
///
/// # Errors
/// `Invalid`, naming `limit`.
pub fn size(limit: Option<u32>) -> Result<usize> {
    match limit.unwrap_or(DEFAULT) {
        limit @ 1..=MOST => Ok(limit as usize),
        _ => Err(Error::invalid("limit", format!("A page has 1 to {MOST} entries."))),
    }
}

/// The id that a list's page begins after, if the caller names one.
///
/// # Errors
/// `Invalid`, naming `after`, for what can be no id of the list.
pub fn after<K: Named>(text: Option<&str>) -> Result<Option<Id<K>>> {
    let refuse = || Error::invalid("after", "It is no `next_after` of this list.");
    text.map(|text| Id::parse(text).ok_or_else(refuse)).transpose()
}

/// As many rows as a query must ask for, so that [`Page::of`] knows whether more come.
pub fn rows(size: usize) -> i64 {
    i64::try_from(size + 1).unwrap_or(i64::MAX)
}

impl<T> Page<T> {
    /// From up to `size + 1` rows.
    pub fn of<R>(mut rows: Vec<R>, size: usize, id: impl Fn(&R) -> String, view: impl FnMut(R) -> T) -> Page<T> {
        let has_more = rows.len() > size;
        rows.truncate(size);
        let next_after = rows.last().filter(|_| has_more).map(id);
        Page { data: rows.into_iter().map(view).collect(), has_more, next_after }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ProjectId, kinds};

    #[test]
    fn a_page_says_whether_and_where_more_begins() {
        let page = |rows: Vec<u8>| {
            let page = Page::of(rows, 2, u8::to_string, |row| row);
            (page.data, page.has_more, page.next_after)
        };
        assert_eq!(page(vec![]), (vec![], false, None));
        assert_eq!(page(vec![1, 2]), (vec![1, 2], false, None));
        assert_eq!(page(vec![1, 2, 3]), (vec![1, 2], true, Some("2".into())));
        assert_eq!(rows(2), 3);
    }

    #[test]
    fn a_page_begins_after_an_id_of_its_own_kind_only() {
        let id = ProjectId::new();
        assert_eq!(after(Some(id.as_str())).unwrap(), Some(id));
        assert_eq!(after::<kinds::Project>(None).unwrap(), None);
        for text in ["", "x", "ten_1", "prj_", "prj_a b"] {
            assert_eq!(after::<kinds::Project>(Some(text)).unwrap_err().param.as_deref(), Some("after"), "{text}");
        }
    }

    #[test]
    fn a_page_is_neither_empty_nor_endless() {
        assert_eq!(size(None).unwrap(), 50);
        assert_eq!(size(Some(200)).unwrap(), 200);
        for limit in [0, 201, u32::MAX] {
            assert_eq!(size(Some(limit)).unwrap_err().param.as_deref(), Some("limit"));
        }
    }
}
