//! What a tenant used and owes.

use super::call::{Call, Reply};
use super::examples;
use super::range::{Days, Range};
use super::requests::{key_id, project_id};
use super::time::Time;
use crate::app::App;
use crate::billing::{self, Bucket, Group, Grouping, Sums, UsageOf};
use crate::error::{Error, Result};
use crate::tenants::Permission;
use axum::Json;
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

const DAYS: Days = Days { default: 30, most: 92 };
/// Groups of a page unless asked otherwise.
const DEFAULT_GROUPS: u32 = 100;
/// Most groups of a page.
const MOST_GROUPS: u32 = 1_000;

/// Which usage, and summed by what.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct UsageQuery {
    /// Settled at this time or later; 30 days before `to` unless given, and at most 92.
    pub from: Option<Time>,
    /// Settled before this time; now unless given.
    pub to: Option<Time>,
    /// At most two of `project`, `key` and `model`, and at most one of `hour` and `day`, with commas between them; without
    /// it all is one group.
    #[param(example = "project,day")]
    pub group_by: Option<String>,
    /// Of this project.
    pub project_id: Option<String>,
    /// With this credential.
    pub key_id: Option<String>,
    /// Answered by this model.
    pub model: Option<String>,
    /// Most groups; 100 unless given.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<u32>,
    /// Begin after this one: the former page's `next_after`.
    pub after: Option<String>,
}

/// What was used, in groups. A group without usage is not there.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[schema(examples(json!(examples::usage())))]
pub struct UsageView {
    /// The range's start.
    pub from: Time,
    /// The range's end, which is not in it.
    pub to: Time,
    /// By time, then project, credential and model.
    pub data: Vec<UsageGroupView>,
    /// Whether more come after them.
    pub has_more: bool,
    /// For the next page's `after`; absent on the last page. Give `from` and `to` with it, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_after: Option<String>,
    /// Of all groups, whether on this page or not.
    pub total: UsageSums,
}

/// A group: what names it, and its sums.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct UsageGroupView {
    /// Start of its hour or day, in UTC. The range may cut the first one and the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Time>,
    /// Its project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// Its credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// Its model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What was used.
    #[serde(flatten)]
    pub sums: UsageSums,
}

/// What was used, as the engine counted and the ledger rated it. The five counts of tokens are disjoint.
#[derive(Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageSums {
    /// Requests that were settled.
    pub requests: u64,
    /// Prompt tokens that were computed.
    pub input_tokens: u64,
    /// Prompt tokens that came out of a cache.
    pub cache_read_tokens: u64,
    /// Prompt tokens that went into a cache.
    pub cache_write_tokens: u64,
    /// Generated tokens that are not reasoning.
    pub output_tokens: u64,
    /// Generated tokens of reasoning.
    pub reasoning_tokens: u64,
    /// The sum of the ledger entries, in 10⁻⁹ USD.
    pub amount_nanousd: i64,
}

impl From<Sums> for UsageSums {
    fn from(sums: Sums) -> UsageSums {
        UsageSums {
            requests: sums.requests,
            input_tokens: sums.input_tokens,
            cache_read_tokens: sums.cache_read_tokens,
            cache_write_tokens: sums.cache_write_tokens,
            output_tokens: sums.output_tokens,
            reasoning_tokens: sums.reasoning_tokens,
            amount_nanousd: sums.amount.0,
        }
    }
}

impl From<(Group, Sums)> for UsageGroupView {
    fn from((group, sums): (Group, Sums)) -> UsageGroupView {
        UsageGroupView {
            start: group.start.map(Time),
            project_id: group.project,
            key_id: group.key,
            model: group.model,
            sums: sums.into(),
        }
    }
}

/// A tenant's usage and what it owes for it, by what was settled in a range of time.
#[utoipa::path(
    get, path = "/admin/v1/tenants/{tenant_id}/usage", operation_id = "get_usage", tag = "usage",
    params(("tenant_id" = String, Path, description = "`ten_…`"), UsageQuery),
    responses((status = 200, body = UsageView)),
    security(("admin_token" = []), ("api_key" = [])), extensions(("x-permission" = json!("read_usage")))
)]
pub async fn get(State(app): State<Arc<App>>, request: Request) -> Reply {
    let call = Call::admit_with_query(&app, request, Permission::ReadUsage).await?;
    let query: UsageQuery = call.query()?;
    let size = size(query.limit)?;
    let Range { from, to } = Range::of(query.from, query.to, call.now(), DAYS)?;
    let of = UsageOf {
        from,
        to,
        project: query.project_id.as_deref().map(project_id).transpose()?,
        key: query.key_id.as_deref().map(key_id).transpose()?,
        model: query.model,
        by: grouping(query.group_by.as_deref())?,
    };
    let after = query.after.as_deref().map(|text| read(text, of.by)).transpose()?;
    let mut page = billing::usage(&call.reports(), call.tenant()?, &of, after.as_ref(), (size + 1).into()).await?;
    let has_more = page.groups.len() > size as usize;
    page.groups.truncate(size as usize);
    let next_after = page.groups.last().filter(|_| has_more).map(|(group, _)| write(group)).transpose()?;
    Ok(Json(UsageView {
        from: Time(from),
        to: Time(to),
        data: page.groups.into_iter().map(UsageGroupView::from).collect(),
        has_more,
        next_after,
        total: page.total.into(),
    })
    .into_response())
}

fn size(limit: Option<u32>) -> Result<u32> {
    match limit.unwrap_or(DEFAULT_GROUPS) {
        limit @ 1..=MOST_GROUPS => Ok(limit),
        _ => Err(Error::invalid("limit", format!("A page has 1 to {MOST_GROUPS} groups."))),
    }
}

fn grouping(text: Option<&str>) -> Result<Grouping> {
    let refuse = |text: String| Error::invalid("group_by", text);
    let mut by = Grouping::default();
    for word in text.into_iter().flat_map(|text| text.split(',')) {
        let (is_new, bucket) = match word {
            "project" => (!std::mem::replace(&mut by.project, true), None),
            "key" => (!std::mem::replace(&mut by.key, true), None),
            "model" => (!std::mem::replace(&mut by.model, true), None),
            "hour" => (by.time.is_none(), Some(Bucket::Hour)),
            "day" => (by.time.is_none(), Some(Bucket::Day)),
            _ => return Err(refuse(format!("`{word}` is none of project, key, model, hour and day."))),
        };
        if !is_new {
            return Err(refuse("Each word comes once, and only one of hour and day.".into()));
        }
        by.time = by.time.or(bucket);
    }
    if [by.project, by.key, by.model].into_iter().filter(|by| *by).count() > 2 {
        return Err(refuse("At most two of project, key and model.".into()));
    }
    Ok(by)
}

/// A group's name as text that fits a URL. Callers pass it on and don't read it.
fn write(group: &Group) -> Result<String> {
    Ok(URL_SAFE_NO_PAD.encode(serde_json::to_vec(group).map_err(Error::internal)?))
}

fn read(text: &str, by: Grouping) -> Result<Group> {
    let refuse = || Error::invalid("after", "It is no `next_after` of this list, with this `group_by`.");
    let json = URL_SAFE_NO_PAD.decode(text).map_err(|error| refuse().caused_by(error))?;
    let group: Group = serde_json::from_slice(&json).map_err(|error| refuse().caused_by(error))?;
    let is_alike = group.start.is_some() == by.time.is_some()
        && group.project.is_some() == by.project
        && group.key.is_some() == by.key
        && group.model.is_some() == by.model;
    // PostgreSQL's text holds no NUL.
    let has_nul = [&group.project, &group.key, &group.model].into_iter().flatten().any(|text| text.contains('\0'));
    if is_alike && !has_nul { Ok(group) } else { Err(refuse()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_grouped_by_two_things_and_one_length_of_time() {
        let by = |text| grouping(Some(text)).unwrap();
        assert_eq!(grouping(None).unwrap(), Grouping::default());
        assert_eq!(by("model"), Grouping { model: true, ..Grouping::default() });
        let all = Grouping { project: true, key: true, model: false, time: Some(Bucket::Day) };
        assert_eq!(by("day,project,key"), all);
        for text in ["", "tenant", "project,project", "hour,day", "hour,hour", "project,key,model", "project, key", ","]
        {
            assert_eq!(grouping(Some(text)).unwrap_err().param.as_deref(), Some("group_by"), "{text}");
        }
    }

    #[test]
    fn a_page_goes_on_only_with_the_grouping_that_it_began_with() {
        let by = Grouping { model: true, time: Some(Bucket::Hour), ..Grouping::default() };
        let group = Group { start: Some(7), model: Some("é/:".into()), ..Group::default() };
        let text = write(&group).unwrap();
        assert_eq!(read(&text, by).unwrap(), group);
        let other = Grouping { key: true, ..by };
        let nul = write(&Group { model: Some("\0".into()), ..group }).unwrap();
        for (text, by) in [(text.as_str(), other), ("!", by), ("e30x", by), (&nul, by)] {
            assert_eq!(read(text, by).unwrap_err().param.as_deref(), Some("after"), "{text}");
        }
    }
}
