//! Requests as the engine takes them, and their answers.

use fewstep::api::{Effective, ScheduleDocument, resolve};
use fewstep::denoiser::Models;
use fewstep::optimize::{known, optimize};
use serde_json::Value;
use std::sync::atomic::AtomicBool;

/// A request with nothing left open.
pub fn effective(request: &Value) -> Effective {
    let request = serde_json::from_value(request.clone()).unwrap();
    let known = known(&request, None, &Models::built_in().unwrap()).unwrap();
    resolve(&request, &known).unwrap_or_else(|e| panic!("{e}: {request:?}"))
}

/// Its answer, from the built-in models.
pub fn answer(request: &Value) -> ScheduleDocument {
    let never = AtomicBool::new(false);
    optimize(
        &effective(request),
        &Models::built_in().unwrap(),
        &never,
        &mut |_| {},
    )
    .unwrap()
}
