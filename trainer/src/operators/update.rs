//! The optimizers' steps, tensor by tensor; on the CPU one pass over a parameter and what belongs to it.

use super::simd::vectorized;
use super::{ADAM_EPSILON, AdamStep, Descent, Operators, SgdStep, Slot, Step};

/// [`Operators::update`], one tensor after the other.
pub(super) fn one_by_one<B: Operators>(tensors: Vec<Slot<B>>, step: &Step) -> Vec<Slot<B>> {
    let scale = step.norm_bound.and_then(|bound| {
        let gradients = tensors.iter().filter_map(|slot| slot.gradient.clone());
        let norm = B::square_sum(gradients.collect()).sqrt();
        (norm > bound).then(|| bound / norm)
    });
    let one = |slot| update(slot, step, scale);
    tensors.into_iter().map(one).collect()
}

fn update<B: Operators>(slot: Slot<B>, step: &Step, scale: Option<f64>) -> Slot<B> {
    let Slot {
        mut value,
        gradient,
        mut memory,
    } = slot;
    if let Some(gradient) = gradient {
        let gradient = match scale {
            Some(scale) => gradient * scale,
            None => gradient,
        };
        let velocity = memory.velocity.take();
        match step.descent {
            Descent::Sgd(step) => {
                let new = B::sgd(value, gradient, velocity, step);
                (value, memory.velocity) = (new.0, Some(new.1));
            }
            Descent::AdamW(step) => {
                let moments = velocity.zip(memory.squares.take());
                let new = B::adamw(value, gradient, moments, step);
                (value, memory.velocity, memory.squares) = (new.0, Some(new.1), Some(new.2));
            }
        }
    }
    if let Some(decay) = step.decay {
        memory.average = Some(match memory.average.take() {
            None => value.clone() * 1.0, // a copy: the tensor itself is updated in place
            Some(average) => average * decay + value.clone() * (1.0 - decay),
        });
    }
    Slot {
        value,
        gradient: None,
        memory,
    }
}

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
