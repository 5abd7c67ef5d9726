//! Forward-mode differentiation: a number that carries its gradient and Hessian in `K` variables.
//!
//! The solver-tied proxies are written once as formulas over [`Jet`]; `K = 0` evaluates them, `K > 0` also
//! differentiates them exactly.

use super::Taylor;
use std::ops::{Add, Div, Mul, Neg, Sub};

#[derive(Clone, Copy, Debug)]
pub struct Jet<const K: usize> {
    pub value: f64,
    pub gradient: [f64; K],
    /// Lower triangle; the rest stays zero.
    pub hessian: [[f64; K]; K],
}

impl<const K: usize> Jet<K> {
    pub fn constant(value: f64) -> Self {
        Self {
            value,
            gradient: [0.0; K],
            hessian: [[0.0; K]; K],
        }
    }

    /// The variable number `slot` (a constant when only values are wanted).
    pub fn variable(value: f64, slot: usize) -> Self {
        let mut jet = Self::constant(value);
        if let Some(entry) = jet.gradient.get_mut(slot) {
            *entry = 1.0;
        }
        jet
    }

    /// `f(self)` from `f` and its derivatives at `self.value`.
    pub fn lift(self, f: Taylor) -> Self {
        let mut out = Self::constant(f.value);
        for i in 0..K {
            out.gradient[i] = f.first * self.gradient[i];
            for j in 0..=i {
                out.hessian[i][j] =
                    f.first * self.hessian[i][j] + f.second * self.gradient[i] * self.gradient[j];
            }
        }
        out
    }

    pub fn exp(self) -> Self {
        let value = libm::exp(self.value);
        self.lift(Taylor {
            value,
            first: value,
            second: value,
        })
    }

    pub fn sqrt(self) -> Self {
        let value = libm::sqrt(self.value);
        self.lift(Taylor {
            value,
            first: 0.5 / value,
            second: -0.25 / (value * self.value),
        })
    }

    pub fn recip(self) -> Self {
        let value = 1.0 / self.value;
        self.lift(Taylor {
            value,
            first: -value * value,
            second: 2.0 * value * value * value,
        })
    }

    /// The same number among `W` variables, its own starting at `offset`.
    pub fn embed<const W: usize>(self, offset: usize) -> Jet<W> {
        let mut out = Jet::constant(self.value);
        for i in 0..K.min(W) {
            out.gradient[offset + i] = self.gradient[i];
            for j in 0..=i {
                out.hessian[offset + i][offset + j] = self.hessian[i][j];
            }
        }
        out
    }
}

impl<const K: usize> Add for Jet<K> {
    type Output = Self;
    fn add(mut self, other: Self) -> Self {
        self.value += other.value;
        for i in 0..K {
            self.gradient[i] += other.gradient[i];
            for j in 0..=i {
                self.hessian[i][j] += other.hessian[i][j];
            }
        }
        self
    }
}

impl<const K: usize> Neg for Jet<K> {
    type Output = Self;
    fn neg(self) -> Self {
        self.lift(Taylor {
            value: -self.value,
            first: -1.0,
            second: 0.0,
        })
    }
}

impl<const K: usize> Sub for Jet<K> {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl<const K: usize> Mul for Jet<K> {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        let mut out = Self::constant(self.value * other.value);
        for i in 0..K {
            out.gradient[i] = self.gradient[i] * other.value + self.value * other.gradient[i];
            for j in 0..=i {
                out.hessian[i][j] = self.hessian[i][j] * other.value
                    + self.value * other.hessian[i][j]
                    + self.gradient[i] * other.gradient[j]
                    + other.gradient[i] * self.gradient[j];
            }
        }
        out
    }
}

impl<const K: usize> Div for Jet<K> {
    type Output = Self;
    #[expect(
        clippy::suspicious_arithmetic_impl,
        reason = "a quotient is a product with the reciprocal"
    )]
    fn div(self, other: Self) -> Self {
        self * other.recip()
    }
}
