//! From a conversation to token ids, without C++ and without a model file: all from the worker's model card.
//!
//! Everything here is CPU-bound and synchronous; callers run it on a bounded blocking pool, and make one [`ModelText`]
//! per card digest.

mod guard;
mod pretokenizer;
mod template;
mod tokenizer;

use crate::error::{Error, Result};
use crate::inference::{Content, Message, Request, Role};
use cluster_protocol::{ModelCard, TextPart};
use guard::Guard;
use template::{ChatTemplate, Turn};
use tokenizer::Tokenizer;

/// One model's template and tokenizer.
#[derive(Debug)]
pub struct ModelText {
    template: ChatTemplate,
    guard: Guard,
    tokenizer: Option<Tokenizer>,
    /// What the engine puts before a prompt, if it does.
    prefix: Option<String>,
}

impl ModelText {
    /// From a worker's card.
    ///
    /// # Errors
    /// `Internal` when the template can't be compiled, or there is none and the vocabulary is not ChatML's.
    pub fn from_card(card: &ModelCard) -> Result<ModelText> {
        let template = ChatTemplate::compile(card)?;
        let bos = card.tokenizer.bos.filter(|_| card.tokenizer.add_bos);
        Ok(ModelText {
            guard: Guard::new(&card.tokenizer, template.source())?,
            tokenizer: Tokenizer::from_card(card),
            prefix: bos.and_then(|id| card.tokenizer.tokens.get(id as usize)).cloned(),
            template,
        })
    }

    /// Renders the conversation; special tokens come from the template only, never from callers' text.
    ///
    /// The parts of a turn are joined by line feeds. The engine's beginning-of-sequence token comes first where the
    /// vocabulary wants one and the template wrote none.
    ///
    /// # Errors
    /// `Invalid` when the template refuses the conversation or runs out of fuel.
    pub fn render(&self, request: &Request) -> Result<Vec<TextPart>> {
        let texts: Vec<String> = request.messages.iter().map(text).collect();
        let mark = self.guard.free_mark(&texts).ok_or_else(|| {
            Error::invalid("messages", "The conversation uses every one of Unicode's non-characters U+FDD0 to U+FDEF.")
        })?;
        let turns = request
            .messages
            .iter()
            .zip(&texts)
            .map(|(message, text)| Turn { role: message.role, content: self.guard.mark(message.role, text, mark) });
        let unix_seconds = request.id.uuid().and_then(|id| id.get_timestamp()).map_or(0, |time| time.to_unix().0);
        let rendered = self.template.render(turns, unix_seconds)?;
        let mut parts = self.guard.split(&rendered, mark);
        if let Some(prefix) = &self.prefix {
            let written = parts.first().is_some_and(|part| part.special && part.text == *prefix);
            if !written {
                parts.insert(0, TextPart { text: prefix.clone(), special: true });
            }
        }
        Ok(parts)
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
        let Some(tokenizer) = &self.tokenizer else { return 0 };
        let written = request.messages.iter().filter(|message| match message.role {
            Role::System | Role::User => true,
            Role::Assistant => false,
        });
        // Templates may trim.
        let texts = written.flat_map(|message| &message.content).map(|Content::Text(text)| text.trim());
        tokenizer.least_tokens(texts)
    }
}

fn text(message: &Message) -> String {
    let texts = message.content.iter().map(|content| match content {
        Content::Text(text) => text.as_str(),
    });
    texts.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
