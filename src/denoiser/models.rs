//! The denoisers at hand: the built-in ones, and the folders under the models root.
//!
//! [`Models::describe`] says what a model is by its configs alone, [`Models::weights`] is the digest that its answers depend on, and
//! [`Models::open`] gives the denoiser of exactly that digest for one job. Networks run on the service's device, one job at a time
//! (`owner`); exact mixtures run where they are called.

use super::owner::{Owner, Seat};
use super::residents::Needs;
use super::stable_diffusion::Prompts;
use super::{Denoiser, Device, Digests, LoadError, Mixture, ModelFolder, ModelsRoot, Placement};
use crate::schedule::{Prediction, SchedulerConfig, families};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

/// Exact mixtures have no weights: their digests name their definitions, and change with them.
const RING: (&str, &str) = ("mixture-2d", "ring-1");
const IMAGES: (&str, &str) = ("mixture-64d", "images-1");
/// The demo network; `models/fashion-mnist/README.md` is its card.
const DEMO: &str = "fashion-mnist";

/// What a model is, before it is loaded.
#[derive(Clone, Debug)]
pub struct Description {
    /// Class labels it takes: `0..classes`.
    pub classes: u32,
    /// Guidance scale its pipeline has where none is given; present for models that take prompts.
    pub prompted: Option<f64>,
    /// Whether its samples are pictures, or stand for some.
    pub pictures: bool,
    /// The scheduler it was trained with, for a folder; built-in models are families of their own.
    pub scheduler: Option<SchedulerConfig>,
    pub prediction: Option<Prediction>,
    /// Where it runs; nothing for mixtures.
    pub runtime: Option<Runtime>,
}

/// Where a network runs, and what it takes there.
#[derive(Clone, Debug)]
pub struct Runtime {
    pub placement: Placement,
    /// Bytes of the device's memory that it needs.
    pub memory: u64,
    /// Whether it is in that memory.
    pub loaded: bool,
}

/// What a job asks of a model.
#[derive(Clone, Debug)]
pub struct Demand<'a> {
    pub name: &'a str,
    /// Digest its weights must have.
    pub weights: &'a str,
    /// Classifier-free guidance; 1 is the conditional model as it is.
    pub guidance_scale: f64,
    /// What the samples show, for models that take prompts.
    pub prompts: Option<Prompts>,
}

/// Where denoisers come from.
pub struct Models {
    root: Option<ModelsRoot>,
    owner: Arc<Owner>,
    /// The demo's files and digest, once they were asked for.
    demo: OnceLock<(ModelFolder, String)>,
}

impl Models {
    /// The built-in models, and the folders under `root`, on a device, which is opened to see that it is there. Networks may take
    /// `memory` bytes of it; without a figure, most of what is free.
    pub fn new(
        root: Option<&Path>,
        placement: Placement,
        memory: Option<u64>,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            root: root.map(ModelsRoot::new).transpose()?,
            owner: Owner::start(placement, memory)?,
            demo: OnceLock::new(),
        })
    }

    /// The built-in models alone, on the CPU.
    pub fn built_in() -> Result<Self, LoadError> {
        Self::new(None, Placement::from(Device::Cpu), None)
    }

    /// Names of the built-in denoisers and of the folders that have no built-in model's name.
    pub fn list(&self) -> Result<Vec<String>, LoadError> {
        let mut names = vec![DEMO.to_owned(), RING.0.to_owned(), IMAGES.0.to_owned()];
        if let Some(root) = &self.root {
            let folders = root.list()?.into_iter();
            names.extend(folders.filter(|name| families::find(name).is_none()));
        }
        Ok(names)
    }

    /// Where networks run.
    #[must_use]
    pub fn device(&self) -> Device {
        self.owner.placement().device
    }

    /// What a model is; nothing where no denoiser of that name is at hand. A built-in model's name is never a folder's, whose noise
    /// might be another.
    pub fn describe(&self, name: &str) -> Result<Option<Description>, LoadError> {
        if [RING.0, IMAGES.0].contains(&name) {
            return Ok(Some(Description {
                classes: 0,
                prompted: None,
                pictures: false,
                scheduler: None,
                prediction: None,
                runtime: None,
            }));
        }
        let Some(folder) = self.folder(name)? else {
            return Ok(None);
        };
        let needs = Needs::of(&folder, self.owner.placement())?;
        Ok(Some(Description {
            classes: needs.classes,
            prompted: needs.guidance_scale,
            pictures: needs.pictures,
            scheduler: (name != DEMO).then(|| folder.scheduler.clone()),
            prediction: (name != DEMO).then_some(folder.prediction),
            runtime: Some(Runtime {
                placement: self.owner.placement(),
                memory: needs.memory,
                loaded: self.owner.has_loaded(name),
            }),
        }))
    }

    /// Digest of all that a model's answers depend on: its configs, prediction and weights; a name for models that have no weights.
    /// Reads every file that it has not read before.
    pub fn weights(&self, name: &str) -> Result<String, LoadError> {
        if let Some((_, digest)) = [RING, IMAGES].iter().find(|(mixture, _)| name == *mixture) {
            return Ok((*digest).to_owned());
        }
        let folder = self.folder(name)?;
        let folder = folder.ok_or_else(|| LoadError::NoModel(name.to_owned()))?;
        self.digest(&folder)
    }

    /// The denoiser that a job asks for, when it is the job's turn on the device; the turn ends with the denoiser. Setting `stop`
    /// ends the wait.
    pub fn open(&self, demand: &Demand, stop: &AtomicBool) -> Result<Box<dyn Denoiser>, LoadError> {
        let Demand { name, weights, .. } = *demand;
        let changed = || LoadError::Changed(name.to_owned());
        match (name, weights) {
            RING => return Ok(Box::new(Mixture::ring())),
            IMAGES => return Ok(Box::new(Mixture::images())),
            _ if [RING.0, IMAGES.0].contains(&name) => return Err(changed()),
            _ => {}
        }
        let turn = self.owner.turn(stop).ok_or(LoadError::Stopped)?;
        let folder = self.folder(name)?;
        let folder = folder.ok_or_else(|| LoadError::NoModel(name.to_owned()))?;
        if self.digest(&folder)? != weights {
            return Err(changed());
        }
        let (prompts, scale) = (demand.prompts.clone(), demand.guidance_scale);
        let (key, files) = (weights.to_owned(), folder.clone());
        let denoiser = self
            .owner
            .ask(move |residents| residents.denoiser(&key, &files, prompts.as_ref(), scale))??;
        // What was loaded is what the digest is of, unless a file changed meanwhile.
        if self.digest(&folder)? != weights {
            return Err(changed());
        }
        Ok(Box::new(Seat::new(turn, denoiser)))
    }

    fn folder(&self, name: &str) -> Result<Option<ModelFolder>, LoadError> {
        if name == DEMO {
            return Ok(Some(self.demo()?.0.clone()));
        }
        let Some(root) = self
            .root
            .as_ref()
            .filter(|_| families::find(name).is_none())
        else {
            return Ok(None);
        };
        match root.open(name) {
            Ok(folder) => Ok(Some(folder)),
            Err(LoadError::NoModel(_) | LoadError::Name(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn digest(&self, folder: &ModelFolder) -> Result<String, LoadError> {
        match &self.root {
            _ if folder.name == DEMO => Ok(self.demo()?.1.clone()),
            Some(root) => root.digest(folder),
            None => Err(LoadError::NoModel(folder.name.clone())),
        }
    }

    /// The demo network, which is part of the program.
    fn demo(&self) -> Result<&(ModelFolder, String), LoadError> {
        macro_rules! demo_file {
            ($path:literal) => {
                include_bytes!(concat!(
                    env!("CARGO_MANIFEST_DIR"),
                    "/models/fashion-mnist/",
                    $path
                ))
            };
        }
        if let Some(demo) = self.demo.get() {
            return Ok(demo);
        }
        let folder = ModelFolder::from_bytes(
            DEMO,
            demo_file!("unet/config.json").to_vec(),
            demo_file!("scheduler/scheduler_config.json"),
            demo_file!("unet/diffusion_pytorch_model.safetensors").to_vec(),
        )?;
        let digest = folder.digest(&Digests::default())?;
        Ok(self.demo.get_or_init(|| (folder, digest)))
    }
}
