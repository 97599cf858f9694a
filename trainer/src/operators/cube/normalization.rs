//! Batch norm and its gradients in two launches each.
//!
//! A channel's values are cut into parts, a cube for each: the first launch sums up its part, the second merges all parts
//! of its channel, in their order, and applies them to its own. Variances are sums of squares around the part's own mean,
//! merged as Chan et al. 1983 do it, which loses no digits where the mean is large.

use burn::tensor::Shape;
use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::{UNITS, allocate, dims, elementwise, number_of_unit, sum_of_units, to_u32};
use crate::operators::{NEWEST, unbiased};

/// A channel is cut into as many parts at most.
const MOST_PARTS: usize = 32;
/// A part has at least as many values, where there are so many.
const LEAST_VALUES: usize = 1024;

/// How a batch is cut.
#[derive(Debug, Clone, Copy)]
struct Cut {
    channels: usize,
    pixels: usize,
    batch: usize,
    /// Images of a part.
    images: usize,
    parts: usize,
}

impl Cut {
    fn new<R: CubeRuntime>(input: &CubeTensor<R>) -> Self {
        let [batch, channels, height, width] = dims(input);
        let pixels = height * width;
        let parts = (batch * pixels / LEAST_VALUES).clamp(1, MOST_PARTS.min(batch));
        let images = batch.div_ceil(parts);
        Self {
            channels,
            pixels,
            batch,
            images,
            parts: batch.div_ceil(images),
        }
    }

    fn cubes(&self) -> CubeCount {
        CubeCount::Static(to_u32(self.channels), to_u32(self.parts), 1)
    }

    fn sizes<R: Runtime>(&self) -> SizesLaunch<R> {
        SizesLaunch::new(
            to_u32(self.batch),
            to_u32(self.channels),
            to_u32(self.pixels),
            to_u32(self.images),
            to_u32(self.parts),
        )
    }
}

/// The normalised tensor; mean and biased variance of each channel; the running ones with these taken up.
pub(super) fn forward<R: CubeRuntime>(
    input: CubeTensor<R>,
    [gamma, beta]: [CubeTensor<R>; 2],
    running: [CubeTensor<R>; 2],
    epsilon: f32,
    activate: bool,
) -> [CubeTensor<R>; 5] {
    let cut = Cut::new(&input);
    let client = input.client.clone();
    let output = allocate(&input, input.meta.shape().clone());
    let parts = allocate(&input, Shape::from([2, cut.channels, cut.parts]));
    let [mean, variance, new_mean, new_variance] =
        [0; 4].map(|_| allocate(&input, Shape::from([cut.channels])));
    let [old_mean, old_variance] = running;
    moments_kernel::launch::<R>(
        &client,
        cut.cubes(),
        CubeDim::new_1d(UNITS),
        input.clone().into_array_arg(),
        parts.clone().into_array_arg(),
        cut.sizes(),
    );
    normalize_kernel::launch::<R>(
        &client,
        cut.cubes(),
        CubeDim::new_1d(UNITS),
        input.into_array_arg(),
        gamma.into_array_arg(),
        beta.into_array_arg(),
        parts.into_array_arg(),
        old_mean.into_array_arg(),
        old_variance.into_array_arg(),
        output.clone().into_array_arg(),
        mean.clone().into_array_arg(),
        variance.clone().into_array_arg(),
        new_mean.clone().into_array_arg(),
        new_variance.clone().into_array_arg(),
        cut.sizes(),
        epsilon,
        single(NEWEST),
        single(unbiased(cut.batch * cut.pixels)),
        activate,
    );
    [output, mean, variance, new_mean, new_variance]
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "kernels compute in single precision"
)]
fn single(value: f64) -> f32 {
    value as f32
}

/// The gradients of input, gamma and beta.
pub(super) fn backward<R: CubeRuntime>(
    input: CubeTensor<R>,
    gradient: CubeTensor<R>,
    [gamma, beta]: [CubeTensor<R>; 2],
    [mean, variance]: [CubeTensor<R>; 2],
    epsilon: f32,
    activate: bool,
) -> [CubeTensor<R>; 3] {
    let cut = Cut::new(&input);
    let client = input.client.clone();
    let input_gradient = allocate(&input, input.meta.shape().clone());
    let parts = allocate(&input, Shape::from([2, cut.channels, cut.parts]));
    let [by_gamma, by_beta] = [0; 2].map(|_| allocate(&input, Shape::from([cut.channels])));
    let channel = |[gamma, beta, mean, variance]: [&CubeTensor<R>; 4]| {
        ChannelsLaunch::new(
            gamma.clone().into_array_arg(),
            beta.clone().into_array_arg(),
            mean.clone().into_array_arg(),
            variance.clone().into_array_arg(),
        )
    };
    gradient_sums_kernel::launch::<R>(
        &client,
        cut.cubes(),
        CubeDim::new_1d(UNITS),
        input.clone().into_array_arg(),
        gradient.clone().into_array_arg(),
        channel([&gamma, &beta, &mean, &variance]),
        parts.clone().into_array_arg(),
        cut.sizes(),
        epsilon,
        activate,
    );
    input_gradient_kernel::launch::<R>(
        &client,
        cut.cubes(),
        CubeDim::new_1d(UNITS),
        input.into_array_arg(),
        gradient.into_array_arg(),
        channel([&gamma, &beta, &mean, &variance]),
        parts.into_array_arg(),
        input_gradient.clone().into_array_arg(),
        by_gamma.clone().into_array_arg(),
        by_beta.clone().into_array_arg(),
        cut.sizes(),
        epsilon,
        activate,
    );
    [input_gradient, by_gamma, by_beta]
}

/// Normalisation by given statistics.
pub(super) fn apply<R: CubeRuntime>(
    input: CubeTensor<R>,
    [gamma, beta]: [CubeTensor<R>; 2],
    [mean, variance]: [CubeTensor<R>; 2],
    epsilon: f32,
    activate: bool,
) -> CubeTensor<R> {
    let [batch, channels, height, width] = dims(&input);
    let len = batch * channels * height * width;
    let output = allocate(&input, input.meta.shape().clone());
    let (count, dim) = elementwise(len);
    apply_kernel::launch::<R>(
        &output.client,
        count,
        dim,
        input.into_array_arg(),
        ChannelsLaunch::new(
            gamma.into_array_arg(),
            beta.into_array_arg(),
            mean.into_array_arg(),
            variance.into_array_arg(),
        ),
        output.clone().into_array_arg(),
        to_u32(len),
        to_u32(channels),
        to_u32(height * width),
        epsilon,
        activate,
    );
    output
}

/// [`Cut`] on the device.
#[derive(CubeLaunch, CubeType)]
struct Sizes {
    batch: u32,
    channels: u32,
    pixels: u32,
    images: u32,
    parts: u32,
}

/// One value for each channel.
#[derive(CubeLaunch, CubeType)]
struct Channels {
    gamma: Array<f32>,
    beta: Array<f32>,
    mean: Array<f32>,
    variance: Array<f32>,
}

/// How many images this cube's part has.
#[cube]
fn images_here(sizes: &Sizes) -> u32 {
    u32::min(sizes.images, sizes.batch - CUBE_POS_Y * sizes.images)
}

/// Where the value with this number in this cube's part of its channel lies.
#[cube]
fn place(index: u32, sizes: &Sizes) -> usize {
    let image = CUBE_POS_Y * sizes.images + index / sizes.pixels;
    ((image * sizes.channels + CUBE_POS_X) * sizes.pixels + index % sizes.pixels) as usize
}

/// Mean and sum of squares around it, of each part of each channel.
#[cube(launch)]
fn moments_kernel(input: &Array<f32>, parts: &mut Array<f32>, sizes: Sizes) {
    let mut scratch = SharedMemory::<f32>::new(comptime!(UNITS as usize));
    let len = images_here(&sizes) * sizes.pixels;
    let mut sum = 0.0f32;
    let mut index = UNIT_POS;
    while index < len {
        sum += input[place(index, &sizes)];
        index += UNITS;
    }
    let mean = sum_of_units(sum, &mut scratch) / f32::cast_from(len);
    let mut squares = 0.0f32;
    let mut index = UNIT_POS;
    while index < len {
        let distance = input[place(index, &sizes)] - mean;
        squares += distance * distance;
        index += UNITS;
    }
    let squares = sum_of_units(squares, &mut scratch);
    if UNIT_POS == 0 {
        let at = CUBE_POS_X * sizes.parts + CUBE_POS_Y;
        parts[at as usize] = mean;
        parts[(sizes.channels * sizes.parts + at) as usize] = squares;
    }
}

#[cube(launch)]
fn normalize_kernel(
    input: &Array<f32>,
    gamma: &Array<f32>,
    beta: &Array<f32>,
    parts: &Array<f32>,
    old_means: &Array<f32>,
    old_variances: &Array<f32>,
    output: &mut Array<f32>,
    means: &mut Array<f32>,
    variances: &mut Array<f32>,
    new_means: &mut Array<f32>,
    new_variances: &mut Array<f32>,
    sizes: Sizes,
    epsilon: f32,
    newest: f32,
    unbiased: f32,
    #[comptime] activate: bool,
) {
    let channel = CUBE_POS_X as usize;
    let mut count = 0.0f32;
    let mut mean = 0.0f32;
    let mut squares = 0.0f32;
    for part in 0..sizes.parts {
        let at = CUBE_POS_X * sizes.parts + part;
        let images = u32::min(sizes.images, sizes.batch - part * sizes.images);
        let more = f32::cast_from(images * sizes.pixels);
        let distance = parts[at as usize] - mean;
        let all = count + more;
        mean += distance * (more / all);
        squares += parts[(sizes.channels * sizes.parts + at) as usize]
            + distance * distance * (count * more / all);
        count = all;
    }
    let variance = squares / count;
    let slope = gamma[channel] / f32::sqrt(variance + epsilon);
    let offset = beta[channel];
    let len = images_here(&sizes) * sizes.pixels;
    let mut index = UNIT_POS;
    while index < len {
        let at = place(index, &sizes);
        let value = (input[at] - mean) * slope + offset;
        output[at] = if comptime!(activate) {
            f32::max(value, 0.0f32)
        } else {
            value
        };
        index += UNITS;
    }
    if UNIT_POS == 0 && CUBE_POS_Y == 0 {
        means[channel] = mean;
        variances[channel] = variance;
        new_means[channel] = old_means[channel] * (1.0f32 - newest) + mean * newest;
        new_variances[channel] =
            old_variances[channel] * (1.0f32 - newest) + variance * unbiased * newest;
    }
}

/// The output's gradient behind the activation, which lets through what it lets through on the way forward.
#[cube]
fn through(gradient: f32, normal: f32, gamma: f32, beta: f32, #[comptime] activate: bool) -> f32 {
    if comptime!(activate) {
        if normal * gamma + beta > 0.0f32 {
            gradient
        } else {
            0.0f32.runtime()
        }
    } else {
        gradient
    }
}

/// The sums of the gradients, and of the gradients times the normalised values, of each part of each channel.
#[cube(launch)]
fn gradient_sums_kernel(
    input: &Array<f32>,
    gradient: &Array<f32>,
    of: Channels,
    parts: &mut Array<f32>,
    sizes: Sizes,
    epsilon: f32,
    #[comptime] activate: bool,
) {
    let channel = CUBE_POS_X as usize;
    let mut scratch = SharedMemory::<f32>::new(comptime!(UNITS as usize));
    let (gamma, beta, mean) = (of.gamma[channel], of.beta[channel], of.mean[channel]);
    let scale = 1.0f32 / f32::sqrt(of.variance[channel] + epsilon);
    let len = images_here(&sizes) * sizes.pixels;
    let mut sum = 0.0f32;
    let mut product = 0.0f32;
    let mut index = UNIT_POS;
    while index < len {
        let at = place(index, &sizes);
        let normal = (input[at] - mean) * scale;
        let value = through(gradient[at], normal, gamma, beta, activate);
        sum += value;
        product += value * normal;
        index += UNITS;
    }
    let sum = sum_of_units(sum, &mut scratch);
    let product = sum_of_units(product, &mut scratch);
    if UNIT_POS == 0 {
        let at = CUBE_POS_X * sizes.parts + CUBE_POS_Y;
        parts[at as usize] = sum;
        parts[(sizes.channels * sizes.parts + at) as usize] = product;
    }
}

#[cube(launch)]
fn input_gradient_kernel(
    input: &Array<f32>,
    gradient: &Array<f32>,
    of: Channels,
    parts: &Array<f32>,
    input_gradient: &mut Array<f32>,
    by_gamma: &mut Array<f32>,
    by_beta: &mut Array<f32>,
    sizes: Sizes,
    epsilon: f32,
    #[comptime] activate: bool,
) {
    let channel = CUBE_POS_X as usize;
    let (gamma, beta, mean) = (of.gamma[channel], of.beta[channel], of.mean[channel]);
    let scale = 1.0f32 / f32::sqrt(of.variance[channel] + epsilon);
    let mut sum = 0.0f32;
    let mut product = 0.0f32;
    for part in 0..sizes.parts {
        let at = CUBE_POS_X * sizes.parts + part;
        sum += parts[at as usize];
        product += parts[(sizes.channels * sizes.parts + at) as usize];
    }
    let count = f32::cast_from(sizes.batch * sizes.pixels);
    let len = images_here(&sizes) * sizes.pixels;
    let mut index = UNIT_POS;
    while index < len {
        let at = place(index, &sizes);
        let normal = (input[at] - mean) * scale;
        let value = through(gradient[at], normal, gamma, beta, activate);
        input_gradient[at] = gamma * scale * (value - (sum + normal * product) / count);
        index += UNITS;
    }
    if UNIT_POS == 0 && CUBE_POS_Y == 0 {
        by_gamma[channel] = product;
        by_beta[channel] = sum;
    }
}

#[cube(launch)]
fn apply_kernel(
    input: &Array<f32>,
    of: Channels,
    output: &mut Array<f32>,
    len: u32,
    channels: u32,
    pixels: u32,
    epsilon: f32,
    #[comptime] activate: bool,
) {
    let number = number_of_unit();
    if number < len {
        let index = number as usize;
        let channel = (number / pixels % channels) as usize;
        let slope = of.gamma[channel] / f32::sqrt(of.variance[channel] + epsilon);
        let value = (input[index] - of.mean[channel]) * slope + of.beta[channel];
        output[index] = if comptime!(activate) {
            f32::max(value, 0.0f32)
        } else {
            value
        };
    }
}
