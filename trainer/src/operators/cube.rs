//! [`Operators`] for GPUs: kernels in `CubeCL`, which its compilers bring to CUDA, HIP and WGSL.
//!
//! Every kernel's algorithm is fixed: nothing is chosen by timing, so that a training on a GPU is the same from run to
//! run, and what tests compare is what trainings use. All arithmetic is in single precision, but what convolutions multiply where
//! TF32 is asked for.

#[expect(
    clippy::needless_pass_by_value,
    reason = "numbers come to kernels by value"
)]
mod convolution;
mod head;
#[expect(
    clippy::cast_possible_truncation,
    reason = "lengths have 32 bits in kernels"
)]
mod images;
#[expect(
    clippy::needless_pass_by_value,
    reason = "numbers come to kernels by value"
)]
mod normalization;
#[expect(
    clippy::needless_pass_by_value,
    clippy::cast_possible_truncation,
    reason = "numbers come to kernels by value, and lengths have 32 bits there"
)]
mod optimizer;
#[expect(
    clippy::needless_pass_by_value,
    reason = "numbers come to kernels by value"
)]
mod pointwise;
#[expect(
    clippy::needless_pass_by_value,
    clippy::trivially_copy_pass_by_ref,
    reason = "numbers come to kernels by value, and tiles by reference, whatever stands for them while kernels are made"
)]
mod tensor_cores;

use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime};

use super::gradients::Kernels;
use super::{KeptImages, Normalized, Operators, Running, Slot, Step, Window};
use super::{projection_by_convolution, unwrap, wrap};
use crate::minibatch::Drawn;

/// Units of a cube, in all kernels.
const UNITS: u32 = 256;
/// Cubes along an axis: as many as every GPU allows.
const MOST_CUBES_OF_AXIS: usize = 65_535;

fn to_u32(size: usize) -> u32 {
    u32::try_from(size).expect("a tensor of a training has less than 2^32 values")
}

fn dims<R: CubeRuntime, const D: usize>(tensor: &CubeTensor<R>) -> [usize; D] {
    tensor.meta.shape().dims()
}

/// A tensor beside another one, its values one after another, with nothing in it yet.
fn allocate<R: CubeRuntime>(beside: &CubeTensor<R>, shape: Shape) -> CubeTensor<R> {
    to_u32(shape.iter().product()); // kernels count so far
    empty_device_contiguous_dtype(
        beside.client.clone(),
        beside.device.clone(),
        shape,
        DType::F32,
    )
}

/// The tensor with its values one after another.
fn dense<R: CubeRuntime>(tensor: &CubeTensor<R>) -> CubeTensor<R> {
    assert_eq!(tensor.dtype, DType::F32, "kernels are for single precision");
    into_contiguous(tensor.clone())
}

/// Cubes along the first axis and another one, together at least so many.
fn spread_out(cubes: usize) -> [u32; 2] {
    let rows = cubes.div_ceil(MOST_CUBES_OF_AXIS).max(1);
    [to_u32(cubes.div_ceil(rows)), to_u32(rows)]
}

/// Cubes for so many values, one unit each, along two axes.
fn elementwise(len: usize) -> (CubeCount, CubeDim) {
    let [columns, rows] = spread_out(len.div_ceil(UNITS as usize).max(1));
    to_u32(columns as usize * rows as usize * UNITS as usize); // units count so far
    (CubeCount::Static(columns, rows, 1), CubeDim::new_1d(UNITS))
}

/// This unit's number in a launch of [`elementwise`].
#[cube]
fn number_of_unit() -> u32 {
    (CUBE_POS_Y * CUBE_COUNT_X + CUBE_POS_X) * UNITS + UNIT_POS
}

/// The sum of all units' values, in every unit; `scratch` has one place for each.
#[cube]
fn sum_of_units(value: f32, scratch: &mut SharedMemory<f32>) -> f32 {
    let unit = UNIT_POS;
    sync_cube();
    scratch[unit as usize] = value;
    sync_cube();
    let mut half = comptime!(UNITS / 2).runtime();
    while half > 0 {
        if unit < half {
            let other = scratch[(unit + half) as usize];
            scratch[unit as usize] += other;
        }
        sync_cube();
        half /= 2u32;
    }
    scratch[0]
}

impl<R: CubeRuntime, BT: BoolElement> Operators for CubeBackend<R, f32, i32, BT> {
    fn convolution(
        input: Tensor<Self, 4>,
        weight: Tensor<Self, 4>,
        window: Window,
    ) -> Tensor<Self, 4> {
        wrap(Self::convolve(&unwrap(input), &unwrap(weight), window))
    }

    fn batch_norm(
        input: Tensor<Self, 4>,
        affine: [Tensor<Self, 1>; 2],
        running: Running<Self>,
        epsilon: f32,
        activate: bool,
    ) -> Normalized<Self> {
        let [gamma, beta] = affine.map(unwrap);
        let (output, [mean, variance], running) =
            Self::normalize(&unwrap(input), [&gamma, &beta], running, epsilon, activate);
        Normalized {
            output: wrap(output),
            mean: wrap(mean),
            variance: wrap(variance),
            running,
        }
    }

    fn normalize_by(
        input: Tensor<Self, 4>,
        affine: [Tensor<Self, 1>; 2],
        moments: [Tensor<Self, 1>; 2],
        epsilon: f32,
        activate: bool,
    ) -> Tensor<Self, 4> {
        let affine = affine.map(|tensor| dense(&unwrap(tensor)));
        let moments = moments.map(|tensor| dense(&unwrap(tensor)));
        let input = dense(&unwrap(input));
        wrap(normalization::apply(
            input, affine, moments, epsilon, activate,
        ))
    }

    fn mix(
        sum: Tensor<Self, 4>,
        branch: Tensor<Self, 4>,
        factors: &Tensor<Self, 1>,
        place: usize,
    ) -> Tensor<Self, 4> {
        let factors = unwrap(factors.clone());
        wrap(Self::add_scaled(
            unwrap(sum),
            &unwrap(branch),
            &factors,
            place,
        ))
    }

    fn rectify(input: Tensor<Self, 4>) -> Tensor<Self, 4> {
        wrap(pointwise::relu(dense(&unwrap(input))))
    }

    fn join(first: Tensor<Self, 4>, second: Tensor<Self, 4>) -> Tensor<Self, 4> {
        let [first, second] = [first, second].map(|tensor| dense(&unwrap(tensor)));
        wrap(pointwise::join(first, second))
    }

    fn pixel_mean(input: Tensor<Self, 4>) -> Tensor<Self, 2> {
        wrap(head::pixel_mean(dense(&unwrap(input))))
    }

    fn cross_entropy(scores: Tensor<Self, 2>, targets: Tensor<Self, 2>) -> Tensor<Self, 1> {
        let [scores, targets] = [scores, targets].map(|tensor| dense(&unwrap(tensor)));
        wrap(head::cross_entropy(scores, targets))
    }

    fn update(tensors: Vec<Slot<Self>>, step: &Step) -> Vec<Slot<Self>> {
        optimizer::update(tensors, step)
    }

    /// Half of what it allocates at once, as far as 32 bits count.
    fn most_kept_bytes(device: &Self::Device) -> usize {
        let most = R::client(device).properties().memory.max_page_size / 2;
        usize::try_from(most.min(u64::from(u32::MAX))).expect("a count of 32 bits")
    }

    fn see(kept: &KeptImages<Self>, drawn: &Drawn) -> Tensor<Self, 4> {
        wrap(images::see(kept, drawn))
    }

    /// As a convolution of a single pixel, with the same kernels.
    fn project(
        input: Tensor<Self, 2>,
        weight: Tensor<Self, 2>,
        bias: Tensor<Self, 1>,
    ) -> Tensor<Self, 2> {
        let product = projection_by_convolution(input, weight);
        wrap(Self::add_bias(unwrap(product), unwrap(bias)))
    }
}

impl<R: CubeRuntime, BT: BoolElement> Kernels for CubeBackend<R, f32, i32, BT> {
    type Moments = [CubeTensor<R>; 2];

    fn convolve(input: &CubeTensor<R>, weight: &CubeTensor<R>, window: Window) -> CubeTensor<R> {
        let geometry = convolution::Geometry::new(input, weight, window);
        convolution::forward(&geometry, dense(input), dense(weight))
    }

    fn convolve_backward(
        input: &CubeTensor<R>,
        weight: &CubeTensor<R>,
        gradient: &CubeTensor<R>,
        window: Window,
        [wants_input, wants_weight]: [bool; 2],
    ) -> [Option<CubeTensor<R>>; 2] {
        let geometry = convolution::Geometry::new(input, weight, window);
        let gradient = dense(gradient);
        [
            wants_input
                .then(|| convolution::input_gradient(&geometry, dense(weight), gradient.clone())),
            wants_weight
                .then(|| convolution::weight_gradient(&geometry, dense(input), gradient.clone())),
        ]
    }

    fn normalize(
        input: &CubeTensor<R>,
        affine: [&CubeTensor<R>; 2],
        running: Running<Self>,
        epsilon: f32,
        activate: bool,
    ) -> (CubeTensor<R>, [CubeTensor<R>; 2], Running<Self>) {
        let running = [running.mean, running.variance].map(|tensor| dense(&unwrap(tensor)));
        let affine = affine.map(dense);
        let [output, mean, variance, new_mean, new_variance] =
            normalization::forward(dense(input), affine, running, epsilon, activate);
        let running = Running {
            mean: wrap(new_mean),
            variance: wrap(new_variance),
        };
        (output, [mean, variance], running)
    }

    fn moment_tensors(moments: &[CubeTensor<R>; 2]) -> [CubeTensor<R>; 2] {
        moments.clone()
    }

    fn normalize_backward(
        input: &CubeTensor<R>,
        affine: [&CubeTensor<R>; 2],
        moments: &[CubeTensor<R>; 2],
        gradient: &CubeTensor<R>,
        epsilon: f32,
        activate: bool,
    ) -> [CubeTensor<R>; 3] {
        normalization::backward(
            dense(input),
            dense(gradient),
            affine.map(dense),
            moments.clone(),
            epsilon,
            activate,
        )
    }

    fn add_scaled(
        sum: CubeTensor<R>,
        branch: &CubeTensor<R>,
        factors: &CubeTensor<R>,
        place: usize,
    ) -> CubeTensor<R> {
        pointwise::scale(Some(dense(&sum)), dense(branch), dense(factors), 2 * place)
    }

    fn scale(gradient: &CubeTensor<R>, factors: &CubeTensor<R>, place: usize) -> CubeTensor<R> {
        pointwise::scale(None, dense(gradient), dense(factors), 2 * place + 1)
    }

    fn rectify_backward(output: CubeTensor<R>, gradient: CubeTensor<R>) -> CubeTensor<R> {
        pointwise::relu_backward(dense(&output), dense(&gradient))
    }

    fn split(tensor: CubeTensor<R>, first: usize) -> [CubeTensor<R>; 2] {
        pointwise::split(dense(&tensor), first)
    }

    fn spread(gradient: CubeTensor<R>, pixels: [usize; 2]) -> CubeTensor<R> {
        head::spread(dense(&gradient), pixels)
    }

    fn cross_entropy_backward(
        scores: CubeTensor<R>,
        targets: CubeTensor<R>,
        gradient: CubeTensor<R>,
    ) -> CubeTensor<R> {
        head::cross_entropy_backward(dense(&scores), dense(&targets), dense(&gradient))
    }

    fn add_bias(tensor: CubeTensor<R>, bias: CubeTensor<R>) -> CubeTensor<R> {
        head::add_bias(dense(&tensor), dense(&bias))
    }

    fn column_sums(tensor: CubeTensor<R>) -> CubeTensor<R> {
        head::column_sums(dense(&tensor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cubes_are_spread_over_two_axes_where_one_is_too_short() {
        for (cubes, expected) in [
            (1, [1, 1]),
            (65_535, [65_535, 1]),
            (65_536, [32_768, 2]),
            (200_000, [50_000, 4]),
        ] {
            assert_eq!(spread_out(cubes), expected);
        }
    }
}
