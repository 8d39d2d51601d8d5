//! The model card: what a gateway needs to tokenise and to render prompts, read once from the GGUF file.

use super::gguf::Metadata;
use super::raw::Context;
use cluster_protocol::{ModelCard, TokenKind, TokenizerCard};
use llama_cpp_sys_2 as sys;
use std::collections::HashMap;
use std::path::Path;

pub(super) fn read(context: &Context, metadata: &Metadata, path: &Path) -> ModelCard {
    let (tokens, kinds) = (0..context.vocabulary())
        .map(|id| {
            let (text, attributes) = context.token(id);
            (text, kind(attributes))
        })
        .unzip();
    let (bos, eos, add_bos) = context.special();
    let file_stem = || path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    ModelCard {
        name: metadata.text("general.name").unwrap_or_else(file_stem),
        architecture: metadata.text("general.architecture").unwrap_or_default(),
        trained_context_tokens: context.trained_context(),
        tokenizer: TokenizerCard {
            kind: metadata.text("tokenizer.ggml.model").unwrap_or_default(),
            pre: metadata.text("tokenizer.ggml.pre").unwrap_or_default(),
            tokens,
            kinds,
            merges: metadata.texts("tokenizer.ggml.merges"),
            bos,
            eos,
            end_of_generation: (0..context.vocabulary()).filter(|id| context.ends_generation(*id)).collect(),
            add_bos,
        },
        chat_template: context.chat_template(),
    }
}

/// Tokens that a template may name and that callers' text never becomes.
pub(super) fn special_tokens(card: &ModelCard) -> HashMap<String, u32> {
    let tokenizer = &card.tokenizer;
    let special = |kind: &TokenKind| match kind {
        TokenKind::Control | TokenKind::UserDefined => true,
        TokenKind::Normal | TokenKind::Unknown | TokenKind::Unused | TokenKind::Byte => false,
    };
    (0..)
        .zip(tokenizer.tokens.iter().zip(&tokenizer.kinds))
        .filter(|(_, (_, kind))| special(kind))
        .map(|(id, (text, _))| (text.clone(), id))
        .collect()
}

fn kind(attributes: sys::llama_token_attr) -> TokenKind {
    let kinds = [
        (sys::LLAMA_TOKEN_ATTR_CONTROL, TokenKind::Control),
        (sys::LLAMA_TOKEN_ATTR_USER_DEFINED, TokenKind::UserDefined),
        (sys::LLAMA_TOKEN_ATTR_UNKNOWN, TokenKind::Unknown),
        (sys::LLAMA_TOKEN_ATTR_UNUSED, TokenKind::Unused),
        (sys::LLAMA_TOKEN_ATTR_BYTE, TokenKind::Byte),
    ];
    kinds.into_iter().find(|(bit, _)| attributes & bit != 0).map_or(TokenKind::Normal, |(_, kind)| kind)
}
