//! The networks in a device's memory: loaded when they are first needed, the least recently used out when memory is short.
//!
//! Lives on the device's thread (`owner`). A model that cannot fit at all is refused with the figures before anything is read.

use super::conditioned::ConditionedUnet;
use super::files::PipelineFiles;
use super::memory;
use super::stable_diffusion::{EncodedPrompts, Prompts, StableDiffusion};
use super::text::TextEncoders;
use super::{Denoiser, Guided, LoadError, ModelFolder, Placement, UnetDenoiser};
use std::sync::{Arc, Mutex, PoisonError};

/// A network in memory.
#[derive(Clone)]
enum Network {
    /// Takes noise, and perhaps a class.
    Plain(Arc<UnetDenoiser>),
    /// Takes what a prompt is encoded as, too.
    Conditioned(Arc<ConditionedUnet>),
}

struct Resident {
    name: String,
    /// Digest of its weights.
    key: String,
    network: Network,
    bytes: u64,
}

/// What a model takes, by its configs and the headers of its files.
pub(super) struct Needs {
    /// Class labels.
    pub classes: u32,
    /// Guidance scale that its pipeline has where none is given; present for models that take prompts.
    pub guidance_scale: Option<f64>,
    /// Whether its samples are pictures, or stand for some.
    pub pictures: bool,
    /// Bytes of the device's memory.
    pub memory: u64,
}

impl Needs {
    pub fn of(folder: &ModelFolder, placement: Placement) -> Result<Self, LoadError> {
        let network = memory::of_network(folder, placement)?;
        Ok(match &folder.pipeline {
            None => Self {
                classes: UnetDenoiser::classes_of(folder)?,
                guidance_scale: None,
                pictures: UnetDenoiser::has_pictures(folder)?,
                memory: network,
            },
            Some(pipeline) => Self {
                classes: 0,
                guidance_scale: Some(pipeline.guidance_scale()),
                pictures: true,
                memory: network.max(memory::of_text(pipeline)?),
            },
        })
    }
}

/// Networks by digest.
pub(super) struct Residents {
    placement: Placement,
    /// Bytes they may take together.
    budget: u64,
    /// Least recently used first.
    networks: Vec<Resident>,
    /// Their names, for whoever asks without waiting for the device.
    names: Arc<Mutex<Vec<String>>>,
}

impl Residents {
    /// Opens the device; networks may take `budget` bytes of it, most of what is free without a figure.
    pub fn new(
        placement: Placement,
        budget: Option<u64>,
        names: Arc<Mutex<Vec<String>>>,
    ) -> Result<Self, LoadError> {
        // Open while its memory is asked for.
        let _opened = placement.device.open()?;
        Ok(Self {
            budget: budget.unwrap_or_else(|| memory::budget(placement.device)),
            placement,
            networks: Vec::new(),
            names,
        })
    }

    /// The network of a model whose digest is `key`.
    fn load(&mut self, key: &str, folder: &ModelFolder) -> Result<Network, LoadError> {
        if let Some(i) = self.networks.iter().position(|network| network.key == key) {
            let used = self.networks.remove(i);
            self.networks.push(used);
        } else {
            let bytes = memory::of_network(folder, self.placement)?;
            self.make_room(&folder.name, bytes)?;
            let network = match &folder.pipeline {
                None => Network::Plain(Arc::new(UnetDenoiser::load(folder, self.placement)?)),
                Some(_) => Network::Conditioned(Arc::new(
                    ConditionedUnet::load(&folder.network, self.placement)
                        .map_err(LoadError::of_part("unet"))?,
                )),
            };
            self.networks.push(Resident {
                name: folder.name.clone(),
                key: key.to_owned(),
                network,
                bytes,
            });
        }
        self.tell();
        let used = self.networks.last().expect("a network was just put there");
        Ok(used.network.clone())
    }

    /// A model as one job samples it: with its prompts, if it takes any, and under guidance.
    pub fn denoiser(
        &mut self,
        key: &str,
        folder: &ModelFolder,
        prompts: Option<&Prompts>,
        guidance_scale: f64,
    ) -> Result<Arc<dyn Denoiser>, LoadError> {
        // Text encoders first: they are gone again when the network comes.
        let encoded = match (&folder.pipeline, prompts) {
            (Some(pipeline), Some(prompts)) => {
                let encoded = self.encode(folder, pipeline, prompts)?;
                Some((pipeline, encoded))
            }
            (None, None) => None,
            _ => return Err(LoadError::Prompts(folder.name.clone())),
        };
        Ok(match (self.load(key, folder)?, encoded) {
            (Network::Plain(network), _) => Arc::new(Guided::new(network, guidance_scale)),
            (Network::Conditioned(network), Some((pipeline, encoded))) => {
                let (prediction, device) = (folder.prediction, self.placement.device);
                let model = StableDiffusion::new(network, prediction, encoded, pipeline, device)?;
                Arc::new(Guided::new(model, guidance_scale))
            }
            (Network::Conditioned(_), None) => {
                return Err(LoadError::Prompts(folder.name.clone()));
            }
        })
    }

    /// What the text encoders of a pipeline make of prompts; the encoders are gone afterwards.
    fn encode(
        &mut self,
        folder: &ModelFolder,
        pipeline: &PipelineFiles,
        prompts: &Prompts,
    ) -> Result<EncodedPrompts, LoadError> {
        let bytes = memory::of_text(pipeline)?;
        self.make_room(&folder.name, bytes)?;
        let encoders = TextEncoders::load(&pipeline.text, self.placement.device)?;
        EncodedPrompts::new(&encoders, pipeline, prompts)
    }

    /// Lets networks go until there is room for `bytes`.
    fn make_room(&mut self, name: &str, bytes: u64) -> Result<(), LoadError> {
        if bytes > self.budget {
            return Err(LoadError::TooLarge {
                name: name.to_owned(),
                needed: bytes,
                budget: self.budget,
                device: self.placement.device.to_string(),
            });
        }
        let mut taken: u64 = self.networks.iter().map(|network| network.bytes).sum();
        while taken + bytes > self.budget {
            let oldest = self.networks.remove(0);
            tracing::info!(
                model = oldest.name,
                "out of the device's memory, for {name}"
            );
            taken -= oldest.bytes;
        }
        self.tell();
        Ok(())
    }

    fn tell(&self) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        *names = self.networks.iter().map(|n| n.name.clone()).collect();
    }
}
