//! How many tokens an answer may have, and how they are chosen when the caller does not say.

use super::{AnswerForm, Request, Sampling};
use crate::catalog::Model;
use crate::error::{Error, ErrorKind, Result};
use crate::upstream::Room;
use cluster_constraint::Unsupported;
use cluster_protocol::{Grammar, LogitBias, limits};

/// For what the caller leaves open, in every dialect and for every model; the README says it to users. Both dialects
/// document 1, 1 and no limit of candidates, with which a small model babbles.
const DEFAULT_TEMPERATURE: f32 = 0.7;
const DEFAULT_TOP_P: f32 = 0.95;
const DEFAULT_TOP_K: u32 = 40;

/// Most output tokens: the caller's number, else the model's default; never more than the model gives or the context
/// has room for after `prompt_tokens`. `context_tokens` is what the workers take.
///
/// # Errors
/// `ContextExceeded` when the prompt leaves no room for one token; `Invalid` for a maximum of 0.
pub(super) fn max_tokens(asked: Option<u32>, model: &Model, prompt_tokens: usize, context_tokens: u32) -> Result<u32> {
    if asked == Some(0) {
        return Err(Error::invalid("max_tokens", "The maximum number of output tokens must be at least 1."));
    }
    let context = context(model, context_tokens);
    let room = u32::try_from(prompt_tokens).ok().and_then(|prompt| context.checked_sub(prompt)).unwrap_or(0);
    if room == 0 {
        return Err(too_long(&prompt_tokens.to_string(), context));
    }
    let wanted = asked.unwrap_or(model.default_output_tokens).max(1);
    Ok(wanted.min(model.max_output_tokens.unwrap_or(u32::MAX)).min(room))
}

/// Refuses a prompt by the tokens that it has at least, before the work of rendering and tokenising it.
///
/// # Errors
/// `ContextExceeded`
pub(super) fn may_fit(least_tokens: usize, model: &Model, context_tokens: u32) -> Result<()> {
    let context = context(model, context_tokens);
    match u32::try_from(least_tokens) {
        Ok(least) if least < context => Ok(()),
        Ok(_) | Err(_) => Err(too_long(&format!("at least {least_tokens}"), context)),
    }
}

/// Of prompt and answer together.
fn context(model: &Model, context_tokens: u32) -> u32 {
    model.context_tokens.unwrap_or(u32::MAX).min(context_tokens)
}

fn too_long(prompt_tokens: &str, context: u32) -> Error {
    let text = format!("The prompt has {prompt_tokens} tokens; prompt and answer may have {context} together.");
    Error::new(ErrorKind::ContextExceeded, text)
}

/// Refuses what no worker takes, before anything is reserved. Dialects refuse it by their own names and narrower ranges;
/// this is what stands behind them.
///
/// # Errors
/// `Invalid`
pub(super) fn check(request: &Request) -> Result<()> {
    if let Some(name) = limits::out_of_range(&sampling(&request.sampling)) {
        return Err(Error::invalid(name, format!("`{name}` is out of range.")));
    }
    if request.logprobs.is_some_and(|top| top > limits::MAX_TOP_LOGPROBS) {
        let text = format!("At most {} alternatives are told for a token.", limits::MAX_TOP_LOGPROBS);
        return Err(Error::invalid("top_logprobs", text));
    }
    if !(1..=limits::MAX_CHOICES).contains(&request.choices) {
        let text = format!("A request may have 1 to {} choices.", limits::MAX_CHOICES);
        return Err(Error::invalid("n", text));
    }
    Ok(())
}

/// Whether workers can enforce the answer's form and the schemas of strict tools. CPU-bound; not for an async task.
///
/// # Errors
/// `Invalid`, naming the place in the schema and why.
pub(super) fn check_schemas(request: &Request) -> Result<()> {
    let form = match &request.answer {
        AnswerForm::Text | AnswerForm::Json => None,
        AnswerForm::JsonSchema(schema) => Some(Grammar::JsonSchema { schema: schema.as_str().to_owned() }),
        AnswerForm::Regex(pattern) => Some(Grammar::Regex { pattern: pattern.clone() }),
    };
    if let Some(form) = form {
        cluster_constraint::check(&form)
            .map_err(|unsupported| self::unsupported("schema", "The requested output format is", &unsupported))?;
    }
    for tool in request.tools.callable().iter().filter(|tool| tool.strict) {
        let schema = Grammar::JsonSchema { schema: tool.parameters.as_str().to_owned() };
        let what = format!("The strict parameters of the tool `{}` are", tool.name);
        cluster_constraint::check(&schema).map_err(|unsupported| self::unsupported("tools", &what, &unsupported))?;
    }
    Ok(())
}

fn unsupported(param: &str, what: &str, unsupported: &Unsupported) -> Error {
    let Unsupported { path, reason } = unsupported;
    let at = if path.is_empty() { String::new() } else { format!(" at `{path}`") };
    Error::invalid(param, format!("{what} not supported{at}: {reason}"))
}

/// Most output tokens of each of `choices`, which share the prompt and what workers have beside it.
///
/// # Errors
/// `Invalid` when the workers have fewer slots; `ContextExceeded` when nothing is left for a choice.
pub(super) fn share(max_tokens: u32, choices: u32, prompt_tokens: usize, room: Option<Room>) -> Result<u32> {
    let Some(room) = room.filter(|_| choices > 1) else {
        return Ok(max_tokens);
    };
    if choices > room.slots {
        let text = format!("This model is served with at most {} choices of a request.", room.slots);
        return Err(Error::invalid("n", text));
    }
    let cells = u32::try_from(prompt_tokens).ok().and_then(|prompt| room.cells.checked_sub(prompt)).unwrap_or(0);
    match cells / choices {
        0 => Err(too_long(&prompt_tokens.to_string(), room.cells)),
        each => Ok(max_tokens.min(each)),
    }
}

/// Every value fixed, the seed included: two attempts at an answer begin the same.
pub(super) fn sampling(asked: &Sampling) -> cluster_protocol::Sampling {
    let bias = |(token, bias): &(u32, f32)| LogitBias { token: *token, bias: *bias };
    cluster_protocol::Sampling {
        min_p: asked.min_p.unwrap_or(0.0),
        presence_penalty: asked.presence_penalty.unwrap_or(0.0),
        frequency_penalty: asked.frequency_penalty.unwrap_or(0.0),
        repetition_penalty: asked.repetition_penalty.unwrap_or(1.0),
        logit_bias: asked.logit_bias.iter().map(bias).collect(),
        temperature: asked.temperature.unwrap_or(DEFAULT_TEMPERATURE),
        top_p: asked.top_p.unwrap_or(DEFAULT_TOP_P),
        top_k: asked.top_k.unwrap_or(DEFAULT_TOP_K),
        seed: asked.seed.unwrap_or_else(rand::random),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Layer, Price, Serving, Status};
    use crate::money::PicousdPerToken;

    fn model(context: Option<u32>, most: Option<u32>) -> Model {
        let price = PicousdPerToken(1);
        Model {
            id: "m".into(),
            name: "m".into(),
            provider: "p".into(),
            input_modalities: vec![],
            output_modalities: vec![],
            context_tokens: context,
            max_output_tokens: most,
            default_output_tokens: 512,
            streaming: true,
            status: Status::Active,
            deprecation: None,
            layer: Layer::CompiledIn,
            price: Price { input: price, output: price, cache_read: None, cache_write: None, source: "test".into() },
            serving: Serving::Nobody,
        }
    }

    #[test]
    fn the_callers_maximum_counts_and_else_the_models_default() {
        assert_eq!(max_tokens(Some(7), &model(None, None), 10, 2048).unwrap(), 7);
        assert_eq!(max_tokens(None, &model(None, None), 10, 2048).unwrap(), 512);
    }

    #[test]
    fn the_maximum_is_cut_to_model_context_and_workers() {
        assert_eq!(max_tokens(Some(900), &model(None, Some(800)), 10, 2048).unwrap(), 800);
        assert_eq!(max_tokens(Some(900), &model(Some(500), None), 100, 2048).unwrap(), 400);
        assert_eq!(max_tokens(None, &model(Some(4096), None), 2000, 2048).unwrap(), 48);
        assert_eq!(max_tokens(None, &model(None, None), 2047, 2048).unwrap(), 1);
    }

    #[test]
    fn a_prompt_without_room_for_an_answer_exceeds_the_context() {
        for prompt in [2048, 2049, usize::MAX] {
            let error = max_tokens(Some(1), &model(None, None), prompt, 2048).unwrap_err();
            assert_eq!(error.kind, ErrorKind::ContextExceeded, "{prompt}");
        }
        assert_eq!(max_tokens(Some(0), &model(None, None), 1, 2048).unwrap_err().kind, ErrorKind::Invalid);
    }

    #[test]
    fn a_prompt_is_refused_by_its_least_tokens_exactly_when_it_would_be_by_its_tokens() {
        for tokens in [0, 2047, 2048, usize::MAX] {
            let early = may_fit(tokens, &model(None, None), 2048).map_err(|error| error.kind);
            let late = max_tokens(Some(1), &model(None, None), tokens, 2048).map(drop).map_err(|error| error.kind);
            assert_eq!(early, late, "{tokens}");
        }
    }

    #[test]
    fn choices_share_slots_and_cells_of_the_workers() {
        let room = Some(Room { slots: 4, cells: 1000 });
        assert_eq!(share(512, 1, 100, room).unwrap(), 512, "one choice is bound by the context only");
        assert_eq!(share(512, 3, 100, room).unwrap(), 300);
        assert_eq!(share(50, 3, 100, room).unwrap(), 50);
        assert_eq!(share(50, 5, 100, room).unwrap_err().kind, ErrorKind::Invalid);
        assert_eq!(share(50, 2, 999, room).unwrap_err().kind, ErrorKind::ContextExceeded);
    }

    #[test]
    fn what_the_caller_sets_stays_and_the_rest_is_fixed() {
        let asked = Sampling { temperature: Some(0.0), seed: Some(9), ..Sampling::default() };
        let sampling = sampling(&asked);
        assert_eq!((sampling.temperature, sampling.seed, sampling.top_k), (0.0, 9, DEFAULT_TOP_K));
    }
}
