//! UniPC (arXiv 2302.04867): a predictor of any order and a corrector one order better that costs no evaluation, in
//! data-prediction form; orders of single steps as in diffusers' `UniPCMultistepScheduler`.
//!
//! An output at pure noise is infinitely far away in half log-SNR and says nothing about a later step: it is left out,
//! which is one order less. `Variant::Bh1`, whose `B(h)` is infinite on a step from there, does not correct that one.

use super::{Denoise, Level, Space, lagrange, remember};

/// The scale `B(h)` of the correction terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// `B(h) = h`.
    Bh1,
    /// `B(h) = e^h - 1`.
    Bh2,
}

pub(super) fn sample<X: Space, E>(
    (order, variant, corrector): (usize, Variant, bool),
    levels: &[Level],
    mut x: X,
    denoise: &mut Denoise<X, E>,
) -> Result<X, E> {
    assert!(
        (1..=3).contains(&order),
        "unipc has orders 1 to 3, not {order}"
    );
    let steps = levels.len().saturating_sub(1);
    let mut m: Vec<X> = Vec::new();
    // The state that the last step left, and its order.
    let mut last: Option<(X, usize)> = None;
    for i in 0..steps {
        let m_t = denoise(&x, &levels[i])?;
        if let Some((x_s, p)) = last.take().filter(|_| corrector) {
            let mut nodes = earlier(&m, levels, i - 1, p);
            nodes.push((&levels[i], &m_t));
            x = update(variant, &x_s, (&levels[i - 1], &m[0]), &levels[i], &nodes);
        }
        remember(&mut m, m_t, order);
        let p = order.min(i + 1).min(steps - i);
        let nodes = earlier(&m, levels, i, p);
        let x_t = update(variant, &x, (&levels[i], &m[0]), &levels[i + 1], &nodes);
        last = Some((std::mem::replace(&mut x, x_t), p));
    }
    Ok(x)
}

/// The `p - 1` outputs before step `i`, with their levels.
fn earlier<'a, X>(m: &'a [X], levels: &'a [Level], i: usize, p: usize) -> Vec<(&'a Level, &'a X)> {
    (1..p).map(|k| (&levels[i - k], &m[k])).collect()
}

/// `UniP` where all nodes lie before `s`, `UniC` where one is `t`:
/// `x_t = sigma_t / sigma_s x - alpha_t (e^-h - 1) m_0 - alpha_t B(-h) sum_k rho_k (m_k - m_0) / r_k`.
fn update<X: Space>(
    variant: Variant,
    x: &X,
    (s, m0): (&Level, &X),
    t: &Level,
    nodes: &[(&Level, &X)],
) -> X {
    let h = t.lambda() - s.lambda();
    let phi_1 = libm::expm1(-h);
    let b_h = match variant {
        Variant::Bh1 => -h,
        Variant::Bh2 => phi_1,
    };
    let ratio = |node: &Level| {
        if node == t {
            1.0
        } else {
            (node.lambda() - s.lambda()) / h
        }
    };
    let (rs, ms): (Vec<f64>, Vec<&X>) = nodes
        .iter()
        .map(|(node, m)| (ratio(node), *m))
        .filter(|(r, _)| r.is_finite() && b_h.is_finite())
        .unzip();
    let weights: Vec<f64> = rhos(&rs, -h, b_h)
        .iter()
        .zip(&rs)
        .map(|(rho, r)| -t.alpha * b_h * rho / r)
        .collect();
    let own = -t.alpha * phi_1 - weights.iter().sum::<f64>();
    let mut terms = vec![(t.sigma / s.sigma, x), (own, m0)];
    terms.extend(weights.into_iter().zip(ms));
    X::combine(&terms)
}

/// The solution of `sum_k rho_k r_k^(i - 1) = phi_(i + 1)(hh) i! / B(h)`, `i = 1..=nodes` (theorem 3.1); 1/2 for one node,
/// which keeps the order.
fn rhos(rs: &[f64], hh: f64, b_h: f64) -> Vec<f64> {
    if rs.len() <= 1 {
        return vec![0.5; rs.len()];
    }
    let mut b = Vec::new();
    let (mut factorial, mut phi) = (1.0, libm::expm1(hh) / hh - 1.0);
    for i in 1..=rs.len() {
        b.push(phi * factorial / b_h);
        factorial *= (i + 1) as f64;
        phi = phi / hh - 1.0 / factorial;
    }
    // The transposed Vandermonde system: the rows of its inverse are the basis polynomials' coefficients.
    lagrange::basis(rs)
        .iter()
        .map(|row| row.iter().zip(&b).map(|(c, b)| c * b).sum())
        .collect()
}
