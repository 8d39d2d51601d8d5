//! From a conversation to token ids, without C++ and without a model file: all from the worker's model card.
//!
//! Everything here is CPU-bound and synchronous; callers run it on a bounded blocking pool, and make one [`ModelText`]
//! per card digest.

mod conversation;
mod guard;
mod pretokenizer;
pub mod reader;
mod template;
mod tokenizer;
pub mod tools;

pub use reader::{AnswerReader, Reading, Step};

use crate::error::Result;
use crate::inference::{AnswerForm, Content, Request, Role};
use cluster_protocol::{Constraint, ModelCard, TextPart};
use conversation::{Conversation, Turn};
use guard::Guard;
use reader::Tags;
use template::ChatTemplate;
use tokenizer::Tokenizer;
use tools::{Format, Support, Tokens, fallback, native::Native};

/// What models put around their reasoning.
const REASONING_TAGS: [Tags; 2] =
    [Tags { begin: "<think>", end: "</think>" }, Tags { begin: "[THINK]", end: "[/THINK]" }];

/// One model's template and tokenizer.
#[derive(Debug)]
pub struct ModelText {
    template: ChatTemplate,
    guard: Guard,
    tokenizer: Option<Tokenizer>,
    /// What the engine puts before a prompt, if it does.
    prefix: Option<String>,
    support: Support,
    reasoning: Option<Tags>,
    /// Special tokens by their text.
    tokens: Tokens,
}

/// A rendered prompt, and what is to be known of its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Each part is tokenised by itself.
    pub parts: Vec<TextPart>,
    /// How the answer is made and read.
    pub output: Output,
}

/// What is to be known of an answer before it is generated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// What the worker must make the answer fit.
    pub constraint: Option<Constraint>,
    /// Special tokens whose text must come with the answer's: the reader looks for them. Engines leave all others out.
    pub shown: Vec<u32>,
    /// How to read the answer; `None` when all of it is text.
    pub reading: Option<Reading>,
}

impl ModelText {
    /// From a worker's card.
    ///
    /// # Errors
    /// `Internal` when the template can't be compiled, or there is none and the vocabulary is not ChatML's.
    pub fn from_card(card: &ModelCard) -> Result<ModelText> {
        let template = ChatTemplate::compile(card)?;
        let bos = card.tokenizer.bos.filter(|_| card.tokenizer.add_bos);
        let source = template.source();
        Ok(ModelText {
            guard: Guard::new(&card.tokenizer, source)?,
            tokenizer: Tokenizer::from_card(card),
            prefix: bos.and_then(|id| card.tokenizer.tokens.get(id as usize)).cloned(),
            support: Support::probe(&template, &card.tokenizer),
            reasoning: REASONING_TAGS.into_iter().find(|tags| source.contains(tags.begin) || source.contains(tags.end)),
            tokens: Tokens::of(&card.tokenizer),
            template,
        })
    }

    /// Renders the conversation; special tokens come from the template only, never from callers' text, which tools,
    /// calls and results are too.
    ///
    /// The text parts of a turn are joined by line feeds. The engine's beginning-of-sequence token comes first where the
    /// vocabulary wants one and the template wrote none. Reasoning that the prompt opens is closed again where a
    /// constraint begins with the answer, and so leaves no room for it.
    ///
    /// # Errors
    /// `Invalid` when the template refuses the conversation or runs out of fuel.
    pub fn render(&self, request: &Request) -> Result<Rendered> {
        let conversation = Conversation::of(request, &self.guard)?;
        let messages = self.messages(&conversation);
        let tools = match self.support {
            Support::Native(..) => Native::tools(&conversation.tools),
            Support::Fallback { .. } => None,
        };
        let unix_seconds = request.id.uuid().and_then(|id| id.get_timestamp()).map_or(0, |time| time.to_unix().0);
        let mut rendered = self.template.render(messages, tools, unix_seconds)?;
        let constraint = self.constraint(request);
        let mut opened = self.reasoning.filter(|tags| rendered.trim_end().ends_with(tags.begin));
        if constraint.as_ref().is_some_and(|constraint| constraint.trigger.is_none())
            && let Some(tags) = opened.take()
        {
            rendered.truncate(rendered.trim_end().len());
            rendered.push_str(&format!("\n\n{}\n\n", tags.end));
        }
        let mut parts = self.guard.split(&rendered, conversation.mark);
        if let Some(prefix) = &self.prefix {
            let written = parts.first().is_some_and(|part| part.special && part.text == *prefix);
            if !written {
                parts.insert(0, TextPart { text: prefix.clone(), special: true });
            }
        }
        let reading = self.reading(request, opened.is_some());
        let shown = reading.as_ref().map(|reading| self.shown(reading)).unwrap_or_default();
        Ok(Rendered { parts, output: Output { constraint, shown, reading } })
    }

    fn messages(&self, conversation: &Conversation) -> Vec<minijinja::Value> {
        let uses_tools = |turn: &Turn| match turn {
            Turn::Assistant { calls, .. } => !calls.is_empty(),
            Turn::Results(_) => true,
            Turn::Said { .. } => false,
        };
        match self.support {
            Support::Fallback { system }
                if !conversation.tools.is_empty() || conversation.turns.iter().any(uses_tools) =>
            {
                fallback::messages(&conversation.turns, &conversation.tools, system)
            }
            Support::Fallback { .. } => Native::default().messages(&conversation.turns),
            Support::Native(_, native) => native.messages(&conversation.turns),
        }
    }

    fn constraint(&self, request: &Request) -> Option<Constraint> {
        let harmony = self.support.format() == Format::Harmony;
        match (request.tools.callable().is_empty(), &request.answer) {
            (true, AnswerForm::Text) => None,
            (true, form) => tools::answer_constraint(form, harmony, &self.tokens),
            (false, form) => tools::constraint(self.support.format(), &request.tools, form, &self.tokens),
        }
    }

    /// `opened`: the prompt ends where reasoning begins.
    fn reading(&self, request: &Request, opened: bool) -> Option<Reading> {
        let format = Some(self.support.format());
        let names: std::collections::HashSet<String> =
            request.tools.callable().iter().map(|tool| tool.name.clone()).collect();
        let format = format.filter(|format| *format == Format::Harmony || !names.is_empty());
        if format.is_none() && self.reasoning.is_none() {
            return None;
        }
        Some(Reading { format, names, reasoning: self.reasoning, opened })
    }

    fn shown(&self, reading: &Reading) -> Vec<u32> {
        let tags = reading.reasoning.map(|tags| [tags.begin, tags.end]);
        let markers = reading.format.map_or(&[][..], Format::markers);
        let texts = markers.iter().copied().chain(tags.into_iter().flatten());
        texts.filter_map(|text| self.tokens.hidden(text)).collect()
    }

    /// Token ids; `None` when this vocabulary is not one whose ids were tested to equal the engine's, so that a worker
    /// must tokenise.
    pub fn encode(&self, parts: &[TextPart]) -> Option<Vec<u32>> {
        self.tokenizer.as_ref()?.encode(parts)
    }

    /// The tokens that a conversation's prompt has at least, in a pass over its bytes: far cheaper than rendering it. 0
    /// where that is not certain: of assistants' turns, which templates shorten, and of vocabularies that a worker
    /// tokenises.
    pub fn least_tokens(&self, request: &Request) -> usize {
        fn text(content: &Content) -> Option<&str> {
            match content {
                // Templates may trim.
                Content::Text(text) => Some(text.trim()),
                Content::Reasoning(_) | Content::ToolCall(_) | Content::ToolResult(_) => None,
            }
        }
        let Some(tokenizer) = &self.tokenizer else { return 0 };
        let written = request.messages.iter().filter(|message| match message.role {
            Role::System | Role::User => true,
            Role::Assistant | Role::Tool => false,
        });
        let texts = written.flat_map(|message| &message.content).filter_map(text);
        tokenizer.least_tokens(texts)
    }
}

#[cfg(test)]
pub(crate) mod tests;
