//! Prompts to tokens, as transformers' `CLIPTokenizer` makes them.
//!
//! A tokenizer comes as one `tokenizer.json`, or as a vocabulary and its merges, of which the same file is made here.

use crate::denoiser::LoadError;
use crate::denoiser::files::{TokenizerFiles, Vocabulary};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tokenizers::{PaddingParams, PaddingStrategy, TruncationParams};

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
/// Tokens of a text where the tokenizer's config has no number.
const TOKENS: usize = 77;
/// Most tokens: a config without a limit says so by a huge number.
const MOST_TOKENS: u64 = 4096;
/// Words, digits and the rest, apart.
const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// A pipeline's tokenizer.
pub struct Tokenizer {
    tokenizer: tokenizers::Tokenizer,
    tokens: usize,
}

impl Tokenizer {
    pub fn new(files: &TokenizerFiles) -> Result<Self, LoadError> {
        let config = object("tokenizer_config.json", &files.config)?;
        let pad_token = pad_token(files, &config)?;
        let whole = match &files.vocabulary {
            Vocabulary::Whole(file) => file.clone(),
            Vocabulary::Parts { vocab, merges } => {
                whole(vocab, merges, &pad_token)?.to_string().into_bytes()
            }
        };
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(whole)
            .map_err(|error| LoadError::Tokenizer(format!("tokenizer.json: {error}")))?;
        let tokens = match config["model_max_length"].as_u64() {
            Some(tokens) if (3..=MOST_TOKENS).contains(&tokens) => tokens as usize,
            _ => TOKENS,
        };
        let pad_id = tokenizer.token_to_id(&pad_token).ok_or_else(|| {
            LoadError::Tokenizer(format!("the vocabulary lacks the padding `{pad_token}`"))
        })?;
        let truncation = TruncationParams {
            max_length: tokens,
            ..TruncationParams::default()
        };
        tokenizer
            .with_truncation(Some(truncation))
            .map_err(|error| LoadError::Tokenizer(error.to_string()))?
            .with_padding(Some(PaddingParams {
                strategy: PaddingStrategy::Fixed(tokens),
                pad_id,
                pad_token,
                ..PaddingParams::default()
            }));
        Ok(Self { tokenizer, tokens })
    }

    /// Tokens of every text.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The ids of a text's tokens: a start, at most as many as fit, an end, and padding.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, LoadError> {
        let encoding = self
            .tokenizer
            .encode(text, true)
            .map_err(|error| LoadError::Tokenizer(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }
}

/// What texts are filled up with. Tokenizers that list their added tokens say it in their config; older ones have a map of special
/// tokens that comes before it.
fn pad_token(files: &TokenizerFiles, config: &Value) -> Result<String, LoadError> {
    let special = match &files.special_tokens {
        Some(special) if config.get("added_tokens_decoder").is_none() => {
            object("special_tokens_map.json", special)?
        }
        _ => Value::Null,
    };
    let named = |map: &Value| {
        let token = &map["pad_token"];
        let token = token.as_str().or_else(|| token["content"].as_str());
        token.map(str::to_owned)
    };
    let token = named(&special).or_else(|| named(config));
    Ok(token.unwrap_or_else(|| END.to_owned()))
}

fn object(file: &str, bytes: &[u8]) -> Result<Value, LoadError> {
    match serde_json::from_slice(bytes) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err(LoadError::Tokenizer(format!("{file}: must be an object"))),
        Err(error) => Err(LoadError::Tokenizer(format!("{file}: {error}"))),
    }
}

/// The `tokenizer.json` of a vocabulary and its merges.
fn whole(vocab: &[u8], merges: &[u8], pad_token: &str) -> Result<Value, LoadError> {
    let vocab: BTreeMap<String, u32> = serde_json::from_slice(vocab)
        .map_err(|error| LoadError::Tokenizer(format!("vocab.json: {error}")))?;
    let merges = std::str::from_utf8(merges)
        .map_err(|error| LoadError::Tokenizer(format!("merges.txt: {error}")))?;
    let merges: Vec<&str> = merges
        .lines()
        .filter(|line| !line.starts_with("#version") && !line.is_empty())
        .collect();
    let id = |token: &str| {
        let lacks = || LoadError::Tokenizer(format!("vocab.json: lacks `{token}`"));
        vocab.get(token).copied().ok_or_else(lacks)
    };
    let (start, end) = (id(START)?, id(END)?);
    // In a text the padding stands for itself too.
    let mut special = vec![START, END];
    if pad_token != START && pad_token != END {
        special.push(pad_token);
    }
    let added = |content: &str| -> Result<Value, LoadError> {
        let id = id(content)?;
        Ok(
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                  "normalized": false, "special": true}),
        )
    };
    let added = special.into_iter().map(added);
    let added = added.collect::<Result<Vec<_>, _>>()?;
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        ]},
        "post_processor": {"type": "RobertaProcessing", "sep": [END, end], "cls": [START, start], "trim_offsets": false,
                           "add_prefix_space": false},
        "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": END, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "</w>", "fuse_unk": false, "byte_fallback": false, "vocab": vocab,
                  "merges": merges},
    }))
}
