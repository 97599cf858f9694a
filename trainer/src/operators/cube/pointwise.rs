//! Kernels that compute each value by itself: mixing of branches, and the optimizers' steps in one launch a tensor.

use burn::tensor::Shape;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::{UNITS, allocate, elementwise, number_of_unit, sum_of_units, to_u32};
use crate::operators::{ADAM_EPSILON, AdamStep, SgdStep};

fn len<R: CubeRuntime>(tensor: &CubeTensor<R>) -> usize {
    tensor.meta.shape().iter().product()
}

/// `sum + factor · branch`, or only `factor · branch`. The factors are a row of `factors`: `[2, batch]`
pub(super) fn scale<R: CubeRuntime>(
    sum: Option<CubeTensor<R>>,
    branch: CubeTensor<R>,
    factors: CubeTensor<R>,
    row: usize,
) -> CubeTensor<R> {
    let all = len(&branch);
    let batch = branch.meta.shape()[0];
    let output = allocate(&branch, branch.meta.shape().clone());
    let (count, dim) = elementwise(all);
    let has_sum = sum.is_some();
    scale_kernel::launch::<R>(
        &output.client,
        count,
        dim,
        sum.unwrap_or_else(|| branch.clone()).into_array_arg(),
        branch.into_array_arg(),
        factors.into_array_arg(),
        output.clone().into_array_arg(),
        to_u32(all),
        to_u32(all / batch),
        to_u32(row * batch),
        has_sum,
    );
    output
}

#[cube(launch)]
fn scale_kernel(
    sum: &Array<f32>,
    branch: &Array<f32>,
    factors: &Array<f32>,
    output: &mut Array<f32>,
    len: u32,
    image: u32,
    offset: u32,
    #[comptime] has_sum: bool,
) {
    let number = number_of_unit();
    if number < len {
        let index = number as usize;
        let factor = factors[(offset + number / image) as usize];
        let scaled = factor * branch[index];
        output[index] = if comptime!(has_sum) {
            sum[index] + scaled
        } else {
            scaled
        };
    }
}

/// The new parameter and the new velocity.
pub(super) fn sgd<R: CubeRuntime>(
    parameter: CubeTensor<R>,
    gradient: CubeTensor<R>,
    velocity: Option<CubeTensor<R>>,
    step: SgdStep,
) -> [CubeTensor<R>; 2] {
    let shape = parameter.meta.shape().clone();
    let new = [0; 2].map(|_| allocate(&parameter, shape.clone()));
    let (count, dim) = elementwise(len(&parameter));
    let has_velocity = velocity.is_some();
    sgd_kernel::launch::<R>(
        &new[0].client,
        count,
        dim,
        parameter.clone().into_array_arg(),
        gradient.into_array_arg(),
        velocity.unwrap_or(parameter).into_array_arg(),
        new[0].clone().into_array_arg(),
        new[1].clone().into_array_arg(),
        to_u32(shape.iter().product()),
        step.rate,
        step.momentum,
        step.weight_decay,
        has_velocity,
    );
    new
}

#[cube(launch)]
fn sgd_kernel(
    parameter: &Array<f32>,
    gradient: &Array<f32>,
    velocity: &Array<f32>,
    new_parameter: &mut Array<f32>,
    new_velocity: &mut Array<f32>,
    len: u32,
    rate: f32,
    momentum: f32,
    weight_decay: f32,
    #[comptime] has_velocity: bool,
) {
    let number = number_of_unit();
    if number < len {
        let index = number as usize;
        let old = parameter[index];
        let gradient = gradient[index] + old * weight_decay;
        let velocity = if comptime!(has_velocity) {
            velocity[index] * momentum + gradient
        } else {
            gradient
        };
        new_velocity[index] = velocity;
        new_parameter[index] = old - (gradient + velocity * momentum) * rate;
    }
}

/// The new parameter and the new first and second moments.
pub(super) fn adamw<R: CubeRuntime>(
    parameter: CubeTensor<R>,
    gradient: CubeTensor<R>,
    moments: Option<[CubeTensor<R>; 2]>,
    step: AdamStep,
) -> [CubeTensor<R>; 3] {
    let shape = parameter.meta.shape().clone();
    let new = [0; 3].map(|_| allocate(&parameter, shape.clone()));
    let (count, dim) = elementwise(len(&parameter));
    let has_moments = moments.is_some();
    let [velocity, squares] = moments.unwrap_or_else(|| [parameter.clone(), parameter.clone()]);
    adamw_kernel::launch::<R>(
        &new[0].client,
        count,
        dim,
        parameter.into_array_arg(),
        gradient.into_array_arg(),
        velocity.into_array_arg(),
        squares.into_array_arg(),
        new[0].clone().into_array_arg(),
        new[1].clone().into_array_arg(),
        new[2].clone().into_array_arg(),
        to_u32(shape.iter().product()),
        AdamLaunch::new(
            step.rate,
            step.momentum,
            step.squares,
            step.correction,
            step.shrinkage,
            ADAM_EPSILON,
        ),
        has_moments,
    );
    new
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
    parameter: &Array<f32>,
    gradient: &Array<f32>,
    velocity: &Array<f32>,
    squares: &Array<f32>,
    new_parameter: &mut Array<f32>,
    new_velocity: &mut Array<f32>,
    new_squares: &mut Array<f32>,
    len: u32,
    step: Adam,
    #[comptime] has_moments: bool,
) {
    let number = number_of_unit();
    if number < len {
        let index = number as usize;
        let gradient = gradient[index];
        let first = gradient * (1.0f32 - step.momentum);
        let second = gradient * gradient * (1.0f32 - step.squares);
        let first = if comptime!(has_moments) {
            velocity[index] * step.momentum + first
        } else {
            first
        };
        let second = if comptime!(has_moments) {
            squares[index] * step.squares + second
        } else {
            second
        };
        let deviation = f32::sqrt(second) / step.correction + step.epsilon;
        new_velocity[index] = first;
        new_squares[index] = second;
        new_parameter[index] = parameter[index] * step.shrinkage - first / deviation * step.rate;
    }
}

/// The sum of the squares of all values, in parts: `[parts]`
pub(super) fn square_sums<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    let all = len(&tensor);
    let parts = all.div_ceil(16 * UNITS as usize).clamp(1, 64);
    let sums = allocate(&tensor, Shape::from([parts]));
    square_sums_kernel::launch::<R>(
        &sums.client,
        CubeCount::Static(to_u32(parts), 1, 1),
        CubeDim::new_1d(UNITS),
        tensor.into_array_arg(),
        sums.clone().into_array_arg(),
        to_u32(all),
    );
    sums
}

#[cube(launch)]
fn square_sums_kernel(values: &Array<f32>, sums: &mut Array<f32>, len: u32) {
    let mut scratch = SharedMemory::<f32>::new(comptime!(UNITS as usize));
    let mut sum = 0.0f32;
    let mut index = CUBE_POS_X * UNITS + UNIT_POS;
    while index < len {
        let value = values[index as usize];
        sum += value * value;
        index += UNITS * CUBE_COUNT_X;
    }
    let sum = sum_of_units(sum, &mut scratch);
    if UNIT_POS == 0 {
        sums[CUBE_POS_X as usize] = sum;
    }
}
