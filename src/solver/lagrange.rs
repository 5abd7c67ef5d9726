//! Lagrange basis polynomials: what a multistep solver puts through the outputs it remembers.

/// Coefficients of the basis polynomials of distinct nodes: `basis[k][i]` is that of `u^i` in the polynomial that is 1 at
/// node `k` and 0 at the others.
pub(super) fn basis(nodes: &[f64]) -> Vec<Vec<f64>> {
    (0..nodes.len()).map(|k| polynomial(nodes, k)).collect()
}

fn polynomial(nodes: &[f64], k: usize) -> Vec<f64> {
    let mut coefficients = vec![1.0];
    for j in (0..nodes.len()).filter(|&j| j != k) {
        // Times (u - u_j) / (u_k - u_j), from the highest power down so that it can be done in place.
        let scale = 1.0 / (nodes[k] - nodes[j]);
        coefficients.push(0.0);
        for i in (0..coefficients.len()).rev() {
            let lower = if i == 0 { 0.0 } else { coefficients[i - 1] };
            coefficients[i] = (lower - nodes[j] * coefficients[i]) * scale;
        }
    }
    coefficients
}
