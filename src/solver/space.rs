//! What a sampler moves: a point of any real vector space, f64 coefficients whatever it is stored in.

/// A vector space over the reals.
pub trait Space: Clone {
    /// `sum_k c_k v_k`, rounded once a term at most; there is at least one term and all have the same shape.
    #[must_use]
    fn combine(terms: &[(f64, &Self)]) -> Self;
}

macro_rules! space_of_floats {
    ($float:ty) => {
        impl Space for Vec<$float> {
            fn combine(terms: &[(f64, &Self)]) -> Self {
                (0..terms[0].1.len())
                    .map(|i| {
                        let sum: f64 = terms.iter().map(|(c, v)| c * f64::from(v[i])).sum();
                        sum as $float
                    })
                    .collect()
            }
        }
    };
}
space_of_floats!(f32);
space_of_floats!(f64);
