//! The lower level of HSO: a trust-region Newton method for the interior points of a schedule, both ends fixed.
//!
//! Minimises `objective - mu sum_i ln(slack_i)`, where the slack of interval `i` is its width less the least width the
//! [`Spacing`] allows; so every iterate is strictly ordered. Smooth objectives without an enforced spacing take one pass at a
//! vanishing `mu`; others follow a short path of falling `mu`, with kinks rounded to the same degree. Steps solve
//! `(H + ridge I) d = -g` by banded Cholesky, the ridge chosen so that the step stays inside the region
//! (Conn, Gould and Toint, Trust-Region Methods, chapter 7).

use crate::objective::Objective;
use crate::objective::derivatives::{Band, Derivatives};
use crate::schedule::NoiseSchedule;

/// Barrier weights, in units of the objective at the start: of a smooth objective that nothing holds, of one under an
/// enforced spacing, and of one with kinks, which are rounded to the same degree. Newton's method follows a kink only in
/// small reductions, and what is left of the rounding is far below what its proxy can tell apart.
const UNHELD: &[f64] = &[1e-10];
const HELD: &[f64] = &[1e-2, 1e-4, 1e-6, 1e-8, 1e-10];
const KINKED: &[f64] = &[1e-2, 1e-3, 1e-4, 1e-5, 1e-6];
/// Fraction of the way to the constraints a step may go.
const TO_BOUNDARY: f64 = 0.95;
/// The last pass ends when a step promises less than this, in units of the objective; earlier ones when it promises less
/// than this share of their barrier weight.
const PREDICTED_DECREASE: f64 = 1e-13;
const PASS_PRECISION: f64 = 1e-2;
/// What keeps neighbouring points apart.
#[derive(Clone, Copy, Debug)]
pub enum Spacing<'a> {
    /// Half log-SNR gaps of at least this much: a numerical floor that only keeps the order strict.
    Lambda { least: f64 },
    /// Time gaps `t_i - t_{i+1}` of at least this much.
    Time {
        noise: &'a NoiseSchedule,
        least: f64,
    },
}

impl Spacing<'_> {
    /// The coordinate whose differences are the gaps, and its slope in lambda. Both rise with lambda.
    fn coordinate(&self, lambda: f64) -> (f64, f64) {
        match self {
            Self::Lambda { .. } => (lambda, 1.0),
            Self::Time { noise, .. } => (-noise.t(lambda), -noise.t_slope(lambda)),
        }
    }

    fn least(&self) -> f64 {
        match *self {
            Self::Lambda { least } | Self::Time { least, .. } => least,
        }
    }

    fn is_enforced(&self) -> bool {
        matches!(self, Self::Time { .. })
    }
}

/// Buffers of one search, reusable for any schedule with the same number of points and the same objective.
#[derive(Debug)]
pub struct Workspace {
    model: Derivatives,
    factor: Band,
    step: Vec<f64>,
    trial: Vec<f64>,
    coordinates: Vec<(f64, f64)>,
}

impl Workspace {
    #[must_use]
    pub fn new(points: usize, objective: &dyn Objective) -> Self {
        let half = objective.half_bandwidth();
        let variables = points.saturating_sub(2);
        Self {
            model: Derivatives::new(points, half),
            factor: Band::new(variables, half),
            step: vec![0.0; variables],
            trial: vec![0.0; points],
            coordinates: vec![(0.0, 0.0); points],
        }
    }
}

/// Moves the interior of `lambdas` (ascending, feasible) to a minimum in at most `iterations` Newton steps.
pub fn minimise(
    objective: &dyn Objective,
    spacing: Spacing<'_>,
    iterations: usize,
    lambdas: &mut [f64],
    work: &mut Workspace,
) {
    if lambdas.len() < 3 {
        return;
    }
    let scale = objective.value(lambdas).abs().max(f64::MIN_POSITIVE);
    let path = match (objective.has_kinks(), spacing.is_enforced()) {
        (true, _) => KINKED,
        (false, true) => HELD,
        (false, false) => UNHELD,
    };
    let mut left = iterations;
    for (i, &weight) in path.iter().enumerate() {
        let precision = if i + 1 == path.len() {
            PREDICTED_DECREASE
        } else {
            PASS_PRECISION * weight
        };
        let mut pass = Pass {
            objective,
            spacing,
            barrier: weight * scale,
            smoothing: weight * scale,
            tolerance: precision * scale,
            work,
        };
        pass.run(&mut left, lambdas);
    }
}

/// One descent at a fixed barrier weight.
struct Pass<'a, 'w> {
    objective: &'a dyn Objective,
    spacing: Spacing<'a>,
    barrier: f64,
    smoothing: f64,
    tolerance: f64,
    work: &'w mut Workspace,
}

impl Pass<'_, '_> {
    /// Takes steps from `left` until none promises enough.
    fn run(&mut self, left: &mut usize, lambdas: &mut [f64]) {
        let mut radius = (lambdas[lambdas.len() - 1] - lambdas[0]) / 2.0;
        self.differentiate(lambdas);
        while *left > 0 {
            *left -= 1;
            let length = self.step_within(radius);
            let fraction = self.fraction_to_boundary(lambdas);
            for (i, d) in self.work.step.iter_mut().enumerate() {
                *d *= fraction;
                self.work.trial[i + 1] = lambdas[i + 1] + *d;
            }
            let predicted = self.predicted_decrease();
            if predicted <= self.tolerance {
                return;
            }
            let before = self.work.model.value;
            let trial_value = self.differentiate_trial(lambdas);
            let gained = (before - trial_value) / predicted;
            if gained > 1e-4 {
                lambdas.copy_from_slice(&self.work.trial);
                if gained > 0.75 && fraction >= 1.0 {
                    radius = radius.max(2.0 * length);
                } else if gained < 0.25 {
                    radius = 0.5 * length;
                }
            } else {
                radius = 0.25 * fraction * length;
                if radius <= 1e-14 * lambdas[0].abs().max(1.0) {
                    return;
                }
                self.differentiate(lambdas);
            }
        }
    }

    /// Evaluates the model at the trial point; infinite where that breaks the spacing.
    fn differentiate_trial(&mut self, lambdas: &[f64]) -> f64 {
        let last = lambdas.len() - 1;
        self.work.trial[0] = lambdas[0];
        self.work.trial[last] = lambdas[last];
        let trial = std::mem::take(&mut self.work.trial);
        self.differentiate(&trial);
        self.work.trial = trial;
        self.work.model.value
    }

    /// Value, gradient and Hessian of objective and barrier.
    ///
    /// The barrier's Hessian is its Gauss-Newton part: time is only piecewise smooth in lambda.
    fn differentiate(&mut self, lambdas: &[f64]) {
        let Workspace {
            model, coordinates, ..
        } = &mut *self.work;
        model.clear();
        self.objective.differentiate(lambdas, self.smoothing, model);
        for (coordinate, &lambda) in coordinates.iter_mut().zip(lambdas) {
            *coordinate = self.spacing.coordinate(lambda);
        }
        for i in 0..lambdas.len() - 1 {
            let ((start, start_slope), (end, end_slope)) = (coordinates[i], coordinates[i + 1]);
            let slack = end - start - self.spacing.least();
            if slack <= 0.0 {
                model.value = f64::INFINITY;
                return;
            }
            let (a, b) = (start_slope / slack, end_slope / slack);
            let mu = self.barrier;
            model.add(
                i as isize,
                -mu * libm::log(slack),
                &[mu * a, -mu * b],
                &[[mu * a * a, -mu * a * b], [-mu * a * b, mu * b * b]],
            );
        }
    }

    /// Newton step of the smallest ridge whose length is within `radius`, left in `step`; returns its length.
    fn step_within(&mut self, radius: f64) -> f64 {
        let Workspace {
            model,
            factor,
            step,
            ..
        } = &mut *self.work;
        let size = model.hessian.max_abs().max(f64::MIN_POSITIVE);
        let gradient = norm(&model.gradient);
        let mut ridge = 0.0;
        loop {
            if model.hessian.cholesky_into(ridge, factor) {
                for (d, g) in step.iter_mut().zip(&model.gradient) {
                    *d = -g;
                }
                factor.solve_factored(step);
                let length = norm(step);
                if length <= 1.1 * radius {
                    return length;
                }
            }
            ridge = if ridge == 0.0 {
                (1e-3 * size).min(gradient / radius)
            } else {
                4.0 * ridge
            };
        }
    }

    /// Largest fraction of the step (at most 1) that keeps a share of every slack, to first order.
    fn fraction_to_boundary(&self, lambdas: &[f64]) -> f64 {
        let step = &self.work.step;
        let move_of = |point: usize| {
            if point == 0 || point == lambdas.len() - 1 {
                0.0
            } else {
                step[point - 1]
            }
        };
        let mut fraction = 1.0_f64;
        for (i, pair) in self.work.coordinates.windows(2).enumerate() {
            let ((start, start_slope), (end, end_slope)) = (pair[0], pair[1]);
            let slack = end - start - self.spacing.least();
            let closing = start_slope * move_of(i) - end_slope * move_of(i + 1);
            if closing * fraction > TO_BOUNDARY * slack {
                fraction = TO_BOUNDARY * slack / closing;
            }
        }
        fraction
    }

    fn predicted_decrease(&self) -> f64 {
        let Workspace { model, step, .. } = &*self.work;
        let slope: f64 = model.gradient.iter().zip(step).map(|(g, d)| g * d).sum();
        -slope - 0.5 * model.hessian.quadratic_form(step)
    }
}

fn norm(v: &[f64]) -> f64 {
    libm::sqrt(v.iter().map(|x| x * x).sum())
}
