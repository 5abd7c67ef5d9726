//! Where a network runs: its name on the command line and in requests, and opening it.
//!
//! A build has the CPU; `cuda` and `metal` are cargo features, and asking for one the build or the machine lacks is an error.

use super::LoadError;
use candle_core::Device as Candle;
use std::fmt;
use std::str::FromStr;

/// A device by name: `cpu`, `cuda:0`, `metal:0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Device {
    #[default]
    Cpu,
    /// An NVIDIA GPU by its index.
    Cuda(usize),
    /// An Apple GPU by its index.
    Metal(usize),
}

impl Device {
    /// Opens the device.
    pub(super) fn open(self) -> Result<Candle, LoadError> {
        let built = |feature: &'static str, built: bool| {
            built.then_some(()).ok_or_else(|| LoadError::NotBuilt {
                device: self.to_string(),
                feature,
            })
        };
        let opened = match self {
            Self::Cpu => Ok(Candle::Cpu),
            Self::Cuda(index) => {
                built("cuda", cfg!(feature = "cuda"))?;
                Candle::new_cuda(index)
            }
            Self::Metal(index) => {
                built("metal", cfg!(feature = "metal"))?;
                Candle::new_metal(index)
            }
        };
        opened.map_err(|error| LoadError::Unavailable {
            device: self.to_string(),
            detail: summary(&error),
        })
    }
}

/// What happened, without the backtrace that candle adds.
pub(super) fn summary(error: &candle_core::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

/// Whether a device's memory was not enough, which devices tell by text alone.
pub(super) fn is_out_of_memory(error: &candle_core::Error) -> bool {
    let text = error.to_string().to_lowercase();
    ["out of memory", "out_of_memory", "insufficient memory"]
        .iter()
        .any(|sign| text.contains(sign))
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Metal(index) => write!(f, "metal:{index}"),
        }
    }
}

impl FromStr for Device {
    type Err = LoadError;

    fn from_str(text: &str) -> Result<Self, LoadError> {
        let unknown = || LoadError::UnknownDevice(text.to_owned());
        let (kind, index) = match text.split_once(':') {
            None => (text, 0),
            Some((kind, index)) => (kind, index.parse().map_err(|_| unknown())?),
        };
        match kind {
            "cpu" if text == "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(index)),
            "metal" => Ok(Self::Metal(index)),
            _ => Err(unknown()),
        }
    }
}
