//! The answer of a distilled model: the schedule it was trained for.

use super::answer::Answer;
use super::{OptimizeError, warnings};
use crate::api::Effective;
use crate::schedule::families::{self, Published};
use crate::schedule::{NoiseSchedule, Schedule, Terminal};

/// The schedule a distilled model was trained for, stretched where another NFE was allowed.
pub(super) fn answer(effective: &Effective, noise: NoiseSchedule) -> Result<Answer, OptimizeError> {
    let family = families::find(&effective.model);
    let carried: &Published = family
        .and_then(|family| family.published.as_ref())
        .expect("only distilled families resolve to a published plan");
    let nfe = usize::from(effective.nfe.get());
    let (lambdas, exact) = match carried.lambdas(nfe, &noise) {
        Some(lambdas) => (lambdas, true),
        None => (carried.resampled(nfe, &noise), false),
    };
    let mut schedule = Schedule::from_lambdas(&noise, lambdas, Terminal::Denoise)?;
    if effective.snap {
        schedule = schedule.snapped(&noise)?;
    }
    Ok(Answer {
        warnings: vec![warnings::of_published(carried, exact)],
        ..Answer::plain(effective, noise, schedule)
    })
}
