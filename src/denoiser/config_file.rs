//! Reading the `config.json` of a network as diffusers and transformers write it.
//!
//! A network's own `config` says which fields it knows; everything else is refused by name here, so that nothing that would make
//! another network goes unseen. Fields that start with `_` are the libraries' own notes.

use super::LoadError;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A field, and the only value of it that is built.
pub(super) type Fixed<'a> = (&'a str, Value);

/// Reads a config of one of diffusers' classes; fields that are `fixed` are checked and left out.
pub(super) fn read<Raw: DeserializeOwned>(
    bytes: &[u8],
    classes: &[&str],
    fixed: &[Fixed],
) -> Result<Raw, LoadError> {
    let mut fields: Map<String, Value> = serde_json::from_slice(bytes)
        .map_err(|error| LoadError::config("the file", error.to_string()))?;
    let class = fields.get("_class_name").and_then(Value::as_str);
    one_of("_class_name", class, classes)?;
    fields.retain(|name, _| !name.starts_with('_'));
    for (field, supported) in fixed {
        let value = fields.remove(*field).unwrap_or_else(|| supported.clone());
        // 1 and 1.0 are one number.
        let is_equal =
            value == *supported || (value.is_number() && value.as_f64() == supported.as_f64());
        if !is_equal {
            let detail = format!("{value} is not supported; {supported} is");
            return Err(LoadError::config(*field, detail));
        }
    }
    serde_path_to_error::deserialize(Value::Object(fields))
        .map_err(|error| LoadError::config(error.path().to_string(), error.inner().to_string()))
}

/// Refuses a value that is not supported.
pub(super) fn one_of(
    field: &str,
    value: Option<&str>,
    supported: &[&str],
) -> Result<(), LoadError> {
    match value {
        Some(value) if supported.contains(&value) => Ok(()),
        Some(value) => {
            let detail = format!("`{value}` is not supported; {} is", supported.join(" or "));
            Err(LoadError::config(field, detail))
        }
        None => Err(LoadError::config(
            field,
            format!("is missing; {} is supported", supported.join(" or ")),
        )),
    }
}
