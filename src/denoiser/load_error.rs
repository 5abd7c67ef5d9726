//! Why a model does not load: one error for folders, configs, weights and devices, each telling what to change.

use super::device::{is_out_of_memory, summary};
use super::owner::Gone;
use std::path::{Path, PathBuf};

/// A model that does not load, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(
        "`{0}` is no model name: use letters, digits, `-`, `_` and `.`, and start with a letter or digit"
    )]
    Name(String),
    #[error(
        "there is no model `{0}` here: `fewstep models` lists the ones there are; start every worker with the same --models-root"
    )]
    NoModel(String),
    #[error(
        "`{0}` is not what it was when the request was made, or not the same on every worker: send the request again"
    )]
    Changed(String),
    #[error("{} leads out of the models folder: replace the link by what it points to", .0.display())]
    Outside(PathBuf),
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} is missing: {advice}", path.display())]
    MissingFile { path: PathBuf, advice: String },
    #[error("{file}: {field}: {detail}")]
    Config {
        file: &'static str,
        field: String,
        detail: String,
    },
    #[error("the weights are no safetensors file: {0}; save the model again with safetensors")]
    Safetensors(String),
    #[error("the weights lack `{0}`: config.json describes another network")]
    MissingKey(String),
    #[error(
        "the weights hold {count} tensors the network has no use for, `{first}` first: config.json describes another network"
    )]
    UnusedKeys { count: usize, first: String },
    #[error("`{key}` has shape {found:?} where config.json asks for {expected:?}")]
    Shape {
        key: String,
        expected: Vec<usize>,
        found: Vec<usize>,
    },
    #[error("`{key}` is stored as {found}: save the weights as f32, f16 or bf16")]
    Dtype { key: String, found: String },
    #[error("{part}: {source}")]
    Part {
        part: &'static str,
        source: Box<LoadError>,
    },
    #[error("`{0}` is no precision: use f32, f16 or bf16")]
    UnknownPrecision(String),
    #[error("`{0}` is no device: use cpu, cuda, cuda:<index>, metal or metal:<index>")]
    UnknownDevice(String),
    #[error("this build has no {device}: build with `--features {feature}` or use cpu")]
    NotBuilt {
        device: String,
        feature: &'static str,
    },
    #[error(
        "{device} does not open: {detail}; see whether the driver lists it (nvidia-smi), or use --device cpu"
    )]
    Unavailable { device: String, detail: String },
    #[error(
        "`{name}` needs {} of memory on {device}, where {} are there for models: use a larger device or half precision (--precision \
         f16), or raise --device-memory",
        gibibytes(*needed),
        gibibytes(*budget)
    )]
    TooLarge {
        name: String,
        needed: u64,
        budget: u64,
        device: String,
    },
    #[error("the tokenizer cannot be used: {0}; save the whole pipeline again with diffusers")]
    Tokenizer(String),
    #[error("{0}")]
    Device(String),
    #[error("stopped before the device was free")]
    Stopped,
    #[error("`{0}` takes prompts, and only a model that does can be given any")]
    Prompts(String),
    #[error(
        "the device ran out of memory while a network was built: free it, or use half precision (--precision f16)"
    )]
    OutOfMemory,
    #[error("the network could not be built: {}", summary(.0))]
    Candle(candle_core::Error),
}

impl LoadError {
    /// An error of the file system.
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }

    /// Says which part of a pipeline an error is about.
    pub(super) fn of_part(part: &'static str) -> impl FnOnce(Self) -> Self {
        move |source| Self::Part {
            part,
            source: Box::new(source),
        }
    }

    /// An error in a field of the network's config.
    pub(super) fn config(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Config {
            file: "config.json",
            field: field.into(),
            detail: detail.into(),
        }
    }
}

/// Bytes as people count memory.
fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

impl From<candle_core::Error> for LoadError {
    fn from(error: candle_core::Error) -> Self {
        if is_out_of_memory(&error) {
            Self::OutOfMemory
        } else {
            Self::Candle(error)
        }
    }
}

impl From<Gone> for LoadError {
    fn from(gone: Gone) -> Self {
        Self::Device(gone.to_string())
    }
}
