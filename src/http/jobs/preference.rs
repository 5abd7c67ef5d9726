//! RFC 7240's `Prefer`: how long a client wants to wait for its job.

use axum::http::{HeaderMap, HeaderValue};
use std::time::Duration;

/// A search takes milliseconds, so a client without a preference waits for it.
const DEFAULT_WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preference {
    None,
    Wait(Duration),
    Async,
}

impl Preference {
    pub fn of(headers: &HeaderMap) -> Self {
        let tokens = headers
            .get_all("prefer")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split([',', ';']));
        let mut preference = Self::None;
        for token in tokens {
            let token = token.trim().to_ascii_lowercase();
            if token == "respond-async" && preference == Self::None {
                preference = Self::Async;
            } else if let Some(Ok(seconds)) = token.strip_prefix("wait=").map(str::parse::<u64>) {
                preference = Self::Wait(Duration::from_secs(seconds).min(MAX_WAIT));
            }
        }
        preference
    }

    pub fn wait(self) -> Duration {
        match self {
            Self::None => DEFAULT_WAIT,
            Self::Wait(patience) => patience,
            Self::Async => Duration::ZERO,
        }
    }

    /// The value of `Preference-Applied`.
    pub fn applied(self) -> Option<HeaderValue> {
        let text = match self {
            Self::None => return None,
            Self::Wait(patience) => format!("wait={}", patience.as_secs()),
            Self::Async => "respond-async".to_owned(),
        };
        HeaderValue::from_str(&text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_read_as_rfc_7240_writes_them() {
        let preference = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("prefer", HeaderValue::from_static(text));
            Preference::of(&headers)
        };
        let seconds = |s| Preference::Wait(Duration::from_secs(s));
        assert_eq!(preference("wait=5"), seconds(5));
        assert_eq!(preference("respond-async, wait=10"), seconds(10));
        assert_eq!(preference("Wait=3600"), seconds(60));
        assert_eq!(preference("respond-async"), Preference::Async);
        assert_eq!(preference("wait=soon, return=minimal"), Preference::None);
    }
}
