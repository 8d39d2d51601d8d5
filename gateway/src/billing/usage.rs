//! What was used and what it costs, summed over what was settled in a range of time.

use crate::clock::Micros;
use crate::error::Result;
use crate::id::{KeyId, ProjectId, TenantId};
use crate::money::Nanousd;
use crate::store::{Store, UsageFilter, UsageGroup, UsageRow};
use serde::{Deserialize, Serialize};

/// Stretches of time, of UTC, named by their start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// 3,600 seconds.
    Hour,
    /// 86,400 seconds.
    Day,
}

impl Bucket {
    /// How long it is, in µs.
    pub fn micros(self) -> Micros {
        match self {
            Bucket::Hour => 3_600_000_000,
            Bucket::Day => 86_400_000_000,
        }
    }
}

/// Which usage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageOf {
    /// Settled at this time or later, µs since 1970.
    pub from: Micros,
    /// Settled before this time, µs since 1970.
    pub to: Micros,
    /// Of this project.
    pub project: Option<ProjectId>,
    /// With this credential.
    pub key: Option<KeyId>,
    /// Answered by this model.
    pub model: Option<String>,
    /// Summed by what.
    pub by: Grouping,
}

/// What usage is summed by; by nothing, all is one group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Grouping {
    /// Project by project.
    pub project: bool,
    /// Credential by credential.
    pub key: bool,
    /// Model by model.
    pub model: bool,
    /// Hour by hour, or day by day.
    pub time: Option<Bucket>,
}

/// Names a group, and says where the next page begins. What usage is not summed by is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Start of its stretch of time, µs since 1970.
    pub start: Option<Micros>,
    /// `prj_…`
    pub project: Option<String>,
    /// `key_…`
    pub key: Option<String>,
    /// Catalog id.
    pub model: Option<String>,
}

/// Sums of counts and money. The five counts of tokens are disjoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)] // as in `inference::Usage`
pub struct Sums {
    /// How many were settled.
    pub requests: u64,
    pub input_tokens: u64,
    pub cache_read_tokens: u64,
    pub cache_write_tokens: u64,
    pub output_tokens: u64,
    pub reasoning_tokens: u64,
    /// The sum of their ledger entries.
    pub amount: Nanousd,
}

/// Some groups, and the total of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsagePage {
    /// By time, then project, credential and model. A group without usage is not there.
    pub groups: Vec<(Group, Sums)>,
    /// Of all groups, whether on this page or not.
    pub total: Sums,
}

/// A page of a tenant's usage, with at most `limit` groups after the one named `after`. Groups and total are of one
/// moment.
///
/// # Errors
/// `Invalid` when a sum does not fit 64 bits; those of the store.
pub async fn usage(
    store: &Store,
    tenant: &TenantId,
    of: &UsageOf,
    after: Option<&Group>,
    limit: i64,
) -> Result<UsagePage> {
    let filter = UsageFilter {
        from: of.from,
        to: of.to,
        project: of.project.clone(),
        key: of.key.clone(),
        model: of.model.clone(),
        by_project: of.by.project,
        by_key: of.by.key,
        by_model: of.by.model,
        bucket_us: of.by.time.map_or(Micros::MAX, Bucket::micros),
    };
    let after = after.cloned().map_or_else(UsageGroup::before_all, |group| UsageGroup {
        bucket: group.start.unwrap_or_default(),
        project_id: group.project.unwrap_or_default(),
        key_id: group.key.unwrap_or_default(),
        model: group.model.unwrap_or_default(),
    });
    let mut rows = store.usage(tenant, &filter, &after, limit).await?.into_iter();
    let total = rows.next().map(|row| sums(&row)).unwrap_or_default();
    let groups = rows.map(|row| (named(of.by, row.group.clone()), sums(&row))).collect();
    Ok(UsagePage { groups, total })
}

fn named(by: Grouping, group: UsageGroup) -> Group {
    Group {
        start: by.time.map(|_| group.bucket),
        project: by.project.then_some(group.project_id),
        key: by.key.then_some(group.key_id),
        model: by.model.then_some(group.model),
    }
}

fn sums(row: &UsageRow) -> Sums {
    Sums {
        requests: row.requests,
        input_tokens: row.input_tokens,
        cache_read_tokens: row.cache_read_tokens,
        cache_write_tokens: row.cache_write_tokens,
        output_tokens: row.output_tokens,
        reasoning_tokens: row.reasoning_tokens,
        amount: row.amount_nanousd,
    }
}
