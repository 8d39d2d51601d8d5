//! Identifiers: a prefix that says what it names, and a time-ordered UUID (v7) in hex.

use crate::clock::Micros;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, hash::Hash, marker::PhantomData};
use uuid::Uuid;

/// What an [`Id`] names; never a value.
pub trait Named {
    /// Stands before the underscore.
    const PREFIX: &'static str;
}

/// An identifier of one kind of thing; two kinds can't be mixed up.
pub struct Id<K> {
    text: Box<str>,
    kind: PhantomData<fn() -> K>,
}

/// Marks what ids name.
pub mod kinds {
    use super::Named;

    /// Isolated and billed.
    #[derive(Debug)]
    pub enum Tenant {}
    /// A tenant's unit of keys, limits and reports.
    #[derive(Debug)]
    pub enum Project {}
    /// An API key's or access key's public id.
    #[derive(Debug)]
    pub enum Key {}
    /// An operator's token; belongs to no tenant.
    #[derive(Debug)]
    pub enum AdminToken {}
    /// A machine of a project.
    #[derive(Debug)]
    pub enum ServiceAccount {}
    /// One inference request.
    #[derive(Debug)]
    pub enum Request {}
    /// One line of the ledger.
    #[derive(Debug)]
    pub enum LedgerEntry {}

    impl Named for Tenant {
        const PREFIX: &'static str = "ten";
    }
    impl Named for Project {
        const PREFIX: &'static str = "prj";
    }
    impl Named for Key {
        const PREFIX: &'static str = "key";
    }
    impl Named for AdminToken {
        const PREFIX: &'static str = "adm";
    }
    impl Named for ServiceAccount {
        const PREFIX: &'static str = "sva";
    }
    impl Named for Request {
        const PREFIX: &'static str = "req";
    }
    impl Named for LedgerEntry {
        const PREFIX: &'static str = "led";
    }
}

/// `ten_…`
pub type TenantId = Id<kinds::Tenant>;
/// `prj_…`
pub type ProjectId = Id<kinds::Project>;
/// `key_…`
pub type KeyId = Id<kinds::Key>;
/// `adm_…`
pub type AdminTokenId = Id<kinds::AdminToken>;
/// `sva_…`
pub type ServiceAccountId = Id<kinds::ServiceAccount>;
/// `req_…`
pub type RequestId = Id<kinds::Request>;
/// `led_…`
pub type LedgerEntryId = Id<kinds::LedgerEntry>;

impl<K: Named> Id<K> {
    /// A fresh one, ordered by time of creation.
    pub fn new() -> Self {
        Self::raw(format!("{}_{}", K::PREFIX, Uuid::now_v7().simple()))
    }

    /// Text that sorts before every id that [`Id::new`] makes at `at` (µs since 1970) or later.
    pub fn lower_bound(at: Micros) -> String {
        format!("{}_{:012x}", K::PREFIX, at.max(0) / 1_000)
    }

    /// From text that came from outside or from the store: prefix, then 1 to 64 of `[A-Za-z0-9]`.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(K::PREFIX)?.strip_prefix('_')?;
        let valid = (1..=64).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_alphanumeric());
        valid.then(|| Self::raw(text.to_owned()))
    }

    /// With a given public part, 1 to 64 of `[A-Za-z0-9]`: for credentials, which carry theirs in their own text.
    pub(crate) fn of(public: &str) -> Self {
        debug_assert!((1..=64).contains(&public.len()) && public.bytes().all(|b| b.is_ascii_alphanumeric()));
        Self::raw(format!("{}_{public}", K::PREFIX))
    }

    fn raw(text: String) -> Self {
        Id { text: text.into_boxed_str(), kind: PhantomData }
    }

    /// With its prefix.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Without its prefix.
    pub fn public(&self) -> &str {
        self.text.split_once('_').map_or("", |(_, public)| public)
    }

    /// The hyphenated UUID, where a protocol wants one; `None` for ids that are not UUIDs.
    pub fn uuid(&self) -> Option<Uuid> {
        Uuid::try_parse(self.text.split_once('_')?.1).ok()
    }
}

impl<K: Named> Default for Id<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        Id { text: self.text.clone(), kind: PhantomData }
    }
}

impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl<K> Eq for Id<K> {}

impl<K> Hash for Id<K> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl<K> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<K> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<K> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de, K: Named> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("not an id of the form {}_…", K::PREFIX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_after_the_bound_of_their_time_and_before_a_later_one() {
        let now = crate::clock::Clock::System.now();
        let id = RequestId::new();
        assert!(RequestId::lower_bound(now - 1_000).as_str() < id.as_str());
        assert!(RequestId::lower_bound(now + 60_000_000).as_str() > id.as_str());
        assert!(RequestId::lower_bound(-1).as_str() < id.as_str());
    }

    #[test]
    fn an_id_comes_back_from_its_text_and_no_other_kind_does() {
        let id = TenantId::new();
        assert_eq!(TenantId::parse(id.as_str()), Some(id.clone()));
        assert_eq!(ProjectId::parse(id.as_str()), None);
        assert_eq!(TenantId::parse("ten_"), None);
        assert_eq!(TenantId::parse("ten_a'; DROP TABLE"), None);
        assert!(id.uuid().is_some());
    }
}
