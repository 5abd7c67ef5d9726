//! The weights of a network: a safetensors file whole in memory, checked before it is believed.
//!
//! A network takes its tensors by key and shape; at the end every tensor must have been taken, so that a config and weights
//! that do not belong together are found out. Tensors come as f32 on the network's device, whatever they are stored as.

use super::LoadError;
use candle_core::safetensors::BufferedSafetensors;
use candle_core::{DType, Device, Tensor};
use sha2::{Digest as _, Sha256};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Longest header that is read; the format's own limit.
const MAX_HEADER: u64 = 100_000_000;

/// SHA-256 over several files and their lengths, in hexadecimal.
#[must_use]
pub fn digest(files: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for file in files {
        hash.update((file.len() as u64).to_le_bytes());
        hash.update(file);
    }
    hash.finalize().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("strings take everything");
        hex
    })
}

/// Checks a file's header length against its first 8 bytes and its size, before anything else is read.
pub(super) fn check_header(start: [u8; 8], file_size: u64) -> Result<(), LoadError> {
    let header = u64::from_le_bytes(start);
    if header > MAX_HEADER || header > file_size.saturating_sub(8) {
        return Err(LoadError::Safetensors(format!(
            "its header claims {header} bytes of a file of {file_size}"
        )));
    }
    Ok(())
}

/// Tensors by key, each to be taken once.
pub(super) struct Weights {
    file: BufferedSafetensors,
    left: RefCell<BTreeSet<String>>,
    device: Device,
}

impl Weights {
    pub fn new(bytes: &[u8], device: &Device) -> Result<Self, LoadError> {
        let start = bytes
            .first_chunk()
            .copied()
            .ok_or_else(|| LoadError::Safetensors(format!("it has {} bytes", bytes.len())))?;
        check_header(start, bytes.len() as u64)?;
        let file = BufferedSafetensors::new(bytes.to_vec())
            .map_err(|error| LoadError::Safetensors(error.to_string()))?;
        let left = file.tensors().into_iter().map(|(key, _)| key).collect();
        Ok(Self {
            file,
            left: RefCell::new(left),
            device: device.clone(),
        })
    }

    /// The tensors below the root.
    pub fn root(&self) -> Scope<'_> {
        Scope {
            weights: self,
            prefix: String::new(),
        }
    }

    /// Refuses weights that hold more than was taken.
    pub fn finish(self) -> Result<(), LoadError> {
        let left = self.left.into_inner();
        match left.first() {
            None => Ok(()),
            Some(first) => Err(LoadError::UnusedKeys {
                count: left.len(),
                first: first.clone(),
            }),
        }
    }

    fn take(&self, key: &str, shape: &[usize]) -> Result<Tensor, LoadError> {
        if !self.left.borrow_mut().remove(key) {
            return Err(LoadError::MissingKey(key.to_owned()));
        }
        let view = self.file.get(key)?;
        if view.shape() != shape {
            return Err(LoadError::Shape {
                key: key.to_owned(),
                expected: shape.to_vec(),
                found: view.shape().to_vec(),
            });
        }
        if !matches!(
            DType::try_from(view.dtype()),
            Ok(DType::F32 | DType::F16 | DType::BF16)
        ) {
            return Err(LoadError::Dtype {
                key: key.to_owned(),
                found: format!("{:?}", view.dtype()),
            });
        }
        Ok(self.file.load(key, &self.device)?.to_dtype(DType::F32)?)
    }
}

/// A part of the weights: keys below a prefix.
pub(super) struct Scope<'a> {
    weights: &'a Weights,
    prefix: String,
}

impl Scope<'_> {
    /// The part below `name`.
    pub fn at(&self, name: impl std::fmt::Display) -> Self {
        Self {
            weights: self.weights,
            prefix: format!("{}{name}.", self.prefix),
        }
    }

    /// Whether a tensor `name` is there to be taken.
    pub fn has(&self, name: &str) -> bool {
        let key = format!("{}{name}", self.prefix);
        self.weights.left.borrow().contains(&key)
    }

    /// Takes the tensor `name`, which must have `shape`.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, LoadError> {
        self.weights.take(&format!("{}{name}", self.prefix), shape)
    }
}
