//! Digests of weights files, remembered while a file's path, size and time of change stay the same: gigabytes are read once.

use crate::denoiser::LoadError;
use crate::denoiser::weights::WeightsFile;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// A file as it was when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: SystemTime,
}

/// Digests by path.
#[derive(Debug, Default)]
pub struct Digests {
    known: Mutex<HashMap<PathBuf, (Stamp, String)>>,
}

impl Digests {
    /// SHA-256 of a file, in hexadecimal.
    pub(super) fn of(&self, file: &WeightsFile) -> Result<String, LoadError> {
        match file {
            WeightsFile::Bytes(bytes) => Ok(hexadecimal(&Sha256::digest(bytes))),
            WeightsFile::Path(path) => self.of_path(path).map_err(LoadError::io(path)),
        }
    }

    fn of_path(&self, path: &Path) -> io::Result<String> {
        let mut file = File::open(path)?;
        let stamp = stamp(&file)?;
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((then, digest)) = known().get(path)
            && *then == stamp
        {
            return Ok(digest.clone());
        }
        let mut hash = Sha256::new();
        let mut chunk = vec![0; CHUNK];
        loop {
            match file.read(&mut chunk)? {
                0 => break,
                count => hash.update(&chunk[..count]),
            }
        }
        let digest = hexadecimal(&hash.finalize());
        // A file that changed meanwhile is read again the next time.
        known().insert(path.to_owned(), (stamp, digest.clone()));
        Ok(digest)
    }
}

fn stamp(file: &File) -> io::Result<Stamp> {
    let metadata = file.metadata()?;
    Ok(Stamp {
        size: metadata.len(),
        modified: metadata.modified()?,
    })
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("strings take everything");
        hex
    })
}
