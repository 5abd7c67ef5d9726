//! Content addresses: SHA-256 over canonical JSON (RFC 8785), written as 64 hexadecimal digits.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt::{self, Write as _};
use std::str::FromStr;

/// A SHA-256 in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// A text that is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a content id is 64 lower-case hexadecimal digits")]
pub struct DigestError;

impl Digest {
    /// The digest of a value's canonical JSON.
    ///
    /// # Panics
    /// When the value does not serialise, which the contract's types always do.
    #[must_use]
    pub fn of(value: &impl Serialize) -> Self {
        let canonical = serde_json_canonicalizer::to_vec(value)
            .expect("contract types hold finite numbers and string keys only");
        Self::of_bytes(&canonical)
    }

    /// The digest of bytes as they are.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let mut digits = String::with_capacity(64);
        for byte in Sha256::digest(bytes) {
            let _ = write!(digits, "{byte:02x}");
        }
        Self(digits)
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 16 digits, for names that people read.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..16]
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let is_digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if text.len() == 64 && text.bytes().all(is_digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(DigestError)
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_of_the_canonical_form() {
        // sha256 of {"a":1,"b":[2,3]}
        let digest = Digest::of(&serde_json::json!({"b": [2.0, 3], "a": 1}));
        assert_eq!(
            digest.as_str(),
            Digest::of(&serde_json::json!({"a": 1.0, "b": [2, 3.0]})).as_str()
        );
        assert_eq!(digest.as_str().parse::<Digest>(), Ok(digest.clone()));
        assert!(digest.as_str().to_uppercase().parse::<Digest>().is_err());
    }
}
