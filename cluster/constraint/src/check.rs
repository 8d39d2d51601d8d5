//! Whether workers take a grammar: said by a gateway as its caller's error, and by a worker once more.

use crate::compile::{factory, on_its_own_stack, parser};
use crate::schema;
use cluster_protocol::{Grammar, limits};
use llguidance::ParserFactory;
use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::ApproximateTokEnv;
use serde_json::{Value, json};
use std::sync::OnceLock;

/// Deepest nesting of brackets in a grammar or regular expression.
const MAX_NESTING: usize = 64;
/// Most bytes of a reason, which quotes the caller.
const MAX_REASON_BYTES: usize = 400;

/// Why a grammar is refused, in words for whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unsupported {
    /// JSON pointer into the schema; empty for the whole of it, and for what is no schema.
    pub path: String,
    /// One or more sentences.
    pub reason: String,
}

impl Unsupported {
    pub(crate) fn new(path: &str, reason: String) -> Unsupported {
        Unsupported { path: path.to_owned(), reason }
    }

    /// From the compiler, whose messages go on with its state after the first line.
    pub(crate) fn by_compiler(message: &str) -> Unsupported {
        let line = message.lines().next().unwrap_or_default();
        let end = (0..=line.len().min(MAX_REASON_BYTES)).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
        Unsupported::new("", format!("It can't be compiled: {}.", line[..end].trim_end_matches('.')))
    }
}

/// Whether workers take `grammar`: compiles it against single bytes, so that no vocabulary is needed. CPU-bound, some
/// milliseconds; not for an async task.
///
/// A grammar that names special tokens is a gateway's own, needs their vocabulary, and is not for this function.
///
/// # Errors
/// [`Unsupported`]: too large, too deep, or what can't be enforced exactly.
pub fn check(grammar: &Grammar) -> Result<(), Unsupported> {
    static BYTES: OnceLock<Option<ParserFactory>> = OnceLock::new();
    let grammar = bounded(grammar)?;
    on_its_own_stack(|| {
        let factory = BYTES.get_or_init(|| factory(&ApproximateTokEnv::single_byte_env()).ok());
        let factory = factory.as_ref().ok_or_else(|| Unsupported::by_compiler("no compiler"))?;
        parser(factory, grammar).map(drop)
    })
}

/// The grammar as llguidance takes it, once its size and depth are known to be within bounds.
pub(crate) fn bounded(grammar: &Grammar) -> Result<TopLevelGrammar, Unsupported> {
    let text = match grammar {
        Grammar::JsonSchema { schema } => schema,
        Grammar::Regex { pattern } => pattern,
        Grammar::Lark { grammar } => grammar,
    };
    if text.len() > limits::MAX_GRAMMAR_BYTES {
        return Err(Unsupported::new("", format!("It is longer than {} bytes.", limits::MAX_GRAMMAR_BYTES)));
    }
    match grammar {
        Grammar::JsonSchema { schema } => Ok(TopLevelGrammar::from_json_schema(prepared(schema)?)),
        Grammar::Regex { pattern } => {
            nesting(pattern)?;
            Ok(TopLevelGrammar::from_regex(pattern))
        }
        Grammar::Lark { grammar } => {
            nesting(grammar)?;
            Ok(TopLevelGrammar::from_lark(grammar.clone()))
        }
    }
}

fn prepared(text: &str) -> Result<Value, Unsupported> {
    // Its own limit of depth is 128, so nothing recurses deeper here than the schema's own check allows by far.
    let schema: Value =
        serde_json::from_str(text).map_err(|error| Unsupported::new("", format!("It is no JSON: {error}.")))?;
    schema::check(&schema)?;
    let mut fields = match schema {
        Value::Object(fields) => fields,
        Value::Bool(true) => serde_json::Map::new(),
        _ => return Err(Unsupported::new("", "Nothing is valid for the schema `false`.".into())),
    };
    // Free white space lets a small model go on with it for ever. This much is what models write by themselves.
    fields.insert(
        "x-guidance".into(),
        json!({ "whitespace_flexible": false, "item_separator": SEPARATOR, "key_separator": COLON }),
    );
    Ok(Value::Object(fields))
}

/// As regular expressions are not allowed here, the one form that models write by themselves and that parsers expect.
const SEPARATOR: &str = ", ";
const COLON: &str = ": ";

/// Counts brackets without understanding the text, so one that is escaped counts too: it is a bound, not a parser.
fn nesting(text: &str) -> Result<(), Unsupported> {
    let mut open = 0usize;
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > MAX_NESTING {
            return Err(Unsupported::new("", format!("Its brackets are nested more than {MAX_NESTING} levels deep.")));
        }
    }
    Ok(())
}
