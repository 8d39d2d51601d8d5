//! The audit log: every administrator's change, with who, what, before and after, from where.
//!
//! A change and its entry are one transaction ([`Change::commit`]), so there is neither one without the other. Entries are
//! numbered without gaps and chained: each digest covers the entry and the digest before it, and a seal keys the digest
//! with a secret that is not in the database. The log is also the feed that tells replicas what to forget.

mod author;
mod chain;
mod change;

pub use author::{Author, AuthorKind};
pub use chain::{Link, Sealer};
pub use change::{Change, Once, Record, Target};
