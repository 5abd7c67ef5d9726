//! The weights of a network: safetensors files, checked before they are believed.
//!
//! A network takes its tensors by key and shape; at the end every tensor must have been taken, so that a config and weights
//! that do not belong together are found out. A file on disk is read tensor by tensor, so that loading needs little more memory than
//! the network. Tensors come in the network's precision on its device, whatever they are stored as.

use super::{LoadError, Precision};
use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Metadata, TensorInfo};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Cursor, Read as _, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;

/// Longest header that is read; the format's own limit.
const MAX_HEADER: u64 = 100_000_000;

/// Bytes of a file before its header.
const START: u64 = 8;

/// A safetensors file.
#[derive(Clone, Debug)]
pub enum WeightsFile {
    /// In memory.
    Bytes(Arc<[u8]>),
    /// On disk.
    Path(PathBuf),
}

/// Bytes that a tensor is read from.
trait Source: io::Read + Seek {}
impl<S: io::Read + Seek> Source for S {}

impl WeightsFile {
    fn open(&self) -> Result<Box<dyn Source>, LoadError> {
        Ok(match self {
            Self::Bytes(bytes) => Box::new(Cursor::new(bytes.clone())),
            Self::Path(path) => Box::new(File::open(path).map_err(LoadError::io(path))?),
        })
    }
}

/// A file whose header was read.
struct Opened {
    source: RefCell<Box<dyn Source>>,
    header: Metadata,
    /// Where the tensors start.
    data: u64,
}

impl Opened {
    fn new(file: &WeightsFile) -> Result<Self, LoadError> {
        let mut source = file.open()?;
        let (header, data) = read_header(&mut source)?;
        Ok(Self {
            source: RefCell::new(source),
            header,
            data,
        })
    }

    fn read(&self, tensor: &TensorInfo) -> io::Result<Vec<u8>> {
        let (start, end) = tensor.data_offsets;
        let mut source = self.source.borrow_mut();
        source.seek(SeekFrom::Start(self.data + start as u64))?;
        let mut bytes = vec![0; end - start];
        source.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// A file's header, and where what it describes starts; the two must make up the file.
fn read_header(source: &mut impl Source) -> Result<(Metadata, u64), LoadError> {
    let unreadable = |error: io::Error| LoadError::Safetensors(error.to_string());
    let size = source.seek(SeekFrom::End(0)).map_err(unreadable)?;
    source.rewind().map_err(unreadable)?;
    let mut start = [0; START as usize];
    if size < START {
        return Err(LoadError::Safetensors(format!("it has {size} bytes")));
    }
    source.read_exact(&mut start).map_err(unreadable)?;
    let length = u64::from_le_bytes(start);
    if length > MAX_HEADER || length > size - START {
        return Err(LoadError::Safetensors(format!(
            "its header claims {length} bytes of a file of {size}"
        )));
    }
    let mut header = vec![0; length as usize];
    source.read_exact(&mut header).map_err(unreadable)?;
    let header: Metadata = serde_json::from_slice(&header)
        .map_err(|error| LoadError::Safetensors(format!("its header: {error}")))?;
    let data = START + length;
    if data + header.data_len() as u64 != size {
        return Err(LoadError::Safetensors(format!(
            "its tensors make up {} bytes of a file that has {} for them",
            header.data_len(),
            size - data
        )));
    }
    Ok((header, data))
}

/// Numbers in all tensors of some files, by their headers.
pub(super) fn count(files: &[WeightsFile]) -> Result<u64, LoadError> {
    let mut numbers = 0;
    for file in files {
        let (header, _) = read_header(&mut file.open()?)?;
        let sizes = header.tensors();
        numbers += sizes
            .values()
            .map(|info| info.shape.iter().product::<usize>() as u64)
            .sum::<u64>();
    }
    Ok(numbers)
}

/// Tensors by key, each to be taken once.
pub(super) struct Weights {
    files: Vec<Opened>,
    /// The file that has a key.
    holders: BTreeMap<String, usize>,
    left: RefCell<BTreeSet<String>>,
    device: Device,
    dtype: DType,
}

impl Weights {
    /// The tensors of several files, as they are to be on a device.
    pub fn open(
        files: &[WeightsFile],
        device: &Device,
        precision: Precision,
    ) -> Result<Self, LoadError> {
        let files = files
            .iter()
            .map(Opened::new)
            .collect::<Result<Vec<_>, _>>()?;
        let mut holders = BTreeMap::new();
        for (i, file) in files.iter().enumerate() {
            for key in file.header.offset_keys() {
                if let Some(key) = holders.insert(key.clone(), i).map(|_| key) {
                    return Err(LoadError::Safetensors(format!("`{key}` is in two files")));
                }
            }
        }
        Ok(Self {
            left: RefCell::new(holders.keys().cloned().collect()),
            files,
            holders,
            device: device.clone(),
            dtype: precision.dtype(),
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
        let file = &self.files[self.holders[key]];
        let info = file.header.info(key).expect("a key of that file");
        if info.shape != shape {
            return Err(LoadError::Shape {
                key: key.to_owned(),
                expected: shape.to_vec(),
                found: info.shape.clone(),
            });
        }
        let Ok(stored @ (DType::F32 | DType::F16 | DType::BF16)) = DType::try_from(info.dtype)
        else {
            return Err(LoadError::Dtype {
                key: key.to_owned(),
                found: format!("{:?}", info.dtype),
            });
        };
        let bytes = file
            .read(info)
            .map_err(|error| LoadError::Safetensors(format!("`{key}`: {error}")))?;
        let tensor = Tensor::from_raw_buffer(&bytes, stored, shape, &self.device)?;
        Ok(tensor.to_dtype(self.dtype)?)
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

    /// Leaves out every tensor whose name begins with `name`: parts of a file that belong to something else.
    pub fn skip(&self, name: &str) {
        let prefix = format!("{}{name}", self.prefix);
        let mut left = self.weights.left.borrow_mut();
        left.retain(|key| !key.starts_with(&prefix));
    }
}
