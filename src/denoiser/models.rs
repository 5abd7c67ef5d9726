//! The denoisers at hand: the built-in ones, and the folders under the models root.
//!
//! [`Models::describe`] says what answers depend on, above all the digest of the weights; [`Models::open`] gives the denoiser of
//! exactly that digest, loaded on the service's device when it is first needed. The last network used stays loaded; who needs another
//! waits for its turn to load it.

use super::{Denoiser, Device, LoadError, Mixture, ModelFolder, ModelsRoot, UnetDenoiser};
use crate::schedule::{Prediction, SchedulerConfig, families};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Exact mixtures have no weights: their digests name their definitions, and change with them.
const RING: (&str, &str) = ("mixture-2d", "ring-1");
const IMAGES: (&str, &str) = ("mixture-64d", "images-1");
/// The demo network; `models/fashion-mnist/README.md` is its card.
const DEMO: &str = "fashion-mnist";

/// What a model is, before it is loaded.
#[derive(Clone, Debug)]
pub struct Description {
    /// Digest of the config, the prediction and the weights; a name for models that have none.
    pub weights: String,
    /// Class labels it takes: `0..classes`.
    pub classes: u32,
    /// The scheduler it was trained with, for a folder; built-in models are families of their own.
    pub scheduler: Option<SchedulerConfig>,
    pub prediction: Option<Prediction>,
}

/// Where denoisers come from.
pub struct Models {
    root: Option<ModelsRoot>,
    device: Device,
    loaded: Mutex<Option<Loaded>>,
    /// The demo's description, once it was asked for.
    demo: OnceLock<Description>,
}

struct Loaded {
    weights: String,
    denoiser: Arc<dyn Denoiser>,
}

impl Models {
    /// The built-in models, and the folders under `root`, on a device, which is opened to see that it is there.
    pub fn new(root: Option<&Path>, device: Device) -> Result<Self, LoadError> {
        device.open()?;
        Ok(Self {
            root: root.map(ModelsRoot::new).transpose()?,
            device,
            loaded: Mutex::new(None),
            demo: OnceLock::new(),
        })
    }

    /// The built-in models alone, on the CPU.
    #[must_use]
    pub fn built_in() -> Self {
        Self {
            root: None,
            device: Device::Cpu,
            loaded: Mutex::new(None),
            demo: OnceLock::new(),
        }
    }

    /// Names of the built-in denoisers and of the folders.
    pub fn list(&self) -> Result<Vec<String>, LoadError> {
        let mut names = vec![DEMO.to_owned(), RING.0.to_owned(), IMAGES.0.to_owned()];
        if let Some(root) = &self.root {
            names.extend(root.list()?);
        }
        Ok(names)
    }

    /// Where networks run.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device
    }

    /// What a model is; nothing where no denoiser of that name is at hand. A built-in model's name is never a folder's, whose noise
    /// might be another.
    pub fn describe(&self, name: &str) -> Result<Option<Description>, LoadError> {
        let exact = |weights: &str| Description {
            weights: weights.to_owned(),
            classes: 0,
            scheduler: None,
            prediction: None,
        };
        for (mixture, weights) in [RING, IMAGES] {
            if name == mixture {
                return Ok(Some(exact(weights)));
            }
        }
        if name == DEMO {
            if let Some(known) = self.demo.get() {
                return Ok(Some(known.clone()));
            }
            let described = Description {
                scheduler: None,
                ..describe(&demo()?)?
            };
            return Ok(Some(self.demo.get_or_init(|| described).clone()));
        }
        let Some(root) = self
            .root
            .as_ref()
            .filter(|_| families::find(name).is_none())
        else {
            return Ok(None);
        };
        match root.open(name) {
            Ok(folder) => describe(&folder).map(Some),
            Err(LoadError::NoModel(_) | LoadError::Name(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The denoiser of a name, which must have those weights.
    pub fn open(&self, name: &str, weights: &str) -> Result<Arc<dyn Denoiser>, LoadError> {
        match (name, weights) {
            RING => return Ok(Arc::new(Mixture::ring())),
            IMAGES => return Ok(Arc::new(Mixture::images())),
            _ if [RING.0, IMAGES.0].contains(&name) => {
                return Err(LoadError::Changed(name.to_owned()));
            }
            _ => {}
        }
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = loaded.as_ref().filter(|loaded| loaded.weights == weights) {
            return Ok(loaded.denoiser.clone());
        }
        // Unless another job holds it, the old network goes before the new one comes.
        *loaded = None;
        let folder = match (&self.root, name) {
            (_, DEMO) => demo()?,
            (Some(root), _) => root.open(name)?,
            (None, _) => return Err(LoadError::NoModel(name.to_owned())),
        };
        if folder.digest != weights {
            return Err(LoadError::Changed(name.to_owned()));
        }
        let denoiser: Arc<dyn Denoiser> = Arc::new(UnetDenoiser::load(&folder, self.device)?);
        *loaded = Some(Loaded {
            weights: weights.to_owned(),
            denoiser: denoiser.clone(),
        });
        Ok(denoiser)
    }
}

fn describe(folder: &ModelFolder) -> Result<Description, LoadError> {
    Ok(Description {
        weights: folder.digest.clone(),
        classes: UnetDenoiser::classes_of(folder)?,
        scheduler: Some(folder.scheduler.clone()),
        prediction: Some(folder.prediction),
    })
}

/// The demo network, which is part of the program.
fn demo() -> Result<ModelFolder, LoadError> {
    macro_rules! demo_file {
        ($path:literal) => {
            include_bytes!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/models/fashion-mnist/",
                $path
            ))
        };
    }
    ModelFolder::from_bytes(
        DEMO,
        demo_file!("unet/config.json").to_vec(),
        demo_file!("scheduler/scheduler_config.json"),
        demo_file!("unet/diffusion_pytorch_model.safetensors").to_vec(),
    )
}
