//! What an answer must look like. Compiled by gateway and workers with `cluster-constraint`.

use serde::{Deserialize, Serialize};

/// What an answer must look like, from its first token on or from a trigger on.
///
/// A constrained answer that is not cut (by its maximum, a stop text, or the gateway) is one that the grammar allows: the
/// model may end its turn only where the grammar may end, and the answer ends where the grammar has no way on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constraint {
    /// The form.
    pub grammar: Grammar,
    /// When it begins; `None` is with the first token.
    pub trigger: Option<Trigger>,
}

/// A form of text, at most [`crate::limits::MAX_GRAMMAR_BYTES`] long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Grammar {
    /// A JSON value that the schema takes, written as `{"a": 1, "b": [2, 3]}`: with one space behind `,` and `:`. Keys
    /// come in the schema's order.
    JsonSchema {
        /// The schema itself, as JSON text: its keys' order means something here.
        schema: String,
    },
    /// A text that the whole of the regular expression matches, in the syntax of Rust's `regex`, without look-around.
    Regex {
        /// The expression.
        pattern: String,
    },
    /// A context-free grammar in llguidance's dialect of Lark, which may hold JSON schemas and name special tokens. For
    /// formats of tool calls, written by gateways; never a caller's.
    Lark {
        /// Its rules, `start` the first.
        grammar: String,
    },
}

/// Where a constraint begins in an answer that is free until then. The trigger itself is not part of the grammar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// Texts, whichever comes first, however tokens cut them.
    pub texts: Vec<String>,
    /// Special tokens, by id.
    pub tokens: Vec<u32>,
    /// Whether the answer ends with the grammar; else it is free again, to the next trigger.
    pub once: bool,
}
