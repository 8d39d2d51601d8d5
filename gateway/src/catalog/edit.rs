//! Changes of the API's layer: each judged against the whole catalog, made and logged in one transaction.

use super::live::{MOST_ROWS, apart};
use super::overrides::{self, Alias, Override, OverrideBody, Stamp, StoredOverride};
use super::{Entry, EntryPatch, Layer, Snapshot};
use crate::audit::{self, Record};
use crate::clock::Micros;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{CatalogRow, Store, Tx};
use serde_json::{Value, json};

/// Of a row that can't be read, so much is kept in the log.
const MAX_UNREADABLE_CHARS: usize = 4 * 1024;

/// What a change made of the catalog.
#[derive(Debug)]
pub struct Edited {
    /// With the change.
    pub catalog: Snapshot,
    /// Whether the API had set nothing for the id before.
    pub is_new: bool,
}

/// What is wanted of one id.
#[derive(Debug, Clone)]
struct Edit {
    id: String,
    want: Want,
    /// The version that the caller has seen, 0 for none; `None`: any.
    expected: Option<i64>,
}

#[derive(Debug, Clone)]
enum Want {
    NewModel(Box<Entry>),
    OtherModel(Box<EntryPatch>),
    NoModel,
    Alias(Alias),
    NoAlias,
}

/// What is to be written.
#[derive(Debug, PartialEq, Eq)]
enum Write {
    Insert(CatalogRow),
    Update(CatalogRow),
    Delete(String),
}

/// An edit that is allowed.
#[derive(Debug)]
struct Plan {
    edited: Edited,
    /// With its record; `None` when everything is as wanted already.
    write: Option<(Write, Record)>,
}

/// What [`create_model`] would make of the catalog, for its reply.
///
/// # Errors
/// As those of [`create_model`].
pub async fn preview_model(store: &Store, config: &Config, id: &str, entry: Entry, now: Micros) -> Result<Edited> {
    let edit = Edit { id: id.to_owned(), want: Want::NewModel(Box::new(entry)), expected: None };
    let (rows, config) = (store.catalog_rows(MOST_ROWS).await?, config.clone());
    Ok(apart(move || plan(&config, &rows, edit, now)).await?.edited)
}

/// Adds a model that no layer has.
///
/// # Errors
/// `Invalid` naming the field at fault; `Conflict` when the id is taken, and as [`Snapshot::admit`] has it; those of the
/// store.
pub async fn create_model(change: audit::Change<'_>, config: &Config, id: &str, entry: Entry) -> Result<Edited> {
    commit(change, config, id, Want::NewModel(Box::new(entry)), None).await
}

/// Changes a model. One of a lower layer is copied into the API's first. What is as asked for already gets no new
/// version. `expected` is the version that the caller has seen, 0 when the API had set nothing.
///
/// # Errors
/// `NotFound`; `PreconditionFailed` when it has another version by now; those of [`Snapshot::admit`] and of the store.
pub async fn update_model(
    change: audit::Change<'_>,
    config: &Config,
    id: &str,
    patch: EntryPatch,
    expected: Option<i64>,
) -> Result<Edited> {
    commit(change, config, id, Want::OtherModel(Box::new(patch)), expected).await
}

/// Takes back what the API has set of a model: the lower layer's is back, or the model is gone.
///
/// # Errors
/// `NotFound` when the API has set nothing; `Conflict` when another entry needs it; otherwise as [`update_model`].
pub async fn delete_model(
    change: audit::Change<'_>,
    config: &Config,
    id: &str,
    expected: Option<i64>,
) -> Result<Edited> {
    commit(change, config, id, Want::NoModel, expected).await
}

/// Adds an alias, or points it to another model.
///
/// # Errors
/// As those of [`update_model`], but for `NotFound`.
pub async fn set_alias(
    change: audit::Change<'_>,
    config: &Config,
    id: &str,
    alias: Alias,
    expected: Option<i64>,
) -> Result<Edited> {
    commit(change, config, id, Want::Alias(alias), expected).await
}

/// Removes an alias.
///
/// # Errors
/// As those of [`update_model`].
pub async fn delete_alias(
    change: audit::Change<'_>,
    config: &Config,
    id: &str,
    expected: Option<i64>,
) -> Result<Edited> {
    commit(change, config, id, Want::NoAlias, expected).await
}

async fn commit(
    change: audit::Change<'_>,
    config: &Config,
    id: &str,
    want: Want,
    expected: Option<i64>,
) -> Result<Edited> {
    let (config, now) = (config.clone(), change.now);
    let edit = Edit { id: id.to_owned(), want, expected };
    change
        .commit(move |tx| {
            Box::pin(async move {
                let rows = tx.catalog_for_change(MOST_ROWS).await?;
                let Plan { edited, write } = apart(move || plan(&config, &rows, edit, now)).await?;
                let Some((write, record)) = write else { return Ok((edited, None)) };
                carry_out(tx, &write).await?;
                Ok((edited, Some(record)))
            })
        })
        .await
}

async fn carry_out(tx: &mut Tx, write: &Write) -> Result<()> {
    let done = match write {
        Write::Insert(row) => tx.catalog_insert(row).await.map(|()| true)?,
        Write::Update(row) => tx.catalog_update(row).await?,
        Write::Delete(id) => tx.catalog_delete(id).await?,
    };
    // The rows are ours since they were read.
    if done { Ok(()) } else { Err(Error::internal(Vanished)) }
}

#[derive(Debug, thiserror::Error)]
#[error("a row of the catalog vanished while it was locked")]
struct Vanished;

/// Judges an edit of `rows`, which are all that there are.
fn plan(config: &Config, rows: &[CatalogRow], edit: Edit, now: Micros) -> Result<Plan> {
    let Edit { id, want, expected } = edit;
    let before = Snapshot::of_rows(config, rows)?;
    let row = rows.iter().find(|row| row.id == id);
    let kind = want.kind();
    let change = want.change(&id, &before, row, now)?;
    check_version(row, expected)?;
    let stored: Vec<StoredOverride> = rows.iter().map(StoredOverride::from).collect();
    let mut catalog = Snapshot::admit(config, &stored, &change)?;
    catalog.stamps = before.stamps.clone();

    let target = (kind, id.as_str());
    let is_new = row.is_none();
    let write = match change {
        overrides::Change::Remove(_) => {
            catalog.stamps.remove(&id);
            let record = Record::new(&format!("{kind}.delete"), None, target);
            Some((Write::Delete(id.clone()), record))
        }
        overrides::Change::Set(new) => {
            let body = new.stored()?.body;
            let is_same = match (row, &new.body) {
                (Some(row), _) => row.body == body,
                (None, OverrideBody::Model(entry)) => before.entry(&id) == Some(&**entry),
                (None, OverrideBody::Alias(_)) => false,
            };
            let (version, created_at) = row.map_or((now, now), |row| (row.version + 1, row.created_at));
            let new = CatalogRow { id: id.clone(), kind: kind.into(), body, version, created_at, updated_at: now };
            if !is_same {
                catalog.stamps.insert(id.clone(), Stamp::from(&new));
            }
            // A model of a lower layer is changed, not made, by its first row.
            let is_made = is_new && before.entry(&id).is_none();
            let record = Record::new(&format!("{kind}.{}", if is_made { "create" } else { "update" }), None, target);
            let write = if is_new { Write::Insert(new) } else { Write::Update(new) };
            (!is_same).then_some((write, record))
        }
    };
    let write = write.map(|(write, mut record)| {
        record.before = row.map(said_by).or_else(|| beneath(&before, &id));
        record.after = match &write {
            Write::Insert(row) | Write::Update(row) => Some(said_by(row)),
            Write::Delete(id) => beneath(&catalog, id),
        };
        (write, record)
    });
    Ok(Plan { edited: Edited { catalog, is_new }, write })
}

impl Want {
    /// As the log and the rows call it.
    fn kind(&self) -> &'static str {
        match self {
            Want::NewModel(_) | Want::OtherModel(_) | Want::NoModel => MODEL,
            Want::Alias(_) | Want::NoAlias => ALIAS,
        }
    }

    fn change(self, id: &str, before: &Snapshot, row: Option<&CatalogRow>, now: Micros) -> Result<overrides::Change> {
        let set = |body| Ok(overrides::Change::Set(Override { id: id.to_owned(), body }));
        let remove = || Ok(overrides::Change::Remove(id.to_owned()));
        match self {
            Want::NewModel(entry) => match (before.entry(id), row) {
                (None, None) => set(OverrideBody::Model(entry)),
                (Some(_), _) | (None, Some(_)) => {
                    let text = format!("The id {id} is taken.");
                    Err(Error::new(ErrorKind::Conflict, text).about("id"))
                }
            },
            Want::OtherModel(patch) => {
                let entry = before.entry(id).ok_or_else(|| missing(MODEL))?.apply(id, *patch, now)?;
                set(OverrideBody::Model(Box::new(entry)))
            }
            Want::Alias(alias) => set(OverrideBody::Alias(alias)),
            Want::NoModel => match row {
                Some(row) if row.kind == MODEL => remove(),
                _ if before.entry(id).is_some() => {
                    let text = "The admin API has set nothing of this model; what is compiled in or configured stays.";
                    Err(Error::new(ErrorKind::NotFound, text))
                }
                Some(_) | None => Err(missing(MODEL)),
            },
            Want::NoAlias => match row {
                Some(row) if row.kind == ALIAS => remove(),
                Some(_) | None => Err(missing(ALIAS)),
            },
        }
    }
}

const MODEL: &str = "model";
const ALIAS: &str = "alias";

fn check_version(row: Option<&CatalogRow>, expected: Option<i64>) -> Result<()> {
    let version = row.map_or(0, |row| row.version);
    match expected {
        Some(0) if version != 0 => {
            Err(Error::new(ErrorKind::PreconditionFailed, "It is there already, or was changed in the meantime."))
        }
        Some(expected) if expected != version => {
            let text = "It was changed in the meantime. Read it again, and send its ETag as If-Match.";
            Err(Error::new(ErrorKind::PreconditionFailed, text))
        }
        Some(_) | None => Ok(()),
    }
}

fn missing(what: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("No such {what}."))
}

/// What a row says, for the log.
fn said_by(row: &CatalogRow) -> Value {
    match Override::read(&StoredOverride::from(row)) {
        Ok(Override { body: OverrideBody::Model(entry), .. }) => json!({ "layer": Layer::Api, "entry": entry }),
        Ok(Override { body: OverrideBody::Alias(alias), .. }) => json!(alias),
        Err(_) => json!({ "unreadable": row.body.chars().take(MAX_UNREADABLE_CHARS).collect::<String>() }),
    }
}

/// What the layers beneath say of a model that has no row, for the log.
fn beneath(catalog: &Snapshot, id: &str) -> Option<Value> {
    Some(json!({ "layer": catalog.by_id.get(id)?.layer, "entry": catalog.entry(id)? }))
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
