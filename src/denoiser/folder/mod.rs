//! Models on disk: folders as diffusers saves them.
//!
//! A folder is a whole pipeline (`model_index.json`, `unet/`, `scheduler/`, and for Stable Diffusion text encoders, tokenizers and
//! a VAE) or a bare network (`config.json` and its weights, with `scheduler_config.json` beside them). Configs are
//! in memory once a folder is open; weights stay on disk until a network is built. Only safetensors are read.

mod digests;
mod root;
mod weights_files;

pub use digests::Digests;
pub use root::ModelsRoot;

use super::LoadError;
use super::files::{NetworkFiles, PipelineFiles, TextFiles, Vocabulary};
use super::weights::WeightsFile;
use crate::schedule::{NoiseSpec, Prediction, SchedulerConfig};
use sha2::{Digest as _, Sha256};

/// The file that a pipeline's scheduler is described by.
const SCHEDULER: &str = "scheduler_config.json";

/// A model's files, found.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    pub name: String,
    /// The scheduler it was trained with: its noise schedule.
    pub scheduler: SchedulerConfig,
    /// What the network predicts, by that scheduler.
    pub prediction: Prediction,
    pub network: NetworkFiles,
    /// What stands before and behind the network of a text-to-image pipeline.
    pub pipeline: Option<PipelineFiles>,
}

impl ModelFolder {
    /// A model of one network from its files' bytes, for one that is built into the program.
    pub fn from_bytes(
        name: &str,
        config: Vec<u8>,
        scheduler_config: &[u8],
        weights: Vec<u8>,
    ) -> Result<Self, LoadError> {
        let network = NetworkFiles {
            config,
            weights: vec![WeightsFile::Bytes(weights.into())],
        };
        Self::new(name, network, None, scheduler_config)
    }

    fn new(
        name: &str,
        network: NetworkFiles,
        pipeline: Option<PipelineFiles>,
        scheduler_config: &[u8],
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
            network,
            pipeline,
        })
    }

    /// SHA-256, in hexadecimal, of what the model's answers depend on: configs, weights, tokenizers and the prediction.
    pub fn digest(&self, digests: &Digests) -> Result<String, LoadError> {
        let mut hash = Framed(Sha256::new());
        hash.add(format!("{:?}", self.prediction).as_bytes());
        hash.add_network(&self.network, digests)?;
        if let Some(pipeline) = &self.pipeline {
            hash.add(&[u8::from(pipeline.zeros_for_no_negative_prompt)]);
            for TextFiles { encoder, tokenizer } in &pipeline.text {
                hash.add_network(encoder, digests)?;
                hash.add(&tokenizer.config);
                hash.add(tokenizer.special_tokens.as_deref().unwrap_or_default());
                match &tokenizer.vocabulary {
                    Vocabulary::Whole(file) => hash.add(file),
                    Vocabulary::Parts { vocab, merges } => {
                        hash.add(vocab);
                        hash.add(merges);
                    }
                }
            }
            hash.add_network(&pipeline.vae, digests)?;
        }
        Ok(digests::hexadecimal(&hash.0.finalize()))
    }
}

/// A hash of several byte strings, each with its length before it, so that no two lists of them run together.
struct Framed(Sha256);

impl Framed {
    fn add(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn add_network(&mut self, network: &NetworkFiles, digests: &Digests) -> Result<(), LoadError> {
        self.add(&network.config);
        for file in &network.weights {
            self.add(digests.of(file)?.as_bytes());
        }
        Ok(())
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
