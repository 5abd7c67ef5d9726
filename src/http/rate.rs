//! How many requests for work an address may send.

use super::problem::Problem;
use crate::api::InvalidField;
use axum::http::StatusCode;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

/// A limit for every address, or none. Cheap to clone.
#[derive(Clone)]
pub struct RateLimit {
    limiter: Option<Arc<DefaultKeyedRateLimiter<IpAddr>>>,
}

impl RateLimit {
    /// `per_second` requests on average, as many at once; any number without it.
    #[must_use]
    pub fn new(per_second: Option<NonZeroU32>) -> Self {
        let limiter = |rate| Arc::new(DefaultKeyedRateLimiter::keyed(Quota::per_second(rate)));
        Self {
            limiter: per_second.map(limiter),
        }
    }

    /// Lets requests in, or says when to come back.
    pub fn admit(&self, client: IpAddr, requests: usize) -> Result<(), Problem> {
        let (Some(limiter), Some(requests)) = (
            &self.limiter,
            u32::try_from(requests).ok().and_then(NonZeroU32::new),
        ) else {
            return Ok(());
        };
        let too_many = |seconds: u64| {
            Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limited",
                format!("too many requests from this address; try again in {seconds} s"),
            )
            .retry_after(seconds)
        };
        match limiter.check_key_n(&subscriber(client), requests) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => {
                let wait = not_until.wait_time_from(DefaultClock::default().now());
                Err(too_many(wait.as_secs() + 1))
            }
            Err(at_most) => {
                let detail = format!(
                    "at most {} requests at a time are taken from an address",
                    at_most.0
                );
                Err(InvalidField::new("/requests", detail).into())
            }
        }
    }

    /// Forgets addresses that have been quiet.
    pub fn forget(&self) {
        if let Some(limiter) = &self.limiter {
            limiter.retain_recent();
        }
    }
}

/// Who an address stands for: an IPv6 subscriber has the last 64 bits for itself.
fn subscriber(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
    }
}
