//! Whether the log is as it was written. Pure: it works on entries wherever they come from, so the server, the command
//! line and tests judge alike.
//!
//! What can be found, and by what:
//!
//! | done to the log | found by |
//! |---|---|
//! | a record changed, removed, added, moved | digests, which chain each entry to the one before |
//! | that, and all later digests computed anew | seals, whose key is not in the database |
//! | a column changed that only repeats the record | comparing it with the record |
//! | the last entries removed | the row that names the chain's end |
//! | that, and the row set back | the anchor, which is not in the database either |

use super::Sealer;
use super::chain::{self, Sealed};
use crate::store::AuditRow;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An entry as the export has it: what a chain can be checked with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its number, from 1.
    pub seq: i64,
    /// The whole entry as JSON, byte for byte as it was digested.
    pub record: String,
    /// Chains it.
    pub digest: String,
    /// Seals it.
    pub seal: String,
}

/// The final line of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// The log's last entry when the export began.
    pub head: Mark,
    /// How many lines came before this one.
    pub entries: u64,
}

/// A line of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Exported {
    /// All but the last.
    Entry(Line),
    /// The last.
    End(End),
}

/// An entry, named by number and digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Its number; 0 for the beginning of the log.
    pub seq: i64,
    /// Its digest; empty for the beginning of the log.
    pub digest: String,
}

/// Something that is not as it was written, and the first entry that it concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finding {
    /// The entry's number.
    pub seq: i64,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What can be wrong with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is not there.
    Missing,
    /// It comes where another should.
    Order,
    /// Its record is no entry of this program.
    Record,
    /// Its digest is not that of its record and the entry before.
    Digest,
    /// Its seal was not made by this installation for this entry.
    Seal,
    /// A column that repeats a part of the record says something else; its name.
    Column(&'static str),
    /// The row that names the chain's end has another digest for it.
    End,
    /// It lies beyond the chain's end.
    Beyond,
    /// This gateway has seen another entry with its number.
    Replaced,
    /// It is not there, but this gateway has seen it, or a later one.
    CutOff,
    /// It was sealed with this version of the master key, which is not loaded, so it can't be told whether it is genuine.
    UnknownKey(u32),
}

impl Fault {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Fault::Missing => "missing",
            Fault::Order => "out_of_order",
            Fault::Record => "record",
            Fault::Digest => "digest",
            Fault::Seal => "seal",
            Fault::Column(_) => "column",
            Fault::End => "end",
            Fault::Beyond => "beyond_end",
            Fault::Replaced => "replaced",
            Fault::CutOff => "cut_off",
            Fault::UnknownKey(_) => "unknown_key",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Missing => f.write_str("it is missing"),
            Fault::Order => f.write_str("it comes where another entry should be"),
            Fault::Record => f.write_str("its record is not one of this log"),
            Fault::Digest => f.write_str("its digest is not that of its record and the entry before it"),
            Fault::Seal => f.write_str("its seal was not made by this installation for this entry"),
            Fault::Column(name) => write!(f, "its column `{name}` is not what its record says"),
            Fault::End => f.write_str("the row that names the end of the chain has another digest for it"),
            Fault::Beyond => f.write_str("it lies beyond the end of the chain"),
            Fault::Replaced => f.write_str("this gateway has seen another entry with this number"),
            Fault::CutOff => f.write_str("it is missing, though this gateway has seen it or a later one"),
            Fault::UnknownKey(version) => write!(f, "it was sealed with a master key that is not loaded: v{version}"),
        }
    }
}

/// Goes through a chain entry by entry and stops at the first that is not as it was written.
#[derive(Debug)]
pub struct Walk<'a> {
    sealer: Option<&'a Sealer>,
    anchor: Option<Mark>,
    /// `None` until the first entry of a part, whose forerunner is not known.
    last: Option<Mark>,
    entries: u64,
    first_bad: Option<Finding>,
    unknown_key: Option<Finding>,
}

/// What a walk came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walked {
    /// How many entries are as they were written, before the first that is not.
    pub entries: u64,
    /// The last of them.
    pub last: Mark,
    /// The first that is not.
    pub first_bad: Option<Finding>,
}

/// The parts of a record that columns repeat.
#[derive(Debug, Deserialize)]
struct Copied {
    seq: i64,
    at: i64,
    action: String,
    tenant_id: Option<String>,
    target: Target,
    author: Author,
}

#[derive(Debug, Deserialize)]
struct Target {
    kind: String,
    id: String,
}

#[derive(Debug, Deserialize)]
struct Author {
    id: String,
}

impl<'a> Walk<'a> {
    /// From the first entry, with seals, and with what this gateway has seen.
    pub fn sealed(sealer: &'a Sealer, anchor: Option<Mark>) -> Walk<'a> {
        Walk { sealer: Some(sealer), anchor, ..Walk::of_digests(true) }
    }

    /// By digests alone, for whoever has no key. With `from_start` the first entry must be number 1; without it the
    /// first is taken as it is, since what was before it is not known.
    pub fn of_digests(from_start: bool) -> Walk<'a> {
        let last = from_start.then(|| Mark { seq: 0, digest: String::new() });
        Walk { sealer: None, anchor: None, last, entries: 0, first_bad: None, unknown_key: None }
    }

    /// Whether there is no use in going on.
    pub fn is_over(&self) -> bool {
        self.first_bad.is_some()
    }

    /// The next entry with all its columns.
    pub fn row(&mut self, row: &AuditRow) {
        let line =
            Line { seq: row.seq, record: row.record.clone(), digest: row.digest.clone(), seal: row.seal.clone() };
        self.step(&line, |copied| differing_column(row, copied));
    }

    /// The next entry as the export has it.
    pub fn line(&mut self, line: &Line) {
        self.step(line, |_| None);
    }

    fn step(&mut self, line: &Line, column: impl FnOnce(&Copied) -> Option<&'static str>) {
        if self.first_bad.is_some() {
            return;
        }
        match self.fault_of(line, column) {
            None => {
                self.entries += 1;
                self.last = Some(Mark { seq: line.seq, digest: line.digest.clone() });
            }
            Some(finding) => self.first_bad = Some(finding),
        }
    }

    fn fault_of(&mut self, line: &Line, column: impl FnOnce(&Copied) -> Option<&'static str>) -> Option<Finding> {
        let seq = line.seq;
        let at_it = |fault| Some(Finding { seq, fault });
        if let Some(last) = &self.last {
            let expected = last.seq + 1;
            if seq > expected {
                return Some(Finding { seq: expected, fault: Fault::Missing });
            }
            if seq < expected {
                return at_it(Fault::Order);
            }
            if line.digest != chain::digest(&last.digest, &line.record) {
                return at_it(Fault::Digest);
            }
        }
        match self.sealer.map(|sealer| sealer.check(seq, &line.digest, &line.seal)) {
            None | Some(Sealed::Ours) => {}
            Some(Sealed::Not) => return at_it(Fault::Seal),
            // Not the end: what was done to later entries shall still be found.
            Some(Sealed::UnknownKey(version)) => {
                self.unknown_key.get_or_insert(Finding { seq, fault: Fault::UnknownKey(version) });
            }
        }
        let Ok(copied) = serde_json::from_str::<Copied>(&line.record) else { return at_it(Fault::Record) };
        if copied.seq != seq {
            return at_it(Fault::Column("seq"));
        }
        if let Some(name) = column(&copied) {
            return at_it(Fault::Column(name));
        }
        match &self.anchor {
            Some(seen) if seen.seq == seq && seen.digest != line.digest => at_it(Fault::Replaced),
            _ => None,
        }
    }

    /// After the last entry. `end` is what the row beside the chain names as its end, if there is such a row, and
    /// `strays` how many entries it does not cover.
    pub fn end_at(mut self, end: Option<&Mark>, strays: u64) -> Walked {
        let last = self.last.clone().unwrap_or(Mark { seq: 0, digest: String::new() });
        let next = last.seq + 1;
        let is_short = |mark: &Mark| mark.seq > last.seq;
        let found = match end {
            _ if self.anchor.as_ref().is_some_and(is_short) => Some((next, Fault::CutOff)),
            Some(end) if is_short(end) => Some((next, Fault::Missing)),
            Some(end) if *end != last => Some((last.seq, Fault::End)),
            None => Some((last.seq, Fault::End)),
            Some(_) if strays > 0 => Some((next, Fault::Beyond)),
            Some(_) => None,
        };
        self.first_bad = self.first_bad.or(found.map(|(seq, fault)| Finding { seq, fault }));
        self.end()
    }

    /// After the last entry, when nothing else is known of the chain.
    pub fn end(self) -> Walked {
        Walked {
            entries: self.entries,
            last: self.last.unwrap_or(Mark { seq: 0, digest: String::new() }),
            first_bad: self.first_bad.or(self.unknown_key),
        }
    }
}

fn differing_column(row: &AuditRow, copied: &Copied) -> Option<&'static str> {
    let columns = [
        ("at", row.at == copied.at),
        ("tenant_id", row.tenant_id == copied.tenant_id),
        ("action", row.action == copied.action),
        ("target_kind", row.target_kind == copied.target.kind),
        ("target_id", row.target_id == copied.target.id),
        ("author_id", row.author_id == copied.author.id),
    ];
    columns.into_iter().find(|(_, is_same)| !is_same).map(|(name, _)| name)
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
