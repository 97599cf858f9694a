//! The optimizers' steps on the CPU: one pass over a parameter and what belongs to it.

use super::simd::vectorized;
use super::{ADAM_EPSILON, AdamStep, SgdStep};

/// Takes a Nesterov step in place. A first step must be given a velocity of zeros.
pub(super) fn sgd(parameter: &mut [f32], gradient: &[f32], velocity: &mut [f32], step: SgdStep) {
    vectorized(|| {
        for ((parameter, gradient), velocity) in parameter.iter_mut().zip(gradient).zip(velocity) {
            let gradient = gradient + step.weight_decay * *parameter;
            *velocity = step.momentum * *velocity + gradient;
            *parameter -= step.rate * (gradient + step.momentum * *velocity);
        }
    });
}

/// Takes a step of `AdamW` in place. A first step must be given moments of zeros.
pub(super) fn adamw(
    parameter: &mut [f32],
    gradient: &[f32],
    velocity: &mut [f32],
    squares: &mut [f32],
    step: AdamStep,
) {
    vectorized(|| {
        let moments = velocity.iter_mut().zip(squares);
        for ((parameter, gradient), (velocity, squares)) in
            parameter.iter_mut().zip(gradient).zip(moments)
        {
            *velocity = step.momentum * *velocity + (1.0 - step.momentum) * gradient;
            *squares = step.squares * *squares + (1.0 - step.squares) * (gradient * gradient);
            let deviation = squares.sqrt() / step.correction + ADAM_EPSILON;
            *parameter = step.shrinkage * *parameter - step.rate * (*velocity / deviation);
        }
    });
}

/// The sum of squares, in one order whatever the number of threads.
pub(super) fn square_sum(values: &[f32]) -> f64 {
    const LANES: usize = 8;
    vectorized(|| {
        let mut lanes = [0.0f64; LANES];
        for values in values.chunks(LANES) {
            for (lane, value) in lanes.iter_mut().zip(values) {
                *lane += f64::from(*value) * f64::from(*value);
            }
        }
        lanes.iter().sum()
    })
}
