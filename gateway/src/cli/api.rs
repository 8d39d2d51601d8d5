//! What all commands on the admin API share: how its replies are shown, lists paged through, names made ids.

use super::client::{Client, Connection, PATIENCE, Reply, segment, with_query};
use super::table::{self, Column, plain};
use crate::id::{Named, kinds};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::io::{self, ErrorKind, Write};

/// Entries of one call.
const PAGE: u32 = 200;
/// Entries of a list unless asked otherwise.
const DEFAULT_LIMIT: u32 = 1_000;

/// Options of every command on the admin API.
#[derive(Debug, Args)]
pub(super) struct Common {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
struct Output {
    /// The admin API's JSON as it came, in place of a table. A list of several pages is put together to one.
    #[arg(long)]
    json: bool,
    /// Only this field of the JSON, as text, such as `id` or `scope.models`; for each entry of a list.
    #[arg(long, value_name = "NAME", conflicts_with = "json")]
    field: Option<String>,
}

/// How much of a list.
#[derive(Debug, Args)]
pub(super) struct Paging {
    /// Most entries.
    #[arg(long, default_value_t = DEFAULT_LIMIT, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Begin after this entry: what the end of the former list says.
    #[arg(long, value_name = "ID")]
    after: Option<String>,
}

/// A tenant, for what belongs to one.
#[derive(Debug, Args)]
pub(super) struct OfTenant {
    /// The tenant, by id or by name. By name needs an operator's token.
    #[arg(long, env = "CAPROCK_TENANT", value_name = "TENANT")]
    pub(super) tenant: String,
}

/// The admin API, and how its replies are shown.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) client: Client,
    output: Output,
}

/// A page, its entries as they came.
#[derive(Debug, Deserialize, Serialize)]
struct Page {
    data: Vec<Box<RawValue>>,
    has_more: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_after: Option<String>,
}

impl Api {
    pub(super) fn new(common: Common) -> Result<Api, String> {
        Ok(Api { client: Client::new(common.connection)?, output: common.output })
    }

    /// Shows one thing.
    pub(super) fn show(&self, reply: &Reply, columns: &[Column]) -> Result<(), String> {
        self.show_as(reply, |thing| table::of_one(columns, thing))
    }

    /// Shows one thing, for people as `text` says.
    pub(super) fn show_as(&self, reply: &Reply, text: impl FnOnce(&Value) -> String) -> Result<(), String> {
        if self.output.json {
            return print_bytes(&[&reply.body[..], b"\n"].concat());
        }
        let thing = value(&reply.body)?;
        match &self.output.field {
            Some(name) => print(&(field(&thing, name)? + "\n")),
            None => print(&text(&thing)),
        }
    }

    /// Says that something was done, of which the API has nothing to show.
    pub(super) fn done(&self, text: &str) -> Result<(), String> {
        if self.output.json || self.output.field.is_some() { Ok(()) } else { print(&format!("{text}\n")) }
    }

    /// Lists what there is at `path`, page by page.
    pub(super) async fn list(
        &self,
        path: &str,
        query: &[(&str, Option<String>)],
        paging: &Paging,
        columns: &[Column],
    ) -> Result<(), String> {
        self.list_by(path, query, paging, columns, Some(PAGE)).await
    }

    /// By pages of `page` entries; `None` for a list that has no pages.
    async fn list_by(
        &self,
        path: &str,
        query: &[(&str, Option<String>)],
        paging: &Paging,
        columns: &[Column],
        page: Option<u32>,
    ) -> Result<(), String> {
        let mut all = Page { data: Vec::new(), has_more: true, next_after: paging.after.clone() };
        let mut only = None;
        while all.has_more && all.data.len() < paging.limit as usize {
            let left = u32::try_from(all.data.len()).map_or(0, |have| paging.limit.saturating_sub(have));
            let mut query = query.to_vec();
            query.push(("limit", page.map(|page| left.min(page).to_string())));
            query.push(("after", all.next_after.take()));
            let body = self.client.get(&with_query(path, &query), PATIENCE).await?;
            let page: Page = serde_json::from_slice(&body).map_err(|error| odd(&error))?;
            if page.has_more && (page.next_after.is_none() || page.data.is_empty()) {
                return Err(odd(&"it says that there is more, and not where"));
            }
            only = all.data.is_empty().then_some(body);
            all.data.extend(page.data);
            (all.has_more, all.next_after) = (page.has_more, page.next_after);
        }
        if self.output.json {
            return match only {
                Some(body) => print_bytes(&[&body[..], b"\n"].concat()),
                None => print(&(serde_json::to_string(&all).map_err(|error| error.to_string())? + "\n")),
            };
        }
        let things: Vec<Value> = all.data.iter().map(|raw| value(raw.get().as_bytes())).collect::<Result<_, _>>()?;
        let text = match &self.output.field {
            Some(name) => {
                things.iter().map(|thing| Ok(field(thing, name)? + "\n")).collect::<Result<String, String>>()?
            }
            None => table::of_many(columns, &things),
        };
        print(&text)?;
        if let Some(after) = all.next_after {
            eprintln!("There is more: --after {after}");
        }
        Ok(())
    }

    /// Lists what comes on one page.
    pub(super) async fn list_whole(&self, path: &str, columns: &[Column]) -> Result<(), String> {
        let paging = Paging { limit: DEFAULT_LIMIT, after: None };
        self.list_by(path, &[], &paging, columns, None).await
    }

    /// A tenant's id, by its id or name.
    pub(super) async fn tenant(&self, tenant: &str) -> Result<String, String> {
        if is_id(tenant, kinds::Tenant::PREFIX) {
            return Ok(tenant.to_owned());
        }
        let found = self.named("/admin/v1/tenants", "tenant", tenant).await;
        // A tenant's own administrators may not list tenants, and need not: they know theirs.
        found.map_err(|error| format!("{error} Tenants can be given by id, too."))
    }

    /// A project's id, by its id or name.
    pub(super) async fn project(&self, tenant: &str, project: &str) -> Result<String, String> {
        if is_id(project, kinds::Project::PREFIX) {
            return Ok(project.to_owned());
        }
        self.named(&format!("/admin/v1/tenants/{}/projects", segment(tenant)), "project", project).await
    }

    /// The ids of both; `None` for a project that is not given.
    pub(super) async fn places(
        &self,
        tenant: &OfTenant,
        project: Option<&str>,
    ) -> Result<(String, Option<String>), String> {
        let tenant = self.tenant(&tenant.tenant).await?;
        let project = match project {
            Some(project) => Some(self.project(&tenant, project).await?),
            None => None,
        };
        Ok((tenant, project))
    }

    async fn named(&self, path: &str, what: &str, name: &str) -> Result<String, String> {
        let path = with_query(path, &[("name", Some(name.to_owned())), ("limit", Some("2".into()))]);
        let found = value(&self.client.get(&path, PATIENCE).await?)?;
        match found["data"].as_array().map(Vec::as_slice) {
            Some([one]) => one["id"].as_str().map(str::to_owned).ok_or_else(|| odd(&"no id")),
            Some([]) => Err(format!("There is no {what} `{name}`.")),
            _ => Err(format!("Several are called `{name}`: give the {what}'s id.")),
        }
    }
}

/// Whether it is an id as the gateway makes them; anything else may be a name.
fn is_id(text: &str, prefix: &str) -> bool {
    let rest = text.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_'));
    rest.is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A reply as JSON.
pub(super) fn value(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|error| odd(&error))
}

fn odd(why: &dyn std::fmt::Display) -> String {
    format!("the admin API's reply can't be read: {why}")
}

/// A field by its name, those inside others with dots.
fn field(thing: &Value, name: &str) -> Result<String, String> {
    let found = name.split('.').try_fold(thing, |thing, name| match thing {
        Value::Array(entries) => entries.get(name.parse::<usize>().ok()?),
        _ => thing.get(name),
    });
    found.map(plain).ok_or_else(|| format!("the reply has no field `{name}`"))
}

/// Writes to standard output. Whoever closed it, such as `head`, has had enough, which is no failure.
pub(super) fn print(text: &str) -> Result<(), String> {
    print_bytes(text.as_bytes())
}

fn print_bytes(bytes: &[u8]) -> Result<(), String> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!("can't write: {error}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
