//! Constrained generation: which tokens may come next.
//!
//! ```text
//! check       is this grammar one that workers take?        gateway, before anything is reserved; no vocabulary needed
//! Vocabulary  a model's tokens as bytes, built once         worker
//! Compiled    a constraint made ready for a request         worker, off the engine thread, before a slot is held
//! Session     one choice's place in it                      worker's engine thread; rebuilt anywhere from token ids
//! ```
//!
//! Grammars come from callers. So they are bounded in bytes, depth and number of parts before llguidance sees them, and in
//! work by llguidance itself; they are compiled on a thread of their own with a stack for the deepest one allowed; a panic in there is an
//! error like any other.

mod check;
mod compile;
mod schema;
mod session;
mod vocabulary;

pub use check::{Unsupported, check};
pub use compile::Compiled;
pub use session::{Broken, Mask, Session, Step};
pub use vocabulary::{NoVocabulary, Vocabulary};
