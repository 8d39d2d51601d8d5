//! The audit log: every administrator's change, with who, what, before and after, from where.
//!
//! A change and its entry are one transaction ([`Change::commit`]), so there is neither one without the other. Entries are
//! numbered without gaps and chained: each digest covers the entry and the digest before it, and a seal keys the digest
//! with a secret that is not in the database. What a gateway has seen of the log it remembers outside of the database
//! ([`Anchor`]), so that an end which is cut off is missed. The log is also the feed that tells replicas what to forget.

mod anchor;
mod author;
mod chain;
mod change;
mod log;
mod verify;

pub use anchor::{Anchor, Comparison, Metrics};
pub use author::{Author, AuthorKind};
pub use chain::{Link, Sealed, Sealer};
pub use change::{Change, Once, Record, Target};
pub use log::{Entry, entries, export, verify};
pub use verify::{End, Exported, Fault, Finding, Line, Mark, Walk, Walked};

#[cfg(test)]
mod tampering;
