//! Models on disk: folders as diffusers saves them, below one root that no name and no link leads out of.
//!
//! A folder is a whole pipeline (`model_index.json`, `unet/`, `scheduler/`) or a bare network (`config.json` and its weights,
//! with `scheduler_config.json` beside them). A folder that opened is wholly in memory: its digest is that of what
//! will run. Only safetensors are read.

use super::LoadError;
use super::files::NetworkFiles;
use super::weights::WeightsFile;
use crate::schedule::{NoiseSpec, Prediction, SchedulerConfig};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";
const CONFIG: &str = "config.json";
const SCHEDULER: &str = "scheduler_config.json";

/// A folder of model folders.
#[derive(Clone, Debug)]
pub struct ModelsRoot {
    root: PathBuf,
}

/// A model's files, read.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    /// The folder's name.
    pub name: String,
    pub network: NetworkFiles,
    /// The scheduler it was trained with: its noise schedule.
    pub scheduler: SchedulerConfig,
    /// What the network predicts, by that scheduler.
    pub prediction: Prediction,
    /// SHA-256 of what its answers depend on, the config, the prediction and the weights, in hexadecimal.
    pub digest: String,
}

impl ModelFolder {
    /// A model from its files' bytes, for one that is built into the program.
    pub fn from_bytes(
        name: &str,
        config: Vec<u8>,
        scheduler_config: &[u8],
        weights: Vec<u8>,
    ) -> Result<Self, LoadError> {
        let invalid = |field: &str, detail: String| LoadError::Config {
            file: SCHEDULER,
            field: field.to_owned(),
            detail,
        };
        let scheduler: SchedulerConfig = serde_json::from_slice(scheduler_config)
            .map_err(|error| invalid("the file", error.to_string()))?;
        let prediction = match scheduler.prediction() {
            Some(prediction) => prediction,
            // Configs from before the field are of networks that predict the noise.
            None if !has_field(scheduler_config, "prediction_type") => Prediction::Epsilon,
            None => {
                let detail = "must be epsilon, v_prediction, sample or flow_prediction";
                return Err(invalid("prediction_type", detail.to_owned()));
            }
        };
        check_noise(&scheduler, prediction).map_err(|detail| invalid("prediction_type", detail))?;
        Ok(Self {
            name: name.to_owned(),
            scheduler,
            prediction,
            digest: String::new(),
            network: NetworkFiles {
                config,
                weights: vec![WeightsFile::Bytes(weights.into())],
            },
        })
    }
}

/// Refuses noise that the prediction does not go with: without EDM's preconditioning, or with noise predicted on a flow, a network
/// would answer nonsense.
fn check_noise(scheduler: &SchedulerConfig, prediction: Prediction) -> Result<(), String> {
    let noise = scheduler.noise_spec(None, None);
    match noise.map_err(|error| error.to_string())? {
        NoiseSpec::Edm { .. } => {
            Err("networks with EDM's preconditioning are not supported".to_owned())
        }
        NoiseSpec::Flow { .. } if prediction != Prediction::FlowPrediction => {
            Err("must be flow_prediction for a flow-matching scheduler".to_owned())
        }
        _ => Ok(()),
    }
}

fn has_field(json: &[u8], field: &str) -> bool {
    serde_json::from_slice::<serde_json::Map<_, _>>(json)
        .is_ok_and(|fields: serde_json::Map<String, serde_json::Value>| fields.contains_key(field))
}

impl ModelsRoot {
    /// A root that exists.
    pub fn new(path: impl AsRef<Path>) -> Result<Self, LoadError> {
        let path = path.as_ref();
        let root = path.canonicalize().map_err(io(path))?;
        Ok(Self { root })
    }

    /// Names of the folders that hold a model, in order.
    pub fn list(&self) -> Result<Vec<String>, LoadError> {
        let entries = fs::read_dir(&self.root).map_err(io(&self.root))?;
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| {
                check_name(name).is_ok()
                    && self
                        .folder(name)
                        .is_ok_and(|folder| network_folder(&folder).join(CONFIG).is_file())
            })
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Reads the model `name`.
    pub fn open(&self, name: &str) -> Result<ModelFolder, LoadError> {
        check_name(name)?;
        let folder = self.folder(name)?;
        let network = network_folder(&folder);
        let config = self.read(&network.join(CONFIG), "save the model with diffusers")?;
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
        let weights = self.read_weights(&network)?;
        ModelFolder::from_bytes(name, config, &scheduler, weights)
    }

    fn folder(&self, name: &str) -> Result<PathBuf, LoadError> {
        let path = self.root.join(name);
        if !path.exists() {
            return Err(LoadError::NoModel(name.to_owned()));
        }
        self.inside(&path)
    }

    /// The path without links, which must not have led out of the root.
    fn inside(&self, path: &Path) -> Result<PathBuf, LoadError> {
        let real = path.canonicalize().map_err(io(path))?;
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
        fs::read(self.inside(path)?).map_err(io(path))
    }

    fn read_weights(&self, network: &Path) -> Result<Vec<u8>, LoadError> {
        let path = network.join(WEIGHTS);
        if !path.exists() {
            return Err(LoadError::MissingFile {
                advice: instead_of_weights(network),
                path,
            });
        }
        let mut file = File::open(self.inside(&path)?).map_err(io(&path))?;
        let size = file.metadata().map_err(io(&path))?.len();
        let mut start = [0; 8];
        if size < 8 {
            return Err(LoadError::Safetensors(format!("it has {size} bytes")));
        }
        file.read_exact(&mut start).map_err(io(&path))?;
        let mut bytes = start.to_vec();
        bytes.reserve_exact((size - 8) as usize);
        file.read_to_end(&mut bytes).map_err(io(&path))?;
        Ok(bytes)
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

/// What to do about weights that are not there, by what is there instead.
fn instead_of_weights(network: &Path) -> String {
    let names = fs::read_dir(network).into_iter().flatten();
    let names: Vec<String> = names
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let ends = |ending: &str| names.iter().find(|name| name.ends_with(ending));
    if let Some(pickle) = [".bin", ".ckpt", ".pt", ".pth"]
        .iter()
        .find_map(|ending| ends(ending))
    {
        return format!(
            "`{pickle}` can run code and is not read; save the model again with safe_serialization=True"
        );
    }
    if let Some(index) = ends(".safetensors.index.json") {
        return format!(
            "weights in several files (`{index}`) are not read; save the model again with a larger max_shard_size"
        );
    }
    match ends(".safetensors") {
        Some(other) => format!("rename `{other}` if that is the network"),
        None => "save the model with diffusers".to_owned(),
    }
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

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> LoadError {
    let path = path.to_owned();
    move |source| LoadError::Io { path, source }
}
