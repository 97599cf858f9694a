//! Kernels that compute each value by itself: mixing of branches, the activation, and the joining of channels.

use burn::tensor::Shape;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::{allocate, dims, elementwise, number_of_unit, to_u32};

/// `sum + factor · branch`, or only `factor · branch`. The factors are a row of `factors`: `[rows · batch]`
pub(super) fn scale<R: CubeRuntime>(
    sum: Option<CubeTensor<R>>,
    branch: CubeTensor<R>,
    factors: CubeTensor<R>,
    row: usize,
) -> CubeTensor<R> {
    let all = branch.meta.num_elements();
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

/// What is above 0, else 0; what is not a number stays so.
pub(super) fn relu<R: CubeRuntime>(input: CubeTensor<R>) -> CubeTensor<R> {
    let output = allocate(&input, input.meta.shape().clone());
    let (count, dim) = elementwise(input.meta.num_elements());
    relu_kernel::launch::<R>(
        &output.client,
        count,
        dim,
        input.into_array_arg(),
        output.clone().into_array_arg(),
        to_u32(output.meta.num_elements()),
    );
    output
}

#[cube(launch)]
fn relu_kernel(input: &Array<f32>, output: &mut Array<f32>, len: u32) {
    let number = number_of_unit();
    if number < len {
        let index = number as usize;
        let value = input[index];
        output[index] = if value <= 0.0f32 {
            0.0f32.runtime()
        } else {
            value
        };
    }
}

/// The gradient where the output is above 0, else 0.
pub(super) fn relu_backward<R: CubeRuntime>(
    output: CubeTensor<R>,
    gradient: CubeTensor<R>,
) -> CubeTensor<R> {
    let found = allocate(&output, output.meta.shape().clone());
    let (count, dim) = elementwise(output.meta.num_elements());
    relu_backward_kernel::launch::<R>(
        &found.client,
        count,
        dim,
        output.into_array_arg(),
        gradient.into_array_arg(),
        found.clone().into_array_arg(),
        to_u32(found.meta.num_elements()),
    );
    found
}

#[cube(launch)]
fn relu_backward_kernel(
    output: &Array<f32>,
    gradient: &Array<f32>,
    found: &mut Array<f32>,
    len: u32,
) {
    let number = number_of_unit();
    if number < len {
        let index = number as usize;
        found[index] = if output[index] > 0.0f32 {
            gradient[index]
        } else {
            0.0f32.runtime()
        };
    }
}

/// The second tensor's channels behind the first's.
pub(super) fn join<R: CubeRuntime>(first: CubeTensor<R>, second: CubeTensor<R>) -> CubeTensor<R> {
    let [batch, channels, height, width] = dims(&first);
    let [_, more, _, _] = dims(&second);
    let shape = Shape::from([batch, channels + more, height, width]);
    let joined = allocate(&first, shape);
    let (count, dim) = elementwise(joined.meta.num_elements());
    join_kernel::launch::<R>(
        &joined.client,
        count,
        dim,
        first.into_array_arg(),
        second.into_array_arg(),
        joined.clone().into_array_arg(),
        to_u32(joined.meta.num_elements()),
        to_u32(channels * height * width),
        to_u32(more * height * width),
    );
    joined
}

/// Where a joined value comes from: whether from the first tensor, and its place there.
#[cube]
fn origin(number: u32, first: u32, second: u32) -> (bool, u32) {
    let all = first + second;
    let image = number / all;
    let place = number % all;
    let is_first = place < first;
    let index = if is_first {
        image * first + place
    } else {
        image * second + place - first
    };
    (is_first, index)
}

#[cube(launch)]
fn join_kernel(
    first: &Array<f32>,
    second: &Array<f32>,
    joined: &mut Array<f32>,
    len: u32,
    of_first: u32,
    of_second: u32,
) {
    let number = number_of_unit();
    if number < len {
        let (is_first, index) = origin(number, of_first, of_second);
        joined[number as usize] = if is_first {
            first[index as usize]
        } else {
            second[index as usize]
        };
    }
}

/// The opposite of [`join`].
pub(super) fn split<R: CubeRuntime>(joined: CubeTensor<R>, channels: usize) -> [CubeTensor<R>; 2] {
    let [batch, all, height, width] = dims(&joined);
    let part = |channels| allocate(&joined, Shape::from([batch, channels, height, width]));
    let parts = [part(channels), part(all - channels)];
    let (count, dim) = elementwise(joined.meta.num_elements());
    split_kernel::launch::<R>(
        &parts[0].client,
        count,
        dim,
        joined.clone().into_array_arg(),
        parts[0].clone().into_array_arg(),
        parts[1].clone().into_array_arg(),
        to_u32(joined.meta.num_elements()),
        to_u32(channels * height * width),
        to_u32((all - channels) * height * width),
    );
    parts
}

#[cube(launch)]
fn split_kernel(
    joined: &Array<f32>,
    first: &mut Array<f32>,
    second: &mut Array<f32>,
    len: u32,
    of_first: u32,
    of_second: u32,
) {
    let number = number_of_unit();
    if number < len {
        let (is_first, index) = origin(number, of_first, of_second);
        if is_first {
            first[index as usize] = joined[number as usize];
        } else {
            second[index as usize] = joined[number as usize];
        }
    }
}
