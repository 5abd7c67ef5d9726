//! Derivative-free Gauss-Newton for the mean of residual norms over ordered variables, a few dozen evaluations in all.
//!
//! An evaluation is a whole rollout, so every one feeds the model: the Jacobian of the residuals comes from forward differences
//! once, is kept up by Broyden's update from each step tried, and is differenced again only when a step fails on an old one
//! (in the spirit of DFO-GN, arXiv 1710.11005). The mean of norms is minimised as a reweighted sum of squares, one weight a
//! sample; damping (Levenberg-Marquardt) is in units of the gaps between neighbouring variables.

use crate::denoiser::Batch;
use crate::solver::Space;

/// A step leaves every gap at least this share of what it was,
const LEAST_GAP_KEPT: f64 = 0.2;
/// and this share of the mean gap: points that meet waste an evaluation, and the slope that would part them again is lost.
const LEAST_GAP: f64 = 0.1;
/// Forward differences move a variable by this share of the gap they move into.
const DIFFERENCE: f64 = 0.05;
/// A step that promises less than this share of the value ends the search.
const ENOUGH: f64 = 1e-3;
/// Times a step is shortened by a fifth before it is given up.
const SHORTENINGS: usize = 100;
const DAMPING: (f64, f64) = (1e-6, 1e4);

/// Where the variables may go: ascending, between two ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub low: f64,
    pub high: f64,
}

/// The best variables found.
#[derive(Clone, Debug)]
pub(super) struct Minimum {
    pub variables: Vec<f64>,
    /// Mean residual norm there, per root of the sample's size: a mean RMSE.
    pub value: f64,
    pub evaluations: usize,
}

/// Minimises the mean over samples of `|residuals(variables)|` from ascending `start`, in at most `budget` evaluations.
pub(super) fn minimise<E>(
    range: Range,
    start: Vec<f64>,
    budget: usize,
    residuals: &mut dyn FnMut(&[f64]) -> Result<Batch, E>,
) -> Result<Minimum, E> {
    let mut at = Point::new(start, residuals)?;
    let mut evaluations = 1;
    let mut model: Option<Model> = None;
    let mut damping = 1e-2;
    while evaluations < budget {
        let current = match model.take() {
            Some(model) => model,
            None if evaluations + at.variables.len() < budget => {
                evaluations += at.variables.len();
                Model::differences(&at, range, residuals)?
            }
            None => break,
        };
        let step = current.step(&at, range, damping);
        let promised = at.value - mean_norm(&current.predict(&at.residuals, &step));
        // Also where nothing is left to gain, and a step would be none.
        if promised <= ENOUGH * at.value {
            if current.is_fresh || evaluations + at.variables.len() >= budget {
                break;
            }
            continue;
        }
        let next = Point::new(moved(&at.variables, &step), residuals)?;
        evaluations += 1;
        let kept = (at.value - next.value) / promised;
        let was_fresh = current.is_fresh;
        let updated = current.learn(&step, &at.residuals, &next.residuals);
        if kept > 1e-4 {
            at = next;
            damping *= if kept > 0.7 { 0.3 } else { 1.0 };
            model = Some(updated);
        } else {
            damping *= 5.0;
            model = was_fresh.then_some(updated);
        }
        damping = damping.clamp(DAMPING.0, DAMPING.1);
    }
    Ok(Minimum {
        value: at.value,
        variables: at.variables,
        evaluations,
    })
}

struct Point {
    variables: Vec<f64>,
    residuals: Batch,
    value: f64,
}

impl Point {
    fn new<E>(
        variables: Vec<f64>,
        residuals: &mut dyn FnMut(&[f64]) -> Result<Batch, E>,
    ) -> Result<Self, E> {
        let residuals = residuals(&variables)?;
        Ok(Self {
            value: mean_norm(&residuals),
            residuals,
            variables,
        })
    }
}

/// Mean over samples of the root mean square.
fn mean_norm(residuals: &Batch) -> f64 {
    norms(residuals).sum::<f64>() / residuals.samples() as f64
}

fn norms(residuals: &Batch) -> impl Iterator<Item = f64> {
    residuals
        .iter()
        .map(|sample| libm::sqrt(dot(sample, sample) / sample.len() as f64))
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum()
}

fn moved(variables: &[f64], step: &[f64]) -> Vec<f64> {
    variables.iter().zip(step).map(|(v, s)| v + s).collect()
}

/// Mean of the gaps on both sides of a variable: its natural unit.
fn unit(variables: &[f64], i: usize) -> f64 {
    let (below, above) = (i.saturating_sub(1), (i + 1).min(variables.len() - 1));
    if below == above {
        return 1.0;
    }
    (variables[above] - variables[below]) / (above - below) as f64
}

/// A linear model of the residuals around a point: one column a variable.
struct Model {
    columns: Vec<Batch>,
    /// Whether the columns are differences at the present point, not updated since.
    is_fresh: bool,
}

impl Model {
    fn differences<E>(
        at: &Point,
        range: Range,
        residuals: &mut dyn FnMut(&[f64]) -> Result<Batch, E>,
    ) -> Result<Self, E> {
        let n = at.variables.len();
        let mut columns = Vec::with_capacity(n);
        for i in 0..n {
            let here = at.variables[i];
            let above = at.variables.get(i + 1).copied().unwrap_or(range.high);
            let below = if i == 0 {
                range.low
            } else {
                at.variables[i - 1]
            };
            let h = if above - here >= here - below {
                DIFFERENCE * (above - here).min(unit(&at.variables, i))
            } else {
                -DIFFERENCE * (here - below).min(unit(&at.variables, i))
            };
            let mut shifted = at.variables.clone();
            shifted[i] += h;
            let there = residuals(&shifted)?;
            columns.push(difference(&there, &at.residuals, 1.0 / h));
        }
        Ok(Self {
            columns,
            is_fresh: true,
        })
    }

    /// The damped Gauss-Newton step, kept inside the range and the order.
    fn step(&self, at: &Point, range: Range, damping: f64) -> Vec<f64> {
        let n = at.variables.len();
        let weights: Vec<f64> = norms(&at.residuals)
            .map(|norm| 1.0 / norm.max(1e-12))
            .collect();
        let inner = |a: &Batch, b: &Batch| -> f64 {
            let terms = a.iter().zip(b).zip(&weights);
            terms.map(|((a, b), weight)| weight * dot(a, b)).sum()
        };
        let units: Vec<f64> = (0..n).map(|i| unit(&at.variables, i)).collect();
        let slope: Vec<f64> = (0..n)
            .map(|i| inner(&self.columns[i], &at.residuals) * units[i])
            .collect();
        // A variable at an end that the slope pushes outwards stays there.
        let free: Vec<usize> = (0..n)
            .filter(|&i| {
                let v = at.variables[i];
                !(v <= range.low && slope[i] > 0.0 || v >= range.high && slope[i] < 0.0)
            })
            .collect();
        let mut normal: Vec<Vec<f64>> = free
            .iter()
            .map(|&i| {
                free.iter()
                    .map(|&j| inner(&self.columns[i], &self.columns[j]) * units[i] * units[j])
                    .collect()
            })
            .collect();
        let scale: f64 =
            (0..free.len()).map(|i| normal[i][i]).sum::<f64>() / free.len().max(1) as f64;
        for (i, row) in normal.iter_mut().enumerate() {
            row[i] += damping * scale + f64::MIN_POSITIVE;
        }
        let solution = solve(normal, free.iter().map(|&i| -slope[i]).collect());
        let mut step = vec![0.0; n];
        for (&i, z) in free.iter().zip(solution) {
            step[i] = z * units[i];
        }
        within(&at.variables, step, range)
    }

    /// Residuals after a step, by the model.
    fn predict(&self, residuals: &Batch, step: &[f64]) -> Batch {
        let mut terms = vec![(1.0, residuals)];
        terms.extend(step.iter().copied().zip(&self.columns));
        Batch::combine(&terms)
    }

    /// Broyden's update: the least change of the columns that explains what a step did.
    fn learn(self, step: &[f64], before: &Batch, after: &Batch) -> Self {
        let surprise = difference(after, &self.predict(before, step), 1.0);
        let length2: f64 = step.iter().map(|s| s * s).sum();
        let columns = self
            .columns
            .iter()
            .zip(step)
            .map(|(column, s)| Batch::combine(&[(1.0, column), (s / length2, &surprise)]))
            .collect();
        Self {
            columns,
            is_fresh: false,
        }
    }
}

fn difference(a: &Batch, b: &Batch, scale: f64) -> Batch {
    Batch::combine(&[(scale, a), (-scale, b)])
}

/// Shortens a step until it keeps the order and the range; one that never would is none.
fn within(variables: &[f64], mut step: Vec<f64>, range: Range) -> Vec<f64> {
    let n = variables.len();
    let least = LEAST_GAP * (variables[n - 1] - variables[0]) / (n.max(2) - 1) as f64;
    let keeps_order = |step: &[f64]| {
        let next = moved(variables, step);
        variables.windows(2).zip(next.windows(2)).all(|(old, new)| {
            let gap = old[1] - old[0];
            new[1] - new[0] >= gap.min(least.max(LEAST_GAP_KEPT * gap))
        })
    };
    for _ in 0..SHORTENINGS {
        let clamped: Vec<f64> = variables
            .iter()
            .zip(&step)
            .map(|(v, s)| (v + s).clamp(range.low, range.high) - v)
            .collect();
        if keeps_order(&clamped) {
            return clamped;
        }
        for s in &mut step {
            *s *= 0.8;
        }
    }
    vec![0.0; n]
}

/// Solves a small symmetric positive definite system by Gaussian elimination.
fn solve(mut a: Vec<Vec<f64>>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for k in 0..n {
        let (above, below) = a.split_at_mut(k + 1);
        let pivot = &above[k];
        for (i, row) in below.iter_mut().enumerate() {
            let factor = row[k] / pivot[k];
            for (entry, p) in row.iter_mut().zip(pivot) {
                *entry -= factor * p;
            }
            b[k + 1 + i] -= factor * b[k];
        }
    }
    for k in (0..n).rev() {
        let known: f64 = a[k][k + 1..]
            .iter()
            .zip(&b[k + 1..])
            .map(|(a, x)| a * x)
            .sum();
        b[k] = (b[k] - known) / a[k][k];
    }
    b
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    const RANGE: Range = Range {
        low: 0.0,
        high: 10.0,
    };

    /// Two samples of three numbers, curved in three variables, zero at (1, 2, 4).
    #[expect(clippy::unnecessary_wraps, reason = "the shape of what is minimised")]
    fn curved(v: &[f64]) -> Result<Batch, Infallible> {
        let (a, b, c) = (v[0] - 1.0, v[1] - 2.0, v[2] - 4.0);
        let values = [
            a + 0.2 * b * b,
            b + 0.1 * a * c,
            c,
            2.0 * a - b,
            b + c,
            a * c + 0.5 * b,
        ];
        Ok(Batch::new(values.iter().map(|&v| v as f32).collect(), 2))
    }

    #[test]
    fn a_smooth_problem_is_solved_in_few_evaluations() {
        let found = minimise(RANGE, vec![2.0, 4.0, 7.0], 40, &mut curved).unwrap();
        assert!(found.value < 1e-3, "{found:?}");
        assert!(found.evaluations <= 40);
    }

    #[test]
    fn variables_stay_ordered_and_in_range() {
        let mut seen = 0;
        let mut beyond = |v: &[f64]| -> Result<Batch, Infallible> {
            seen += 1;
            assert!(v.windows(2).all(|pair| pair[0] < pair[1]), "{v:?}");
            assert!(v[0] >= RANGE.low && v[2] <= RANGE.high, "{v:?}");
            let values = [v[0] + 3.0, v[1] - 1.0, v[2] - 14.0];
            Ok(Batch::new(values.iter().map(|&v| v as f32).collect(), 3))
        };
        let found = minimise(RANGE, vec![3.0, 5.0, 6.0], 60, &mut beyond).unwrap();
        assert!(
            found.variables[0] < 0.1 && found.variables[2] > 9.9,
            "{found:?}"
        );
        assert_eq!(seen, found.evaluations);
    }

    #[test]
    fn a_budget_is_kept() {
        for budget in [1, 3, 4, 5, 9] {
            let found = minimise(RANGE, vec![2.0, 4.0, 7.0], budget, &mut curved).unwrap();
            assert!(found.evaluations <= budget, "{budget}: {found:?}");
        }
    }

    #[test]
    fn errors_come_through() {
        let mut broken = |_: &[f64]| Err::<Batch, _>("out of memory");
        assert_eq!(
            minimise(RANGE, vec![1.0, 2.0], 10, &mut broken).unwrap_err(),
            "out of memory"
        );
    }
}
