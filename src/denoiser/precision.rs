//! The numbers a network computes with: its name on the command line, and candle's; and where it computes with them.

use super::{Device, LoadError};
use candle_core::DType;
use std::fmt;
use std::str::FromStr;

/// Precision of weights and activations; noise schedules, samplers and batches on the host are not affected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    F32,
    F16,
    Bf16,
}

impl Precision {
    /// Candle's name.
    pub(super) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        }
    }

    /// Bytes of a number.
    #[must_use]
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

impl FromStr for Precision {
    type Err = LoadError;

    fn from_str(text: &str) -> Result<Self, LoadError> {
        match text {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::Bf16),
            _ => Err(LoadError::UnknownPrecision(text.to_owned())),
        }
    }
}

/// Where networks run, and with what numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    pub device: Device,
    pub precision: Precision,
}

impl From<Device> for Placement {
    /// A device with what it is best at: f32 on a CPU, half precision on a GPU.
    fn from(device: Device) -> Self {
        let precision = match device {
            Device::Cpu => Precision::F32,
            Device::Cuda(_) | Device::Metal(_) => Precision::F16,
        };
        Self { device, precision }
    }
}
