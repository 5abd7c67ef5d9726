//! Discrete variance-preserving models: the table of `ln(alpha)` on the training grid, and reading it both ways.
//!
//! Exact at grid points `t_n = (n + 1) / T`, linear in `t` between them.

use super::spec::{NoiseError, VpTable, positive};

/// Half log-SNRs beyond this leave no signal (or no noise) in double precision.
const LAMBDA_LIMIT: f64 = 30.0;

/// `ln(sqrt(alpha_bar))` on the training grid, after the SNR shift and the zero-terminal-SNR rescale where asked for.
pub(super) fn discrete_log_alpha(table: &VpTable) -> Result<Vec<f64>, NoiseError> {
    let field = table.field();
    let mut log_alpha: Vec<f64> = table
        .log_alpha_bar()?
        .into_iter()
        .map(|v| 0.5 * v)
        .collect();
    if log_alpha.len() < 2 || log_alpha.len() > 100_000 {
        return Err(NoiseError::new(
            field,
            "needs from 2 to 100000 training timesteps",
        ));
    }
    if let Some(scale) = table.snr_shift_scale {
        positive("snr_shift_scale", scale, 1e3)?;
        // alpha_bar / (s + (1 - s) alpha_bar) divides the SNR by s.
        let shift = 0.5 * libm::log(scale);
        for la in &mut log_alpha {
            *la = log_alpha_of_lambda(lambda_of_log_alpha(*la) - shift);
        }
    }
    if table.rescale_betas_zero_snr {
        rescale_to_zero_terminal_snr(&mut log_alpha);
    }
    let finite = log_alpha.len() - usize::from(table.rescale_betas_zero_snr);
    let mut previous = LAMBDA_LIMIT;
    for (n, &la) in log_alpha[..finite].iter().enumerate() {
        let lambda = lambda_of_log_alpha(la);
        if lambda.is_nan() || lambda >= previous || lambda < -LAMBDA_LIMIT {
            return Err(NoiseError::new(
                field,
                format!(
                    "the signal-to-noise ratio must fall strictly and stay within half log-SNR \
                     +-{LAMBDA_LIMIT}; timestep {n} breaks that"
                ),
            ));
        }
        previous = lambda;
    }
    Ok(log_alpha)
}

/// Shifts and scales `sqrt(alpha_bar)` so that the last is zero and the first is kept (arXiv 2305.08891, algorithm 1).
fn rescale_to_zero_terminal_snr(log_alpha: &mut [f64]) {
    let root = |la: f64| libm::exp(la);
    let (first, last) = (root(log_alpha[0]), root(log_alpha[log_alpha.len() - 1]));
    let scale = first / (first - last);
    for la in log_alpha.iter_mut() {
        *la = libm::log((root(*la) - last) * scale);
    }
}

/// Position `t T - 1` on the training grid; exact at grid points, where rounding would leave a stray last bit.
pub(super) fn grid_position(t: f64, steps: usize) -> f64 {
    let position = t * steps as f64 - 1.0;
    let nearest = libm::round(position);
    if (position - nearest).abs() < 1e-9 {
        nearest
    } else {
        position
    }
}

/// `ln(alpha)` at time `t`, clamped to the grid.
pub(super) fn interpolate(log_alpha: &[f64], t: f64) -> f64 {
    let last = log_alpha.len() - 1;
    let position = grid_position(t, log_alpha.len()).clamp(0.0, last as f64);
    let below = libm::floor(position);
    let n = below as usize;
    let weight = position - below;
    if weight == 0.0 {
        return log_alpha[n];
    }
    log_alpha[n] + weight * (log_alpha[n + 1] - log_alpha[n])
}

/// Time of a `ln(alpha)`, clamped to the grid.
pub(super) fn invert(log_alpha: &[f64], target: f64) -> f64 {
    let steps = log_alpha.len() as f64;
    let after = log_alpha.partition_point(|&la| la >= target);
    if after == 0 {
        return 1.0 / steps;
    }
    if after == log_alpha.len() {
        return 1.0;
    }
    let (above, below) = (log_alpha[after - 1], log_alpha[after]);
    let weight = if below.is_infinite() {
        0.0
    } else {
        (above - target) / (above - below)
    };
    (after as f64 + weight) / steps
}

/// `lambda` of a variance-preserving pair.
pub(super) fn lambda_of_log_alpha(log_alpha: f64) -> f64 {
    log_alpha - 0.5 * libm::log(-libm::expm1(2.0 * log_alpha))
}

/// `ln(alpha) = -ln(1 + exp(-2 lambda)) / 2` of a variance-preserving pair.
pub(super) fn log_alpha_of_lambda(lambda: f64) -> f64 {
    if lambda < -20.0 {
        return lambda;
    }
    -0.5 * libm::log1p(libm::exp(-2.0 * lambda))
}
