//! A folder of model folders, which no name and no link leads out of.
//!
//! A model is `<root>/<name>/`, or `<root>/models--<organisation>--<model>/` as the Hugging Face cache has it, of which the name is
//! `<organisation>--<model>` and the files are those of the revision that `refs/main` names.

use super::weights_files;
use super::{Digests, ModelFolder, SCHEDULER};
use crate::denoiser::LoadError;
use crate::denoiser::config_file::one_of;
use crate::denoiser::files::{NetworkFiles, PipelineFiles, TextFiles, TokenizerFiles, Vocabulary};
use crate::denoiser::weights::WeightsFile;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const CONFIG: &str = "config.json";
const SPECIAL: &str = "special_tokens_map.json";
const INDEX: &str = "model_index.json";
/// What the weights of diffusers' networks are called, and those of transformers' encoders.
const DIFFUSERS: &str = "diffusion_pytorch_model";
const TRANSFORMERS: &str = "model";
/// The pipelines whose prompts, network and pictures go together as they do here.
const PIPELINES: &[&str] = &["StableDiffusionPipeline", "StableDiffusionXLPipeline"];
/// How the Hugging Face cache begins the names of its folders.
const CACHED: &str = "models--";

/// A folder of model folders.
#[derive(Debug)]
pub struct ModelsRoot {
    root: PathBuf,
    digests: Digests,
}

impl ModelsRoot {
    /// A root that exists.
    pub fn new(path: impl AsRef<Path>) -> Result<Self, LoadError> {
        let path = path.as_ref();
        let root = path.canonicalize().map_err(LoadError::io(path))?;
        Ok(Self {
            root,
            digests: Digests::default(),
        })
    }

    /// Names of the folders that hold a model, in order.
    pub fn list(&self) -> Result<Vec<String>, LoadError> {
        let entries = fs::read_dir(&self.root).map_err(LoadError::io(&self.root))?;
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .map(|name| name.strip_prefix(CACHED).unwrap_or(&name).to_owned())
            .filter(|name| {
                check_name(name).is_ok()
                    && self
                        .folder(name)
                        .is_ok_and(|folder| network_folder(&folder).join(CONFIG).is_file())
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// Finds the model `name`.
    pub fn open(&self, name: &str) -> Result<ModelFolder, LoadError> {
        check_name(name)?;
        let folder = self.folder(name)?;
        let network = network_folder(&folder);
        let files = self.network(&network, DIFFUSERS)?;
        let scheduler = [
            folder.join("scheduler").join(SCHEDULER),
            network.join(SCHEDULER),
        ];
        let scheduler = scheduler
            .iter()
            .find(|path| path.exists())
            .unwrap_or(&scheduler[0]);
        let scheduler = self.read(
            scheduler,
            "save the scheduler the model was trained with beside it",
        )?;
        let pipeline = if is_conditioned(&files.config) {
            Some(self.pipeline(&folder)?)
        } else {
            None
        };
        ModelFolder::new(name, files, pipeline, &scheduler)
    }

    /// The digest of a model; files that have not changed since the last time are not read again.
    pub fn digest(&self, model: &ModelFolder) -> Result<String, LoadError> {
        model.digest(&self.digests)
    }

    fn folder(&self, name: &str) -> Result<PathBuf, LoadError> {
        let plain = self.root.join(name);
        if plain.exists() {
            return self.inside(&plain);
        }
        let cached = self.root.join(format!("{CACHED}{name}"));
        if !cached.exists() {
            return Err(LoadError::NoModel(name.to_owned()));
        }
        let cached = self.inside(&cached)?;
        let advice =
            "download the model again, or copy its snapshot's files into a folder of its own";
        let revision = self.read(&cached.join("refs/main"), advice)?;
        let revision = String::from_utf8_lossy(&revision).trim().to_owned();
        check_name(&revision)?;
        let snapshot = cached.join("snapshots").join(revision);
        if snapshot.exists() {
            self.inside(&snapshot)
        } else {
            Err(LoadError::MissingFile {
                path: snapshot,
                advice: advice.to_owned(),
            })
        }
    }

    /// The path without links, which must not have led out of the root.
    fn inside(&self, path: &Path) -> Result<PathBuf, LoadError> {
        let real = path.canonicalize().map_err(LoadError::io(path))?;
        if real.starts_with(&self.root) {
            Ok(real)
        } else {
            Err(LoadError::Outside(path.to_owned()))
        }
    }

    fn read(&self, path: &Path, advice: &str) -> Result<Vec<u8>, LoadError> {
        if !path.exists() {
            return Err(LoadError::MissingFile {
                path: path.to_owned(),
                advice: advice.to_owned(),
            });
        }
        fs::read(self.inside(path)?).map_err(LoadError::io(path))
    }

    /// A network's config and weights, which its library saves under `name`.
    fn network(&self, folder: &Path, name: &str) -> Result<NetworkFiles, LoadError> {
        Ok(NetworkFiles {
            config: self.read(&folder.join(CONFIG), "save the model with diffusers")?,
            weights: weights_files::find(folder, name)?
                .iter()
                .map(|path| Ok(WeightsFile::Path(self.inside(path)?)))
                .collect::<Result<_, LoadError>>()?,
        })
    }

    /// What a text-to-image pipeline has beside its network.
    fn pipeline(&self, folder: &Path) -> Result<PipelineFiles, LoadError> {
        let advice =
            "a network that takes prompts needs its whole pipeline: save that with diffusers";
        let index = self.read(&folder.join(INDEX), advice)?;
        let invalid = |field: &str, detail: &str| LoadError::Config {
            file: INDEX,
            field: field.to_owned(),
            detail: detail.to_owned(),
        };
        let index: Value = serde_json::from_slice(&index)
            .map_err(|error| invalid("the file", &error.to_string()))?;
        let class = index.get("_class_name").and_then(Value::as_str);
        one_of("_class_name", class, PIPELINES).map_err(LoadError::of_part(INDEX))?;
        let zeros = index.get("force_zeros_for_empty_prompt");
        let zeros = zeros.is_none_or(|value| value.as_bool() == Some(true));
        let is_xl = class == Some(PIPELINES[1]);
        let mut text = vec![self.text(folder, "text_encoder", "tokenizer")?];
        if is_xl {
            text.push(self.text(folder, "text_encoder_2", "tokenizer_2")?);
        }
        Ok(PipelineFiles {
            text,
            vae: self.network(&folder.join("vae"), DIFFUSERS)?,
            zeros_for_no_negative_prompt: is_xl && zeros,
        })
    }

    fn text(&self, folder: &Path, encoder: &str, tokenizer: &str) -> Result<TextFiles, LoadError> {
        let tokens = folder.join(tokenizer);
        let advice = "save the whole pipeline with diffusers";
        let read = |name: &str| self.read(&tokens.join(name), advice);
        let vocabulary = if tokens.join("tokenizer.json").exists() {
            Vocabulary::Whole(read("tokenizer.json")?)
        } else {
            Vocabulary::Parts {
                vocab: read("vocab.json")?,
                merges: read("merges.txt")?,
            }
        };
        Ok(TextFiles {
            encoder: self.network(&folder.join(encoder), TRANSFORMERS)?,
            tokenizer: TokenizerFiles {
                vocabulary,
                config: read("tokenizer_config.json")?,
                special_tokens: tokens
                    .join(SPECIAL)
                    .exists()
                    .then(|| read(SPECIAL))
                    .transpose()?,
            },
        })
    }
}

/// Where a model's network is: in `unet/` of a pipeline, or right there.
fn network_folder(folder: &Path) -> PathBuf {
    let unet = folder.join("unet");
    if unet.is_dir() {
        unet
    } else {
        folder.to_owned()
    }
}

/// Whether a network's config is of one that takes prompts; what is wrong with a config is said when it is read.
fn is_conditioned(config: &[u8]) -> bool {
    serde_json::from_slice(config)
        .is_ok_and(|config: Value| config["_class_name"] == "UNet2DConditionModel")
}

fn check_name(name: &str) -> Result<(), LoadError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(plain)
        && name.len() <= 128
    {
        Ok(())
    } else {
        Err(LoadError::Name(name.to_owned()))
    }
}
