//! The schedules that distilled models were trained for.

use crate::schedule::NoiseSchedule;

/// Schedules by NFE, with why they are not to be optimised.
#[derive(Debug)]
pub struct Published {
    /// One sentence for the user.
    pub reason: &'static str,
    /// `(nfe, levels)`, rising in NFE. Every schedule ends with a jump to the clean estimate.
    pub(super) schedules: &'static [(usize, Levels)],
}

/// Where a distilled model is evaluated, noisiest first.
#[derive(Debug)]
pub(super) enum Levels {
    /// Training timesteps of a discrete model.
    Timesteps(&'static [u32]),
    /// Final sigmas of a flow-matching model.
    Sigmas(&'static [f64]),
}

impl Published {
    /// The numbers of evaluations there is a schedule for, rising.
    pub fn nfes(&self) -> impl Iterator<Item = usize> + '_ {
        self.schedules.iter().map(|(nfe, _)| *nfe)
    }

    /// Half log-SNRs of the schedule for `nfe` evaluations, ascending; the first may be `-inf` (pure noise).
    #[must_use]
    pub fn lambdas(&self, nfe: usize, noise: &NoiseSchedule) -> Option<Vec<f64>> {
        let (_, levels) = self.schedules.iter().find(|(n, _)| *n == nfe)?;
        Some(levels.lambdas(noise))
    }

    /// The schedule nearest in NFE, resampled linearly in half log-SNR over its index.
    #[must_use]
    pub fn resampled(&self, nfe: usize, noise: &NoiseSchedule) -> Vec<f64> {
        let nearest = self
            .schedules
            .iter()
            .filter(|(n, _)| *n > 1)
            .min_by_key(|(n, _)| n.abs_diff(nfe));
        let Some((_, levels)) = nearest else {
            return self.schedules[0].1.lambdas(noise);
        };
        let mut known = levels.lambdas(noise);
        let pure_noise = known[0] == f64::NEG_INFINITY;
        if pure_noise {
            known[0] = noise.lambda(noise.t_range().1);
        }
        let last = (known.len() - 1) as f64;
        let mut resampled: Vec<f64> = (0..nfe)
            .map(|i| {
                let position = if nfe == 1 {
                    0.0
                } else {
                    last * i as f64 / (nfe - 1) as f64
                };
                let below = (libm::floor(position) as usize).min(known.len() - 2);
                known[below] + (position - below as f64) * (known[below + 1] - known[below])
            })
            .collect();
        if pure_noise {
            resampled[0] = f64::NEG_INFINITY;
        }
        resampled
    }
}

impl Levels {
    fn lambdas(&self, noise: &NoiseSchedule) -> Vec<f64> {
        match self {
            Self::Timesteps(timesteps) => {
                let steps = noise.grid_steps().unwrap_or(1) as f64;
                let time = |n: u32| (f64::from(n) + 1.0) / steps;
                timesteps.iter().map(|&n| noise.lambda(time(n))).collect()
            }
            Self::Sigmas(sigmas) => sigmas
                .iter()
                .map(|&sigma| noise.lambda_of_sigma(sigma))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::schedule::{NoiseSchedule, Schedule, Terminal, families};

    #[test]
    fn published_schedules_descend_with_one_entry_an_evaluation() {
        for family in families::all() {
            let Some(published) = &family.published else {
                continue;
            };
            let spec = family.noise_spec(None, None, None).unwrap();
            let noise = NoiseSchedule::new(&spec).unwrap();
            for nfe in 1..=12 {
                let exact = published.lambdas(nfe, &noise);
                assert_eq!(exact.is_some(), published.nfes().any(|n| n == nfe));
                let lambdas = exact.unwrap_or_else(|| published.resampled(nfe, &noise));
                assert_eq!(lambdas.len(), nfe, "{} at {nfe}", family.id);
                Schedule::from_lambdas(&noise, lambdas, Terminal::Denoise).unwrap();
            }
        }
    }

    #[test]
    fn turbo_models_are_called_at_trailing_timesteps() {
        let turbo = families::find("sd-turbo").unwrap();
        let noise = NoiseSchedule::new(&turbo.noise_spec(None, None, None).unwrap()).unwrap();
        let lambdas = turbo
            .published
            .as_ref()
            .unwrap()
            .lambdas(4, &noise)
            .unwrap();
        let schedule = Schedule::from_lambdas(&noise, lambdas, Terminal::Denoise).unwrap();
        assert_eq!(schedule.timesteps(&noise), [999.0, 749.0, 499.0, 249.0]);
    }
}
