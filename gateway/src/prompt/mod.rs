//! From a conversation to token ids, without C++ and without a model file: all from the worker's model card.
//!
//! Everything here is CPU-bound and synchronous; callers run it on a bounded blocking pool.

use crate::error::Result;
use crate::inference::Request;
use cluster_protocol::{ModelCard, TextPart};

/// One model's template and tokenizer.
#[derive(Debug)]
pub struct ModelText;

impl ModelText {
    /// From a worker's card.
    ///
    /// # Errors
    /// `Internal` when the template can't be compiled.
    pub fn from_card(card: &ModelCard) -> Result<ModelText> {
        let _ = card;
        todo!("G4")
    }

    /// Renders the conversation; special tokens come from the template only, never from callers' text.
    ///
    /// # Errors
    /// `Invalid` when the template refuses the conversation or runs out of fuel.
    pub fn render(&self, request: &Request) -> Result<Vec<TextPart>> {
        let _ = request;
        todo!("G4")
    }

    /// Token ids; `None` when this vocabulary is not one whose ids were tested to equal the engine's, so that a worker
    /// must tokenise.
    pub fn encode(&self, parts: &[TextPart]) -> Option<Vec<u32>> {
        let _ = parts;
        todo!("G4")
    }
}
