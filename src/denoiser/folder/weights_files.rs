//! Which files of a folder are a network's weights.
//!
//! `<name>.safetensors`, or the files its index names; where a download has only the half-precision variant, that one. Pickles
//! can run code and are never read.

use crate::denoiser::LoadError;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A file that says which tensors are in which of several files.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The weights that libraries save under `name` in a folder: paths that exist.
pub(super) fn find(folder: &Path, name: &str) -> Result<Vec<PathBuf>, LoadError> {
    for (weights, index) in [
        (
            format!("{name}.safetensors"),
            format!("{name}.safetensors.index.json"),
        ),
        (
            format!("{name}.fp16.safetensors"),
            format!("{name}.safetensors.index.fp16.json"),
        ),
    ] {
        let weights = folder.join(weights);
        if weights.exists() {
            return Ok(vec![weights]);
        }
        let index = folder.join(index);
        if index.exists() {
            return parts(folder, &index);
        }
    }
    Err(LoadError::MissingFile {
        advice: instead(folder),
        path: folder.join(format!("{name}.safetensors")),
    })
}

/// The files that an index names.
fn parts(folder: &Path, path: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let invalid = |detail: String| LoadError::Config {
        file: "the index of the weights",
        field: "weight_map".to_owned(),
        detail,
    };
    let bytes = fs::read(path).map_err(LoadError::io(path))?;
    let index: Index =
        serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
    let names: BTreeSet<&String> = index.weight_map.values().collect();
    if names.is_empty() {
        return Err(invalid("names no file".to_owned()));
    }
    names
        .into_iter()
        .map(|name| {
            if name.contains(['/', '\\']) || !name.ends_with(".safetensors") {
                return Err(invalid(format!(
                    "`{name}` is no safetensors file beside it"
                )));
            }
            let path = folder.join(name);
            if path.exists() {
                Ok(path)
            } else {
                Err(LoadError::MissingFile {
                    advice: "the index of the weights names it: copy it here".to_owned(),
                    path,
                })
            }
        })
        .collect()
}

/// What to do about weights that are not there, by what is there instead.
fn instead(folder: &Path) -> String {
    let names = fs::read_dir(folder).into_iter().flatten();
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
    match ends(".safetensors") {
        Some(other) => format!("rename `{other}` if that is the network"),
        None => "save the model with diffusers".to_owned(),
    }
}
