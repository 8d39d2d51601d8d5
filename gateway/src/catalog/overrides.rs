//! What the admin API may set: a model, or an alias of one. One row of the database each, by id.

use super::entry::Entry;
use super::rules::{self, Fault};
use crate::clock::Micros;
use crate::error::{Error, ErrorKind, Result};
use crate::store::CatalogRow;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Most rows of the API's layer. Further ones are refused, and left out if they are there.
pub const MAX_OVERRIDES: usize = 2_000;
/// Longest stored form that is read; what the API accepts stays far below.
const MAX_STORED_BYTES: usize = 16 * 1024;

/// What the API says about one id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// Of the model or alias.
    pub id: String,
    /// What it is.
    pub body: OverrideBody,
}

/// What an id is, by the API's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OverrideBody {
    /// A model: the whole entry, in place of one of a lower layer, or new.
    Model(Box<Entry>),
    /// Another id of a model.
    Alias(Alias),
}

/// Another id of a model: it costs, answers and is accessible as that model, which the ledger names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Alias {
    /// Id of a model of the catalog; not another alias.
    #[schema(example = "huggingface.smollm2-135m-instruct")]
    pub target: String,
}

/// A row as the database keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOverride {
    /// Primary key.
    pub id: String,
    /// An [`OverrideBody`] as JSON.
    pub body: String,
}

/// Which state of a row it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Never the same for two states of an id, also when the row was gone in between.
    pub version: i64,
    /// When the row was made, µs since 1970.
    pub created_at: Micros,
    /// When it was last changed, µs since 1970.
    pub updated_at: Micros,
}

impl From<&CatalogRow> for Stamp {
    fn from(row: &CatalogRow) -> Stamp {
        Stamp { version: row.version, created_at: row.created_at, updated_at: row.updated_at }
    }
}

impl From<&CatalogRow> for StoredOverride {
    fn from(row: &CatalogRow) -> StoredOverride {
        StoredOverride { id: row.id.clone(), body: row.body.clone() }
    }
}

/// A change of the API's layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Adds the row, or puts it in place of the one of the same id.
    Set(Override),
    /// Takes the row away, so that what is beneath it counts again.
    Remove(String),
}

impl Change {
    /// The id that it is about.
    pub fn id(&self) -> &str {
        match self {
            Change::Set(row) => &row.id,
            Change::Remove(id) => id,
        }
    }
}

impl Override {
    /// As the database keeps it.
    ///
    /// # Errors
    /// `Internal`, never in practice: the types have a JSON form.
    pub fn stored(&self) -> Result<StoredOverride> {
        let body = serde_json::to_string(&self.body).map_err(Error::internal)?;
        Ok(StoredOverride { id: self.id.clone(), body })
    }

    /// From a row, which a later version may have written.
    pub(super) fn read(row: &StoredOverride) -> Result<Override, Fault> {
        if row.body.len() > MAX_STORED_BYTES {
            return Err(Fault::new("body", format!("is stored with over {MAX_STORED_BYTES} bytes")));
        }
        let body = serde_json::from_str(&row.body)
            .map_err(|error| Fault::new("body", format!("is stored in a form that can't be read: {error}")))?;
        Ok(Override { id: row.id.clone(), body })
    }
}

/// The rows after a change; whether they still make a catalog is not asked here.
///
/// # Errors
/// `Invalid` for what is no id; `NotFound` when there is no row to remove; `Conflict` when there are too many, or when an
/// alias would become a model or the reverse.
pub(super) fn changed(rows: &[StoredOverride], change: &Change) -> Result<Vec<StoredOverride>> {
    let conflict = |message: String| Error::new(ErrorKind::Conflict, message);
    let mut after = rows.to_vec();
    let at = rows.iter().position(|row| row.id == change.id());
    match (change, at) {
        (Change::Remove(_), None) => {
            return Err(Error::new(ErrorKind::NotFound, "The API has set nothing for this id."));
        }
        (Change::Remove(_), Some(at)) => {
            after.remove(at);
        }
        (Change::Set(new), None) => {
            if let Some(fault) = rules::faults_of_id(&new.id).into_iter().next() {
                return Err(fault.into());
            }
            if rows.len() >= MAX_OVERRIDES {
                return Err(conflict(format!(
                    "The API's part of the catalog is full: it holds {MAX_OVERRIDES} entries."
                )));
            }
            after.push(new.stored()?);
        }
        (Change::Set(new), Some(at)) => {
            let old = Override::read(&rows[at]).ok();
            match old.map(|old| (old.body, &new.body)) {
                Some((OverrideBody::Alias(_), OverrideBody::Model(_))) => {
                    return Err(conflict(format!("{} is an alias. Remove it first.", new.id)));
                }
                Some((OverrideBody::Model(_), OverrideBody::Alias(_))) => {
                    return Err(conflict(format!("{} is a model. Remove it first.", new.id)));
                }
                Some((OverrideBody::Model(_), OverrideBody::Model(_)))
                | Some((OverrideBody::Alias(_), OverrideBody::Alias(_)))
                | None => after[at] = new.stored()?,
            }
        }
    }
    Ok(after)
}
