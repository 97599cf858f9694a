//! Weighted sums of branches on the CPU, with one factor per image.

use rayon::prelude::*;

use super::simd::vectorized;

/// Computes `sum += factor · branch`, image by image.
pub(super) fn add_scaled(sum: &mut [f32], branch: &[f32], factors: &[f32]) {
    let image = sum.len() / factors.len();
    sum.par_chunks_mut(image)
        .zip(branch.par_chunks(image))
        .zip(factors)
        .for_each(|((sum, branch), &factor)| {
            vectorized(|| {
                for (sum, value) in sum.iter_mut().zip(branch) {
                    *sum += factor * value;
                }
            });
        });
}

/// Computes `values *= factor`, image by image.
pub(super) fn scale(values: &mut [f32], factors: &[f32]) {
    let image = values.len() / factors.len();
    values
        .par_chunks_mut(image)
        .zip(factors)
        .for_each(|(values, &factor)| {
            vectorized(|| {
                for value in values {
                    *value *= factor;
                }
            });
        });
}
