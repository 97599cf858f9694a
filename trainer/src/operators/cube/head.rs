//! Kernels around a network's end: the mean over pixels, offsets, and the loss, each with its way back.

use burn::tensor::Shape;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::{UNITS, allocate, dims, elementwise, number_of_unit, sum_of_units, to_u32};

/// `[batch, channels, height, width]` to `[batch, channels]`
pub(super) fn pixel_mean<R: CubeRuntime>(input: CubeTensor<R>) -> CubeTensor<R> {
    let [batch, channels, height, width] = dims(&input);
    let output = allocate(&input, Shape::from([batch, channels]));
    let (count, dim) = elementwise(batch * channels);
    pixel_mean_kernel::launch::<R>(
        &output.client,
        count,
        dim,
        input.into_array_arg(),
        output.clone().into_array_arg(),
        to_u32(batch * channels),
        to_u32(height * width),
    );
    output
}

#[cube(launch)]
fn pixel_mean_kernel(input: &Array<f32>, output: &mut Array<f32>, len: u32, pixels: u32) {
    let number = number_of_unit();
    if number < len {
        let mut sum = 0.0f32;
        for pixel in 0..pixels {
            sum += input[(number * pixels + pixel) as usize];
        }
        output[number as usize] = sum / f32::cast_from(pixels);
    }
}

/// `[batch, channels]` to `[batch, channels, height, width]`, divided among the pixels.
pub(super) fn spread<R: CubeRuntime>(
    gradient: CubeTensor<R>,
    [height, width]: [usize; 2],
) -> CubeTensor<R> {
    let [batch, channels] = dims(&gradient);
    let output = allocate(&gradient, Shape::from([batch, channels, height, width]));
    let len = batch * channels * height * width;
    let (count, dim) = elementwise(len);
    spread_kernel::launch::<R>(
        &output.client,
        count,
        dim,
        gradient.into_array_arg(),
        output.clone().into_array_arg(),
        to_u32(len),
        to_u32(height * width),
    );
    output
}

#[cube(launch)]
fn spread_kernel(gradient: &Array<f32>, output: &mut Array<f32>, len: u32, pixels: u32) {
    let number = number_of_unit();
    if number < len {
        output[number as usize] = gradient[(number / pixels) as usize] / f32::cast_from(pixels);
    }
}

/// Adds a value to each column. `[rows, columns]` and `[columns]`
pub(super) fn add_bias<R: CubeRuntime>(
    tensor: CubeTensor<R>,
    bias: CubeTensor<R>,
) -> CubeTensor<R> {
    let [rows, columns] = dims(&tensor);
    let output = allocate(&tensor, tensor.meta.shape().clone());
    let (count, dim) = elementwise(rows * columns);
    add_bias_kernel::launch::<R>(
        &output.client,
        count,
        dim,
        tensor.into_array_arg(),
        bias.into_array_arg(),
        output.clone().into_array_arg(),
        to_u32(rows * columns),
        to_u32(columns),
    );
    output
}

#[cube(launch)]
fn add_bias_kernel(
    tensor: &Array<f32>,
    bias: &Array<f32>,
    output: &mut Array<f32>,
    len: u32,
    columns: u32,
) {
    let number = number_of_unit();
    if number < len {
        let index = number as usize;
        output[index] = tensor[index] + bias[(number % columns) as usize];
    }
}

/// Each column's sum. `[rows, columns]` to `[columns]`
pub(super) fn column_sums<R: CubeRuntime>(tensor: CubeTensor<R>) -> CubeTensor<R> {
    let [rows, columns] = dims(&tensor);
    let output = allocate(&tensor, Shape::from([columns]));
    let (count, dim) = elementwise(columns);
    column_sums_kernel::launch::<R>(
        &output.client,
        count,
        dim,
        tensor.into_array_arg(),
        output.clone().into_array_arg(),
        to_u32(rows),
        to_u32(columns),
    );
    output
}

#[cube(launch)]
fn column_sums_kernel(tensor: &Array<f32>, output: &mut Array<f32>, rows: u32, columns: u32) {
    let number = number_of_unit();
    if number < columns {
        let mut sum = 0.0f32;
        for row in 0..rows {
            sum += tensor[(row * columns + number) as usize];
        }
        output[number as usize] = sum;
    }
}

/// The mean cross-entropy. `[batch, classes]` twice, to `[1]`
pub(super) fn cross_entropy<R: CubeRuntime>(
    scores: CubeTensor<R>,
    targets: CubeTensor<R>,
) -> CubeTensor<R> {
    let [batch, classes] = dims(&scores);
    let output = allocate(&scores, Shape::from([1]));
    cross_entropy_kernel::launch::<R>(
        &output.client,
        CubeCount::Static(1, 1, 1),
        CubeDim::new_1d(UNITS),
        scores.into_array_arg(),
        targets.into_array_arg(),
        output.clone().into_array_arg(),
        to_u32(batch),
        to_u32(classes),
    );
    output
}

/// An image's highest score, and the logarithm of the sum of all scores' exponentials relative to it.
#[cube]
fn level_of(scores: &Array<f32>, image: u32, classes: u32) -> (f32, f32) {
    let first = image * classes;
    let mut highest = scores[first as usize];
    for class in 1..classes {
        highest = f32::max(highest, scores[(first + class) as usize]);
    }
    let mut sum = 0.0f32;
    for class in 0..classes {
        sum += f32::exp(scores[(first + class) as usize] - highest);
    }
    (highest, f32::ln(sum))
}

#[cube(launch)]
fn cross_entropy_kernel(
    scores: &Array<f32>,
    targets: &Array<f32>,
    output: &mut Array<f32>,
    batch: u32,
    classes: u32,
) {
    let mut scratch = SharedMemory::<f32>::new(comptime!(UNITS as usize));
    let mut sum = 0.0f32;
    let mut image = UNIT_POS;
    while image < batch {
        let (highest, level) = level_of(scores, image, classes);
        for class in 0..classes {
            let index = (image * classes + class) as usize;
            sum += targets[index] * (level - (scores[index] - highest));
        }
        image += UNITS;
    }
    let sum = sum_of_units(sum, &mut scratch);
    if UNIT_POS == 0 {
        output[0] = sum / f32::cast_from(batch);
    }
}

/// The gradient of the scores; that of the mean cross-entropy is `[1]`.
pub(super) fn cross_entropy_backward<R: CubeRuntime>(
    scores: CubeTensor<R>,
    targets: CubeTensor<R>,
    gradient: CubeTensor<R>,
) -> CubeTensor<R> {
    let [batch, classes] = dims(&scores);
    let output = allocate(&scores, scores.meta.shape().clone());
    let (count, dim) = elementwise(batch);
    cross_entropy_gradient_kernel::launch::<R>(
        &output.client,
        count,
        dim,
        scores.into_array_arg(),
        targets.into_array_arg(),
        gradient.into_array_arg(),
        output.clone().into_array_arg(),
        to_u32(batch),
        to_u32(classes),
    );
    output
}

#[cube(launch)]
fn cross_entropy_gradient_kernel(
    scores: &Array<f32>,
    targets: &Array<f32>,
    gradient: &Array<f32>,
    output: &mut Array<f32>,
    batch: u32,
    classes: u32,
) {
    let image = number_of_unit();
    if image < batch {
        let (highest, level) = level_of(scores, image, classes);
        let scale = gradient[0] / f32::cast_from(batch);
        let mut all = 0.0f32;
        for class in 0..classes {
            all += targets[(image * classes + class) as usize];
        }
        for class in 0..classes {
            let index = (image * classes + class) as usize;
            let share = f32::exp(scores[index] - highest - level);
            output[index] = (share * all - targets[index]) * scale;
        }
    }
}
