//! One step of the optimizer over all tensors of a network in few launches: each works on many tensors, in place.
//!
//! What clips gradients is worked out on the device from one sum of squares, so that nobody waits for it.

use burn::tensor::{Shape, Tensor};
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime};

use super::{UNITS, allocate, sum_of_units, to_u32};
use crate::operators::{ADAM_EPSILON, AdamStep, Descent, SgdStep, Slot, Step};
use crate::operators::{unwrap, wrap};

/// Tensors that a launch works on at most.
const MOST_TENSORS: usize = 16;
/// Cubes for a tensor at most.
const MOST_CUBES: usize = 64;
/// Parts that a tensor's squares are summed in.
const PARTS: usize = 8;

type Tensors<R> = Vec<CubeTensor<R>>;
/// One of the tensors that an optimizer remembers.
type Pick<R, BT> = fn(&mut Memory<R, BT>) -> &mut Option<Vector<R, BT>>;

/// How many tensors a launch works on, of so many arrays each, where a kernel may have so many arrays.
///
/// One array belongs to all tensors together.
fn tensors_of_launch(arrays: usize, most_arrays: usize) -> usize {
    (most_arrays.saturating_sub(1) / arrays).clamp(1, MOST_TENSORS)
}

/// The same for the device that a tensor is on.
fn tensors_at_once<R: CubeRuntime>(arrays: usize, on: &CubeTensor<R>) -> usize {
    let most = on.client.properties().hardware.max_bindings;
    tensors_of_launch(arrays, most as usize)
}

impl Descent {
    /// Arrays of a tensor that learns.
    fn arrays(self) -> usize {
        match self {
            Self::Sgd(_) => 3,
            Self::AdamW(_) => 4,
        }
    }
}

/// As [`crate::operators::Operators::update`].
pub(super) fn update<R: CubeRuntime, BT: BoolElement>(
    mut slots: Vec<Slot<CubeBackend<R, f32, i32, BT>>>,
    step: &Step,
) -> Vec<Slot<CubeBackend<R, f32, i32, BT>>> {
    let learning: Vec<usize> = (0..slots.len())
        .filter(|index| slots[*index].gradient.is_some())
        .collect();
    let gradients: Tensors<R> = slots
        .iter_mut()
        .filter_map(|slot| slot.gradient.take())
        .map(|gradient| into_contiguous(unwrap(gradient)))
        .collect();
    let mut values: Vec<Option<CubeTensor<R>>> = Vec::with_capacity(slots.len());
    let mut memories = Vec::with_capacity(slots.len());
    for slot in slots {
        values.push(Some(own(unwrap(slot.value))));
        memories.push(slot.memory);
    }
    let scale = step
        .norm_bound
        .map(|bound| clipping_scale(&gradients, bound));
    let mut learnt: Vec<(usize, CubeTensor<R>)> = learning
        .into_iter()
        .map(|index| (index, values[index].take().expect("taken once")))
        .collect();
    let at_once = gradients.first();
    let at_once = at_once.map_or(1, |on| tensors_at_once(step.descent.arrays(), on));
    for (chunk, gradients) in learnt.chunks_mut(at_once).zip(gradients.chunks(at_once)) {
        let values: Tensors<R> = chunk.iter().map(|(_, value)| value.clone()).collect();
        let mut remembered = |pick: Pick<R, BT>| {
            let tensors: Tensors<R> = chunk
                .iter()
                .zip(gradients)
                .map(
                    |((index, _), like)| match pick(&mut memories[*index]).take() {
                        Some(tensor) => own(unwrap(tensor)),
                        None => zeros::<R, BT>(like),
                    },
                )
                .collect();
            for ((index, _), tensor) in chunk.iter().zip(&tensors) {
                *pick(&mut memories[*index]) = Some(wrap(tensor.clone()));
            }
            tensors
        };
        let velocities = remembered(|memory| &mut memory.velocity);
        match step.descent {
            Descent::Sgd(step) => {
                let of_kernel = [gradients, &values, &velocities];
                sgd(of_kernel, scale.as_ref(), at_once, step);
            }
            Descent::AdamW(step) => {
                let squares = remembered(|memory| &mut memory.squares);
                let of_kernel = [gradients, &values, &velocities, &squares];
                adamw(of_kernel, scale.as_ref(), at_once, step);
            }
        }
    }
    for (index, value) in learnt {
        values[index] = Some(value);
    }
    let values: Tensors<R> = values.into_iter().flatten().collect();
    if let Some(decay) = step.decay {
        take_average::<R, BT>(&values, &mut memories, decay);
    }
    let slots = values.into_iter().zip(memories);
    slots
        .map(|(value, memory)| Slot {
            value: wrap(value),
            gradient: None,
            memory,
        })
        .collect()
}

type Memory<R, BT> = crate::operators::Memory<CubeBackend<R, f32, i32, BT>>;
type Vector<R, BT> = Tensor<CubeBackend<R, f32, i32, BT>, 1>;

/// The tensor, or a copy where somebody else has it, too: what is returned may be changed in place.
fn own<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    let tensor = into_contiguous(tensor);
    if tensor.can_mut() {
        tensor
    } else {
        tensor.copy()
    }
}

fn zeros<R: CubeRuntime, BT: BoolElement>(like: &CubeTensor<R>) -> CubeTensor<R> {
    unwrap(Vector::<R, BT>::zeros(
        [like.meta.num_elements()],
        &like.device,
    ))
}

/// Moves every average towards its tensor's value.
fn take_average<R: CubeRuntime, BT: BoolElement>(
    values: &[CubeTensor<R>],
    memories: &mut [Memory<R, BT>],
    decay: f64,
) {
    let at_once = values.first().map_or(1, |on| tensors_at_once(2, on));
    for (values, memories) in values.chunks(at_once).zip(memories.chunks_mut(at_once)) {
        let averages: Tensors<R> = values
            .iter()
            .zip(memories.iter_mut())
            .map(|(value, memory)| match memory.average.take() {
                Some(average) => own(unwrap(average)),
                None => value.copy(), // of which every average is the value itself
            })
            .collect();
        average_kernel::launch::<R>(
            &values[0].client,
            cubes(values),
            CubeDim::new_1d(UNITS),
            arguments(values, at_once),
            arguments(&averages, at_once),
            single(decay),
            single(1.0 - decay),
            to_u32(at_once),
        );
        for (memory, average) in memories.iter_mut().zip(averages) {
            memory.average = Some(wrap(average));
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "kernels compute in single precision"
)]
fn single(value: f64) -> f32 {
    value as f32
}

/// The tensors of a launch that works on so many; where they are fewer, the last places have no values.
fn arguments<R: CubeRuntime>(
    tensors: &[CubeTensor<R>],
    at_once: usize,
) -> SequenceArg<R, Array<f32>> {
    let none = || {
        let handle = tensors[0].handle.clone();
        #[expect(unsafe_code, reason = "how an array without values is made")]
        // SAFETY: no value is read from an array that says that it has none.
        unsafe {
            ArrayArg::from_raw_parts(handle, 0)
        }
    };
    let tensors_here = tensors.iter().map(|tensor| tensor.clone().into_array_arg());
    let rest = (tensors.len()..at_once).map(|_| none());
    tensors_here.chain(rest).collect()
}

/// Cubes along x share a tensor's values, those along y are for one tensor each.
fn cubes<R: CubeRuntime>(tensors: &[CubeTensor<R>]) -> CubeCount {
    let longest = tensors
        .iter()
        .map(|tensor| tensor.meta.num_elements())
        .max()
        .unwrap_or(0);
    let cubes = longest.div_ceil(4 * UNITS as usize).clamp(1, MOST_CUBES);
    CubeCount::Static(to_u32(cubes), to_u32(tensors.len()), 1)
}

/// What gradients are multiplied by, so that their norm is at most the bound. `[1]`
fn clipping_scale<R: CubeRuntime>(gradients: &[CubeTensor<R>], bound: f64) -> CubeTensor<R> {
    let sums = allocate(&gradients[0], Shape::from([gradients.len() * PARTS]));
    let scale = allocate(&gradients[0], Shape::from([1]));
    let at_once = tensors_at_once(1, &gradients[0]);
    for (chunk, gradients) in gradients.chunks(at_once).enumerate() {
        squares_kernel::launch::<R>(
            &sums.client,
            CubeCount::Static(to_u32(PARTS), to_u32(gradients.len()), 1),
            CubeDim::new_1d(UNITS),
            arguments(gradients, at_once),
            sums.clone().into_array_arg(),
            to_u32(chunk * at_once),
            to_u32(at_once),
        );
    }
    clipping_kernel::launch::<R>(
        &sums.client,
        CubeCount::Static(1, 1, 1),
        CubeDim::new_1d(UNITS),
        sums.clone().into_array_arg(),
        scale.clone().into_array_arg(),
        to_u32(sums.meta.num_elements()),
        single(bound),
    );
    scale
}

/// Gradients, values and velocities; as many tensors as a launch works on, or fewer.
fn sgd<R: CubeRuntime>(
    [gradients, values, velocities]: [&[CubeTensor<R>]; 3],
    scale: Option<&CubeTensor<R>>,
    at_once: usize,
    step: SgdStep,
) {
    sgd_kernel::launch::<R>(
        &values[0].client,
        cubes(values),
        CubeDim::new_1d(UNITS),
        arguments(gradients, at_once),
        scale.unwrap_or(&gradients[0]).clone().into_array_arg(),
        arguments(values, at_once),
        arguments(velocities, at_once),
        step.rate,
        step.momentum,
        step.weight_decay,
        scale.is_some(),
        to_u32(at_once),
    );
}

/// Gradients, values, velocities and squares, in the same way.
fn adamw<R: CubeRuntime>(
    [gradients, values, velocities, squares]: [&[CubeTensor<R>]; 4],
    scale: Option<&CubeTensor<R>>,
    at_once: usize,
    step: AdamStep,
) {
    adamw_kernel::launch::<R>(
        &values[0].client,
        cubes(values),
        CubeDim::new_1d(UNITS),
        arguments(gradients, at_once),
        scale.unwrap_or(&gradients[0]).clone().into_array_arg(),
        arguments(values, at_once),
        arguments(velocities, at_once),
        arguments(squares, at_once),
        AdamLaunch::new(
            step.rate,
            step.momentum,
            step.squares,
            step.correction,
            step.shrinkage,
            ADAM_EPSILON,
        ),
        scale.is_some(),
        to_u32(at_once),
    );
}

/// The first value that this unit works on, and how far it is to the next one.
#[cube]
fn first_and_pace() -> (u32, u32) {
    (CUBE_POS_X * UNITS + UNIT_POS, CUBE_COUNT_X * UNITS)
}

#[cube(launch)]
fn squares_kernel(
    gradients: &Sequence<Array<f32>>,
    sums: &mut Array<f32>,
    first: u32,
    #[comptime] tensors: u32,
) {
    let mut scratch = SharedMemory::<f32>::new(comptime!(UNITS as usize));
    let mut sum = 0.0f32;
    #[unroll]
    for tensor in 0..tensors {
        if CUBE_POS_Y == tensor {
            sum = square_sum(gradients.index(comptime!(tensor as usize)));
        }
    }
    let sum = sum_of_units(sum, &mut scratch);
    if UNIT_POS == 0 {
        let place = (first + CUBE_POS_Y) * CUBE_COUNT_X + CUBE_POS_X;
        sums[place as usize] = sum;
    }
}

/// The sum of this unit's squares.
#[cube]
fn square_sum(values: &Array<f32>) -> f32 {
    let (first, pace) = first_and_pace();
    let len = values.len() as u32;
    let mut sum = 0.0f32;
    let mut index = first;
    while index < len {
        let value = values[index as usize];
        sum += value * value;
        index += pace;
    }
    sum
}

#[cube(launch)]
fn clipping_kernel(sums: &Array<f32>, scale: &mut Array<f32>, len: u32, bound: f32) {
    let mut scratch = SharedMemory::<f32>::new(comptime!(UNITS as usize));
    let mut sum = 0.0f32;
    let mut index = UNIT_POS;
    while index < len {
        sum += sums[index as usize];
        index += UNITS;
    }
    let norm = f32::sqrt(sum_of_units(sum, &mut scratch));
    if UNIT_POS == 0 {
        // A norm that is no number clips nothing, and the loss will tell.
        scale[0] = if norm > bound {
            bound / norm
        } else {
            1.0f32.runtime()
        };
    }
}

/// What gradients are multiplied by.
#[cube]
fn factor(scale: &Array<f32>, #[comptime] clips: bool) -> f32 {
    if comptime!(clips) {
        scale[0]
    } else {
        1.0f32.runtime()
    }
}

#[cube(launch)]
fn sgd_kernel(
    gradients: &Sequence<Array<f32>>,
    scale: &Array<f32>,
    values: &mut Sequence<Array<f32>>,
    velocities: &mut Sequence<Array<f32>>,
    rate: f32,
    momentum: f32,
    weight_decay: f32,
    #[comptime] clips: bool,
    #[comptime] tensors: u32,
) {
    let scale = factor(scale, clips);
    #[unroll]
    for tensor in 0..tensors {
        if CUBE_POS_Y == tensor {
            sgd_of_one(
                gradients.index(comptime!(tensor as usize)),
                values.index_mut(comptime!(tensor as usize)),
                velocities.index_mut(comptime!(tensor as usize)),
                scale,
                rate,
                momentum,
                weight_decay,
            );
        }
    }
}

#[cube]
fn sgd_of_one(
    gradients: &Array<f32>,
    values: &mut Array<f32>,
    velocities: &mut Array<f32>,
    scale: f32,
    rate: f32,
    momentum: f32,
    weight_decay: f32,
) {
    let (first, pace) = first_and_pace();
    let len = gradients.len() as u32;
    let mut number = first;
    while number < len {
        let index = number as usize;
        let old = values[index];
        let gradient = gradients[index] * scale + old * weight_decay;
        let velocity = velocities[index] * momentum + gradient;
        velocities[index] = velocity;
        values[index] = old - (gradient + velocity * momentum) * rate;
        number += pace;
    }
}

/// [`AdamStep`] on the device.
#[derive(CubeLaunch, CubeType)]
struct Adam {
    rate: f32,
    momentum: f32,
    squares: f32,
    correction: f32,
    shrinkage: f32,
    epsilon: f32,
}

#[cube(launch)]
fn adamw_kernel(
    gradients: &Sequence<Array<f32>>,
    scale: &Array<f32>,
    values: &mut Sequence<Array<f32>>,
    velocities: &mut Sequence<Array<f32>>,
    squares: &mut Sequence<Array<f32>>,
    step: Adam,
    #[comptime] clips: bool,
    #[comptime] tensors: u32,
) {
    let scale = factor(scale, clips);
    #[unroll]
    for tensor in 0..tensors {
        if CUBE_POS_Y == tensor {
            adamw_of_one(
                gradients.index(comptime!(tensor as usize)),
                values.index_mut(comptime!(tensor as usize)),
                velocities.index_mut(comptime!(tensor as usize)),
                squares.index_mut(comptime!(tensor as usize)),
                scale,
                &step,
            );
        }
    }
}

#[cube]
fn adamw_of_one(
    gradients: &Array<f32>,
    values: &mut Array<f32>,
    velocities: &mut Array<f32>,
    squares: &mut Array<f32>,
    scale: f32,
    step: &Adam,
) {
    let (first, pace) = first_and_pace();
    let len = gradients.len() as u32;
    let mut number = first;
    while number < len {
        let index = number as usize;
        let gradient = gradients[index] * scale;
        let velocity = velocities[index] * step.momentum + gradient * (1.0f32 - step.momentum);
        let square = squares[index] * step.squares + gradient * gradient * (1.0f32 - step.squares);
        let deviation = f32::sqrt(square) / step.correction + step.epsilon;
        velocities[index] = velocity;
        squares[index] = square;
        values[index] = values[index] * step.shrinkage - velocity / deviation * step.rate;
        number += pace;
    }
}

#[cube(launch)]
fn average_kernel(
    values: &Sequence<Array<f32>>,
    averages: &mut Sequence<Array<f32>>,
    decay: f32,
    newest: f32,
    #[comptime] tensors: u32,
) {
    #[unroll]
    for tensor in 0..tensors {
        if CUBE_POS_Y == tensor {
            average_of_one(
                values.index(comptime!(tensor as usize)),
                averages.index_mut(comptime!(tensor as usize)),
                decay,
                newest,
            );
        }
    }
}

#[cube]
fn average_of_one(values: &Array<f32>, averages: &mut Array<f32>, decay: f32, newest: f32) {
    let (first, pace) = first_and_pace();
    let len = values.len() as u32;
    let mut number = first;
    while number < len {
        let index = number as usize;
        averages[index] = averages[index] * decay + values[index] * newest;
        number += pace;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launch_has_as_many_arrays_as_its_device_allows() {
        // CUDA's, and those of Mesa's lavapipe: AdamW has four arrays a tensor, the sum of squares one.
        for (arrays, most_arrays, expected) in [
            (4, 1024, 16),
            (4, 31, 7),
            (3, 31, 10),
            (1, 31, 16),
            (4, 2, 1),
        ] {
            assert_eq!(tensors_of_launch(arrays, most_arrays), expected);
        }
    }
}
