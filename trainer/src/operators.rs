//! The tensor operators in which training spends its time, with kernels of our own for CPU and GPU.
//!
//! A network is written against [`Operators`]. Its default bodies are burn's stock operations. For the CPU backend Flex
//! they are replaced by the kernels in this folder, because burn 0.21's own run the same network several times slower;
//! for GPUs by those in `cube`, because burn chooses its own by timing. Tests hold convolution and batch norm against
//! plain scalar counterparts in `reference.rs`, and the others against burn's stock operations. No result depends on
//! the number of threads: work is cut into pieces by the tensor's shape alone, and partial sums are added in a fixed
//! order.

mod aligned;
mod branch_sum;
mod convolution;
#[cfg(any(feature = "cuda", feature = "rocm", feature = "vulkan"))]
mod cube;
mod flex;
mod gradients;
mod grid;
mod kept_images;
mod kernels;
mod normalization;
#[cfg(test)]
mod reference;
mod simd;
mod update;
mod window;
mod winograd;

use burn::tensor::activation::{log_softmax, relu};
use burn::tensor::backend::{AutodiffBackend, Backend, BackendTypes};
use burn::tensor::ops::{ConvOptions, PadMode};
use burn::tensor::{ElementConversion as _, Slice, Tensor, TensorPrimitive, s};

pub use self::kept_images::KeptImages;
pub use self::window::Window;
pub use shared::objective::Precision;

use crate::minibatch::Drawn;

/// The statistics that a norm has gathered so far, which evaluation uses.
#[derive(Debug, Clone)]
pub struct Running<B: Backend> {
    /// `[channels]`
    pub mean: Tensor<B, 1>,
    /// Unbiased. `[channels]`
    pub variance: Tensor<B, 1>,
}

/// How much the newest batch counts in [`Running`]; PyTorch's default.
const NEWEST: f64 = 0.1;

/// A tensor's normalisation by its batch, and the statistics of that batch.
#[derive(Debug, Clone)]
pub struct Normalized<B: Backend> {
    /// The normalised tensor. `[batch, channels, height, width]`
    pub output: Tensor<B, 4>,
    /// Mean of each channel over batch and pixels, untracked. `[channels]`
    pub mean: Tensor<B, 1>,
    /// Biased variance of each channel over batch and pixels, untracked. `[channels]`
    pub variance: Tensor<B, 1>,
    /// The statistics with this batch taken up, untracked.
    pub running: Running<B>,
}

/// The settings of one step of stochastic gradient descent with Nesterov momentum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdStep {
    /// Learning rate.
    pub rate: f32,
    /// Momentum; 0 is plain gradient descent.
    pub momentum: f32,
    /// Weight decay, added to the gradient as `weight_decay · parameter`.
    pub weight_decay: f32,
}

/// The settings of one step of `AdamW`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// Learning rate, divided by the first moment's bias correction.
    pub rate: f32,
    /// How much of the first moment stays (β₁).
    pub momentum: f32,
    /// How much of the second moment stays (β₂).
    pub squares: f32,
    /// The root of the second moment's bias correction.
    pub correction: f32,
    /// What the parameter is multiplied by: 1 − learning rate · weight decay.
    pub shrinkage: f32,
}

/// What keeps `AdamW` from dividing by zero; PyTorch's default.
const ADAM_EPSILON: f32 = 1e-8;

/// How parameters follow their gradients.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Descent {
    /// Stochastic gradient descent.
    Sgd(SgdStep),
    /// `AdamW`.
    AdamW(AdamStep),
}

/// The settings of one step of the optimizer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// How parameters follow their gradients.
    pub descent: Descent,
    /// What the norm of all gradients is cut down to, where it is larger.
    pub norm_bound: Option<f64>,
    /// How much of the average of values stays, where there is one.
    pub decay: Option<f64>,
}

/// A tensor of a network on its way through a step, flat. `[values]`
#[derive(Debug, Clone)]
pub struct Slot<B: Backend> {
    /// The tensor itself.
    pub value: Tensor<B, 1>,
    /// Its gradient; parameters have one, running statistics have none.
    pub gradient: Option<Tensor<B, 1>>,
    /// What is remembered from step to step.
    pub memory: Memory<B>,
}

/// What the optimizer remembers of a tensor, flat. `[values]`
#[derive(Debug, Clone)]
pub struct Memory<B: Backend> {
    /// The momentum, or the first moment of `AdamW`, once there has been a gradient.
    pub velocity: Option<Tensor<B, 1>>,
    /// The second moment of `AdamW`.
    pub squares: Option<Tensor<B, 1>>,
    /// The running average of the tensor itself.
    pub average: Option<Tensor<B, 1>>,
}

impl<B: Backend> Memory<B> {
    /// Before the first step.
    pub fn nothing() -> Self {
        Self {
            velocity: None,
            squares: None,
            average: None,
        }
    }
}

/// What a network needs of a backend beyond burn's own operations.
pub trait Operators: Backend {
    /// Cross-correlation without bias.
    ///
    /// # Shapes
    /// - `input`: `[batch, in_channels, height, width]`
    /// - `weight`: `[out_channels, in_channels, kernel, kernel]`
    /// - output: `[batch, out_channels, window.output(height), window.output(width)]`
    fn convolution(
        input: Tensor<Self, 4>,
        weight: Tensor<Self, 4>,
        window: Window,
    ) -> Tensor<Self, 4> {
        stock_convolution(input, weight, window)
    }

    /// Batch normalisation by the batch's own statistics, which the running ones take up, followed by a `ReLU` if `activate`.
    ///
    /// # Shapes
    /// - `input`: `[batch, channels, height, width]`
    /// - `gamma`, `beta`: `[channels]`
    fn batch_norm(
        input: Tensor<Self, 4>,
        affine: [Tensor<Self, 1>; 2],
        running: Running<Self>,
        epsilon: f32,
        activate: bool,
    ) -> Normalized<Self> {
        stock_batch_norm(input, affine, running, epsilon, activate)
    }

    /// Normalisation by given statistics instead of the batch's own, for evaluation; followed by a `ReLU` if `activate`.
    ///
    /// # Shapes
    /// - `input`: `[batch, channels, height, width]`
    /// - `gamma`, `beta`, `mean`, `variance`: `[channels]`
    fn normalize_by(
        input: Tensor<Self, 4>,
        [gamma, beta]: [Tensor<Self, 1>; 2],
        [mean, variance]: [Tensor<Self, 1>; 2],
        epsilon: f32,
        activate: bool,
    ) -> Tensor<Self, 4> {
        stock_normalize_by(input, [gamma, beta], [mean, variance], epsilon, activate)
    }

    /// `sum + factor · branch` with one factor per image, whose gradient for the branch uses another factor instead.
    ///
    /// This is the step that Shake-Shake and ShakeDrop are made of. The gradient for `sum` is passed on unchanged, and
    /// the factors get none.
    ///
    /// # Shapes
    /// - `sum`, `branch`: `[batch, channels, height, width]`
    /// - `factors`: those of all branches of a network, of which the one at `place` has `batch` factors for the way
    ///   forward, and behind them as many for the way back. `[branches · 2 · batch]`
    fn mix(
        sum: Tensor<Self, 4>,
        branch: Tensor<Self, 4>,
        factors: &Tensor<Self, 1>,
        place: usize,
    ) -> Tensor<Self, 4> {
        stock_mix(sum, branch, factors, place)
    }

    /// What is above 0, else 0.
    fn rectify(input: Tensor<Self, 4>) -> Tensor<Self, 4> {
        relu(input)
    }

    /// Both tensors' channels, one tensor's behind the other's.
    fn join(first: Tensor<Self, 4>, second: Tensor<Self, 4>) -> Tensor<Self, 4> {
        Tensor::cat(vec![first, second], 1)
    }

    /// The mean over all pixels: `[batch, channels, height, width]` to `[batch, channels]`.
    fn pixel_mean(input: Tensor<Self, 4>) -> Tensor<Self, 2> {
        stock_pixel_mean(input)
    }

    /// The mean cross-entropy of scores with targets that add up to 1 for each image.
    ///
    /// # Shapes
    /// - `scores`, `targets`: `[batch, classes]`
    /// - output: `[1]`
    fn cross_entropy(scores: Tensor<Self, 2>, targets: Tensor<Self, 2>) -> Tensor<Self, 1> {
        stock_cross_entropy(scores, targets)
    }

    /// One step of gradient descent as `torch.optim.SGD` with `nesterov=True, dampening=0` does it; returns the
    /// new parameter and the new velocity. Meant for the backend without gradients.
    fn sgd(
        parameter: Tensor<Self, 1>,
        gradient: Tensor<Self, 1>,
        velocity: Option<Tensor<Self, 1>>,
        step: SgdStep,
    ) -> (Tensor<Self, 1>, Tensor<Self, 1>) {
        stock_sgd(parameter, gradient, velocity, step)
    }

    /// One step as `torch.optim.AdamW` does it; returns the new parameter and the new first and second moments.
    /// Meant for the backend without gradients.
    fn adamw(
        parameter: Tensor<Self, 1>,
        gradient: Tensor<Self, 1>,
        moments: Option<(Tensor<Self, 1>, Tensor<Self, 1>)>,
        step: AdamStep,
    ) -> (Tensor<Self, 1>, Tensor<Self, 1>, Tensor<Self, 1>) {
        stock_adamw(parameter, gradient, moments, step)
    }

    /// The sum of the squares of all values of all tensors.
    fn square_sum(tensors: Vec<Tensor<Self, 1>>) -> f64 {
        let square_sum =
            |tensor: Tensor<Self, 1>| tensor.square().sum().into_scalar().elem::<f64>();
        tensors.into_iter().map(square_sum).sum()
    }

    /// One step of the optimizer over all tensors of a network: gradients are clipped to a norm over all of them, what has a
    /// gradient is changed by it, and the averages take up the new values. Meant for the backend without gradients.
    fn update(tensors: Vec<Slot<Self>>, step: &Step) -> Vec<Slot<Self>> {
        update::one_by_one(tensors, step)
    }

    /// How many bytes of images this device keeps at most, to make batches of them by itself; none where the CPU does that.
    fn most_kept_bytes(_device: &Self::Device) -> usize {
        0
    }

    /// The images of a batch, as they are drawn. `[batch, channels, height, width]`
    fn see(kept: &KeptImages<Self>, drawn: &Drawn) -> Tensor<Self, 4> {
        kept.render(drawn)
    }

    /// The product of `input` and the transposed `weight`, and `bias`.
    ///
    /// # Shapes
    /// - `input`: `[batch, inputs]`
    /// - `weight`: `[outputs, inputs]`
    /// - `bias`: `[outputs]`
    /// - output: `[batch, outputs]`
    fn project(
        input: Tensor<Self, 2>,
        weight: Tensor<Self, 2>,
        bias: Tensor<Self, 1>,
    ) -> Tensor<Self, 2> {
        stock_projection(input, weight, bias)
    }
}

/// A backend that a network can be trained on: gradients outside, [`Operators`] on both sides.
pub trait TrainingBackend:
    AutodiffBackend<InnerBackend = <Self as TrainingBackend>::Inner> + Operators
{
    /// The same backend without gradients, for validation and the optimizer.
    type Inner: Operators + BackendTypes<Device = <Self as BackendTypes>::Device>;
}

impl<I, B> TrainingBackend for B
where
    I: Operators + BackendTypes<Device = <B as BackendTypes>::Device>,
    B: AutodiffBackend<InnerBackend = I> + Operators,
{
    type Inner = I;
}

/// [`Operators::convolution`] in burn's own operations.
pub(crate) fn stock_convolution<B: Backend>(
    input: Tensor<B, 4>,
    weight: Tensor<B, 4>,
    window: Window,
) -> Tensor<B, 4> {
    let Window {
        kernel,
        stride,
        padding,
        shift,
        ..
    } = window;
    let [_, _, height, width] = input.dims();
    let input = if shift == 0 {
        input
    } else if height <= shift || width <= shift {
        input.zeros_like()
    } else {
        input
            .slice(s![.., .., shift.., shift..])
            .pad((0, shift, 0, shift), PadMode::Constant(0.0))
    };
    // burn 0.21's kernel `conv_transpose2d_direct`, which a GPU may choose for the gradient of the input, returns zeros
    // where the stride is larger than the kernel (mended in 0.22): the pixels that count are picked beforehand.
    let (input, stride) = if kernel < stride && padding == 0 {
        let step = isize::try_from(stride).expect("strides are small");
        let every = |end: usize| {
            Slice::new(
                0,
                Some(isize::try_from(end).expect("images are small")),
                step,
            )
        };
        (
            input.slice([Slice::full(), Slice::full(), every(height), every(width)]),
            1,
        )
    } else {
        (input, stride)
    };
    let options = ConvOptions::new([stride, stride], [padding, padding], [1, 1], 1);
    burn::tensor::module::conv2d(input, weight, None, options)
}

/// [`Operators::project`] in burn's own operations.
fn stock_projection<B: Backend>(
    input: Tensor<B, 2>,
    weight: Tensor<B, 2>,
    bias: Tensor<B, 1>,
) -> Tensor<B, 2> {
    input.matmul(weight.transpose()) + bias.unsqueeze()
}

/// [`Operators::project`] without its bias, as a convolution of a single pixel.
fn projection_by_convolution<B: Operators>(
    input: Tensor<B, 2>,
    weight: Tensor<B, 2>,
) -> Tensor<B, 2> {
    let [batch, inputs] = input.dims();
    let [outputs, _] = weight.dims();
    let input = input.reshape([batch, inputs, 1, 1]);
    let weight = weight.reshape([outputs, inputs, 1, 1]);
    B::convolution(input, weight, Window::same(1, 1)).reshape([batch, outputs])
}

/// [`Operators::pixel_mean`] in burn's own operations.
fn stock_pixel_mean<B: Backend>(input: Tensor<B, 4>) -> Tensor<B, 2> {
    let [batch, channels, height, width] = input.dims();
    input
        .reshape([batch, channels, height * width])
        .mean_dim(2) // [batch, channels, 1]
        .reshape([batch, channels])
}

/// [`Operators::cross_entropy`] in burn's own operations.
fn stock_cross_entropy<B: Backend>(scores: Tensor<B, 2>, targets: Tensor<B, 2>) -> Tensor<B, 1> {
    let batch = scores.dims()[0];
    (targets * log_softmax(scores, 1)).sum() / -(batch as f64)
}

/// Takes a batch's moments, of so many values each, up into the running ones.
fn take_up<B: Backend>(
    running: Running<B>,
    mean: Tensor<B, 1>,
    variance: Tensor<B, 1>,
    count: usize,
) -> Running<B> {
    let mix = |running: Tensor<B, 1>, newest| running * (1.0 - NEWEST) + newest * NEWEST;
    Running {
        mean: mix(running.mean, mean),
        variance: mix(running.variance, variance * unbiased(count)),
    }
}

/// What makes the variance of so many values unbiased; of a single value there is no unbiased one.
fn unbiased(count: usize) -> f64 {
    if count > 1 {
        count as f64 / (count - 1) as f64
    } else {
        1.0
    }
}

/// [`Operators::normalize_by`] by burn's operations.
fn stock_normalize_by<B: Backend>(
    input: Tensor<B, 4>,
    [gamma, beta]: [Tensor<B, 1>; 2],
    [mean, variance]: [Tensor<B, 1>; 2],
    epsilon: f32,
    activate: bool,
) -> Tensor<B, 4> {
    let [_, channels, _, _] = input.dims();
    let slope = gamma / (variance + epsilon).sqrt();
    let offset = beta - mean * slope.clone();
    let output = input * slope.reshape([1, channels, 1, 1]) + offset.reshape([1, channels, 1, 1]);
    if activate { relu(output) } else { output }
}

/// [`Operators::batch_norm`] in burn's own operations.
pub(crate) fn stock_batch_norm<B: Backend>(
    input: Tensor<B, 4>,
    [gamma, beta]: [Tensor<B, 1>; 2],
    running: Running<B>,
    epsilon: f32,
    activate: bool,
) -> Normalized<B> {
    let [batch, channels, height, width] = input.dims();
    let per_channel = [1, channels, 1, 1];
    let mean_of = |x: Tensor<B, 4>| {
        x.swap_dims(0, 1)
            .reshape([channels, batch * height * width])
            .mean_dim(1) // [channels, 1]
            .reshape(per_channel)
    };
    let mean = mean_of(input.clone());
    let centred = input - mean.clone(); // [batch, channels, height, width]
    let variance = mean_of(centred.clone().square());
    let normal = centred / (variance.clone() + epsilon).sqrt();
    let output = normal * gamma.reshape(per_channel) + beta.reshape(per_channel);
    let mean = mean.detach().reshape([channels]);
    let variance = variance.detach().reshape([channels]);
    let count = batch * height * width;
    Normalized {
        output: if activate { relu(output) } else { output },
        running: take_up(running, mean.clone(), variance.clone(), count),
        mean,
        variance,
    }
}

/// [`Operators::mix`] in burn's own operations.
pub(crate) fn stock_mix<B: Backend>(
    sum: Tensor<B, 4>,
    branch: Tensor<B, 4>,
    factors: &Tensor<B, 1>,
    place: usize,
) -> Tensor<B, 4> {
    let batch = branch.dims()[0];
    let [forward, backward] = [2 * place, 2 * place + 1].map(|row| {
        let factors = factors.clone().slice(row * batch..(row + 1) * batch);
        factors.reshape([batch, 1, 1, 1])
    });
    // The value is `forward · branch`; only the first summand carries a gradient, and it is `backward`.
    let difference = branch.clone().detach() * (forward - backward.clone());
    sum + branch * backward + difference
}

/// [`Operators::sgd`] in burn's own operations.
pub(crate) fn stock_sgd<B: Backend>(
    parameter: Tensor<B, 1>,
    gradient: Tensor<B, 1>,
    velocity: Option<Tensor<B, 1>>,
    step: SgdStep,
) -> (Tensor<B, 1>, Tensor<B, 1>) {
    let gradient = gradient + parameter.clone() * step.weight_decay;
    let velocity = match velocity {
        None => gradient.clone(),
        Some(velocity) => velocity * step.momentum + gradient.clone(),
    };
    let direction = gradient + velocity.clone() * step.momentum;
    (parameter - direction * step.rate, velocity)
}

/// [`Operators::adamw`] in burn's own operations.
pub(crate) fn stock_adamw<B: Backend>(
    parameter: Tensor<B, 1>,
    gradient: Tensor<B, 1>,
    moments: Option<(Tensor<B, 1>, Tensor<B, 1>)>,
    step: AdamStep,
) -> (Tensor<B, 1>, Tensor<B, 1>, Tensor<B, 1>) {
    let squared = gradient.clone().square() * (1.0 - step.squares);
    let gradient = gradient * (1.0 - step.momentum);
    let (velocity, squares) = match moments {
        None => (gradient, squared),
        Some((velocity, squares)) => (
            velocity * step.momentum + gradient,
            squares * step.squares + squared,
        ),
    };
    let deviation = squares.clone().sqrt() / step.correction + ADAM_EPSILON;
    let parameter = parameter * step.shrinkage - velocity.clone() / deviation * step.rate;
    (parameter, velocity, squares)
}

fn wrap<B: Backend, const D: usize>(primitive: B::FloatTensorPrimitive) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

fn unwrap<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> B::FloatTensorPrimitive {
    tensor.into_primitive().tensor()
}

#[cfg(test)]
mod tests;
