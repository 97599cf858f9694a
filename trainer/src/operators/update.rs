//! The optimizer's step on the CPU: one pass over parameter, gradient and velocity.

use super::SgdStep;
use super::simd::vectorized;

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
