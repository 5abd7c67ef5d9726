//! The files a model is made of, found but not yet built.

use super::weights::WeightsFile;

/// A network's files.
#[derive(Clone, Debug)]
pub struct NetworkFiles {
    /// Its `config.json`.
    pub config: Vec<u8>,
    /// One safetensors file, or the parts of one.
    pub weights: Vec<WeightsFile>,
}

/// A text encoder's files.
#[derive(Clone, Debug)]
pub struct TextFiles {
    pub encoder: NetworkFiles,
    pub tokenizer: TokenizerFiles,
}

/// A tokenizer's files.
#[derive(Clone, Debug)]
pub struct TokenizerFiles {
    pub vocabulary: Vocabulary,
    /// Its `tokenizer_config.json`: the padding token and the number of tokens.
    pub config: Vec<u8>,
}

/// How a tokenizer's vocabulary is stored.
#[derive(Clone, Debug)]
pub enum Vocabulary {
    /// A `tokenizer.json`.
    Whole(Vec<u8>),
    /// A `vocab.json` and a `merges.txt`.
    Parts { vocab: Vec<u8>, merges: Vec<u8> },
}
