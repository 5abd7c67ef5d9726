//! Gradient and banded Hessian in the interior points of a schedule, and the linear algebra a Newton step needs.
//!
//! Both ends of a schedule are fixed: variable `i` is point `i + 1`. A proxy couples only near neighbours, so the
//! Hessian is a band and every operation is linear in the number of points.

/// Value, gradient and Hessian accumulated from local terms.
#[derive(Clone, Debug)]
pub struct Derivatives {
    pub value: f64,
    pub gradient: Vec<f64>,
    pub hessian: Band,
}

impl Derivatives {
    /// Zeros for a schedule of `points` points whose Hessian reaches `half_bandwidth` off the diagonal.
    #[must_use]
    pub fn new(points: usize, half_bandwidth: usize) -> Self {
        let variables = points.saturating_sub(2);
        Self {
            value: 0.0,
            gradient: vec![0.0; variables],
            hessian: Band::new(variables, half_bandwidth),
        }
    }

    pub fn clear(&mut self) {
        self.value = 0.0;
        self.gradient.fill(0.0);
        self.hessian.entries.fill(0.0);
    }

    /// Adds a term of the `K` consecutive points from `first_point` on, of whose Hessian the lower triangle is read; points
    /// outside the interior are constants.
    pub fn add<const K: usize>(
        &mut self,
        first_point: isize,
        value: f64,
        gradient: &[f64; K],
        hessian: &[[f64; K]; K],
    ) {
        self.value += value;
        let variables = self.gradient.len();
        let variable = |slot: usize| {
            usize::try_from(first_point + slot as isize - 1)
                .ok()
                .filter(|&v| v < variables)
        };
        for (i, row) in hessian.iter().enumerate() {
            let Some(vi) = variable(i) else { continue };
            self.gradient[vi] += gradient[i];
            for (j, entry) in row.iter().enumerate().take(i + 1) {
                if let Some(vj) = variable(j) {
                    self.hessian.add(vi, vj, *entry);
                }
            }
        }
    }
}

/// A symmetric banded matrix: `entries[i * (half + 1) + d]` is element `(i, i - d)`.
#[derive(Clone, Debug)]
pub struct Band {
    size: usize,
    half: usize,
    entries: Vec<f64>,
}

impl Band {
    #[must_use]
    pub fn new(size: usize, half: usize) -> Self {
        Self {
            size,
            half,
            entries: vec![0.0; size * (half + 1)],
        }
    }

    /// Adds to the element `(row, column)` with `column <= row`; a zero outside the band is allowed.
    fn add(&mut self, row: usize, column: usize, value: f64) {
        let distance = row - column;
        if distance <= self.half {
            self.entries[row * (self.half + 1) + distance] += value;
        } else {
            debug_assert!(value == 0.0, "entry outside the band");
        }
    }

    fn get(&self, row: usize, column: usize) -> f64 {
        self.entries[row * (self.half + 1) + (row - column)]
    }

    /// Largest absolute element.
    #[must_use]
    pub fn max_abs(&self) -> f64 {
        self.entries.iter().fold(0.0, |max, v| v.abs().max(max))
    }

    /// `x^T A x`.
    #[must_use]
    pub fn quadratic_form(&self, x: &[f64]) -> f64 {
        let mut total = 0.0;
        for i in 0..self.size {
            total += self.get(i, i) * x[i] * x[i];
            for j in i.saturating_sub(self.half)..i {
                total += 2.0 * self.get(i, j) * x[i] * x[j];
            }
        }
        total
    }

    /// Writes the Cholesky factor of `self + ridge I` into `factor`; false where that is not positive definite.
    #[must_use]
    pub fn cholesky_into(&self, ridge: f64, factor: &mut Self) -> bool {
        factor.entries.copy_from_slice(&self.entries);
        for i in 0..self.size {
            let first = i.saturating_sub(self.half);
            for j in first..=i {
                let mut sum = factor.get(i, j);
                for k in first.max(j.saturating_sub(self.half))..j {
                    sum -= factor.get(i, k) * factor.get(j, k);
                }
                let at = i * (self.half + 1) + (i - j);
                if i == j {
                    let pivot = sum + ridge;
                    if pivot.is_nan() || pivot <= 0.0 {
                        return false;
                    }
                    factor.entries[at] = libm::sqrt(pivot);
                } else {
                    factor.entries[at] = sum / factor.get(j, j);
                }
            }
        }
        true
    }

    /// Solves `L L^T x = x` in place, `self` being the factor `L`.
    pub fn solve_factored(&self, x: &mut [f64]) {
        for i in 0..self.size {
            let mut sum = x[i];
            let first = i.saturating_sub(self.half);
            for (k, solved) in x.iter().enumerate().take(i).skip(first) {
                sum -= self.get(i, k) * solved;
            }
            x[i] = sum / self.get(i, i);
        }
        for i in (0..self.size).rev() {
            let mut sum = x[i];
            for (k, solved) in x.iter().enumerate().skip(i + 1).take(self.half) {
                sum -= self.get(k, i) * solved;
            }
            x[i] = sum / self.get(i, i);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factored_band_solves_its_system() {
        let mut band = Band::new(4, 2);
        for i in 0..4 {
            band.add(i, i, 4.0 + i as f64);
            if i > 0 {
                band.add(i, i - 1, -1.0);
            }
            if i > 1 {
                band.add(i, i - 2, 0.5);
            }
        }
        let x = [1.0, -2.0, 0.5, 3.0];
        // A x by hand, with A = band + I.
        let mut rhs = [
            5.0 * 1.0 + 2.0 + 0.25,
            -1.0 - 2.0 * 6.0 - 0.5 + 1.5,
            0.5 + 2.0 + 0.5 * 7.0 - 3.0,
            -1.0 - 0.5 + 3.0 * 8.0,
        ];
        let mut factor = Band::new(4, 2);
        assert!(band.cholesky_into(1.0, &mut factor));
        factor.solve_factored(&mut rhs);
        for (got, want) in rhs.iter().zip(x) {
            assert!((got - want).abs() < 1e-12);
        }
        assert!(!band.cholesky_into(-10.0, &mut factor));
    }
}
