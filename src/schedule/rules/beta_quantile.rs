//! Quantiles of the beta distribution: the inverse of the regularised incomplete beta function.
//!
//! The function by Lentz's continued fraction (Numerical Recipes, 6.4), its inverse by bisection. Written out because
//! every transcendental here must give the same bits on every machine.

/// The `x` in [0, 1] with `I_x(alpha, beta) = probability`.
pub(super) fn beta_quantile(probability: f64, alpha: f64, beta: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    // 1074 halvings reach the smallest double; 200 are enough for the tails in use.
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            break;
        }
        if regularised_incomplete_beta(middle, alpha, beta) < probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    if probability <= 0.0 { 0.0 } else { high }
}

fn regularised_incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    let log_front = libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b)
        + a * libm::log(x)
        + b * libm::log1p(-x);
    let front = libm::exp(log_front);
    if x < (a + 1.0) / (a + b + 2.0) {
        front * continued_fraction(x, a, b) / a
    } else {
        1.0 - front * continued_fraction(1.0 - x, b, a) / b
    }
}

/// Lentz's method; `numerator` and `denominator` are its running ratios `C` and `1 / D`.
fn continued_fraction(x: f64, a: f64, b: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let guard = |v: f64| if v.abs() < TINY { TINY } else { v };
    let mut numerator = 1.0;
    let mut inverse = 1.0 / guard(1.0 - (a + b) * x / (a + 1.0));
    let mut value = inverse;
    for m in 1..300 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut factor = 1.0;
        for term in [even, odd] {
            inverse = 1.0 / guard(1.0 + term * inverse);
            numerator = guard(1.0 + term / numerator);
            factor = numerator * inverse;
            value *= factor;
        }
        if (factor - 1.0).abs() < 1e-15 {
            break;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_scipys() {
        // scipy.stats.beta.ppf(p, a, b)
        let cases = [
            (0.5, 0.6, 0.6, 0.5),
            (0.75, 0.6, 0.6, 0.824_319_621_347_305),
            (0.125, 0.6, 0.6, 0.057_156_363_622_414_08),
            (0.9, 0.5, 0.7, 0.918_834_884_278_280_2),
        ];
        for (probability, a, b, want) in cases {
            let got = beta_quantile(probability, a, b);
            assert!((got - want).abs() < 1e-12, "{got} not {want}");
        }
        assert_eq!(beta_quantile(1.0, 0.6, 0.6), 1.0);
        assert_eq!(beta_quantile(0.0, 0.6, 0.6), 0.0);
    }
}
