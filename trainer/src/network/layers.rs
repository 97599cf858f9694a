//! Convolution and batch norm with their weights.

use burn::module::{Module, Param, RunningState};
use burn::tensor::activation::relu;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use rand_chacha::ChaCha12Rng;
use rand_distr::{Distribution as _, StandardNormal};

use crate::operators::{Operators, Window};

/// Added to variances before their root is taken; PyTorch's default.
const EPSILON: f32 = 1e-5;
/// Weight of the newest batch in the running statistics; PyTorch's default.
const MOMENTUM: f64 = 0.1;

/// A convolution without bias.
#[derive(Module, Debug)]
pub(super) struct Convolution<B: Backend> {
    /// `[out_channels, in_channels, kernel, kernel]`
    weight: Param<Tensor<B, 4>>,
    #[module(skip)]
    window: Window,
}

impl<B: Operators> Convolution<B> {
    pub(super) fn new(
        in_channels: usize,
        out_channels: usize,
        window: Window,
        rng: &mut ChaCha12Rng,
        device: &B::Device,
    ) -> Self {
        let dims = [out_channels, in_channels, window.kernel, window.kernel];
        let deviation = (2.0 / (window.kernel.pow(2) * out_channels) as f64).sqrt();
        let weight: Vec<f32> = (0..dims.iter().product())
            .map(|_| {
                let normal: f64 = StandardNormal.sample(rng);
                single(normal * deviation)
            })
            .collect();
        let weight = Tensor::from_data(TensorData::new(weight, dims), device);
        Self {
            weight: Param::from_tensor(weight),
            window,
        }
    }

    pub(super) fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        B::convolution(x, self.weight.val(), self.window)
    }
}

/// The nearest single-precision number.
#[expect(
    clippy::cast_possible_truncation,
    reason = "weights are single precision"
)]
pub(super) fn single(value: f64) -> f32 {
    value as f32
}

/// Batch norm with its running statistics.
#[derive(Module, Debug)]
pub(super) struct Norm<B: Backend> {
    /// `[channels]`
    gamma: Param<Tensor<B, 1>>,
    /// `[channels]`
    beta: Param<Tensor<B, 1>>,
    /// `[channels]`
    running_mean: RunningState<Tensor<B, 1>>,
    /// `[channels]`
    running_variance: RunningState<Tensor<B, 1>>,
}

impl<B: Operators> Norm<B> {
    pub(super) fn new(channels: usize, device: &B::Device) -> Self {
        Self {
            gamma: Param::from_tensor(Tensor::ones([channels], device)),
            beta: Param::from_tensor(Tensor::zeros([channels], device)),
            running_mean: RunningState::new(Tensor::zeros([channels], device)),
            running_variance: RunningState::new(Tensor::ones([channels], device)),
        }
    }

    /// Normalises, and applies a `ReLU` if `activate`.
    pub(super) fn forward(
        &self,
        x: Tensor<B, 4>,
        is_training: bool,
        activate: bool,
    ) -> Tensor<B, 4> {
        let [batch, channels, height, width] = x.dims();
        if !is_training {
            let slope = self.gamma.val() / (self.running_variance.value() + EPSILON).sqrt();
            let offset = self.beta.val() - self.running_mean.value() * slope.clone();
            let x = x * slope.reshape([1, channels, 1, 1]) + offset.reshape([1, channels, 1, 1]);
            return if activate { relu(x) } else { x };
        }
        let normalized = B::batch_norm(x, self.gamma.val(), self.beta.val(), EPSILON, activate);
        let count = (batch * height * width) as f64;
        // Running variances are unbiased, as PyTorch's; of a single value there is no unbiased one.
        let unbiased = if count > 1.0 {
            count / (count - 1.0)
        } else {
            1.0
        };
        take_up(&self.running_mean, normalized.mean, MOMENTUM);
        take_up(
            &self.running_variance,
            normalized.variance * unbiased,
            MOMENTUM,
        );
        normalized.output
    }
}

/// Moves a running statistic towards the newest one.
fn take_up<B: Backend>(running: &RunningState<Tensor<B, 1>>, newest: Tensor<B, 1>, momentum: f64) {
    let value = running.value() * (1.0 - momentum) + newest * momentum;
    running.update(value.detach());
    // The state keeps updates apart by thread until they are asked for; asked for at once, it is never stale, and
    // visitors see what training sees.
    drop(running.value_sync());
}
