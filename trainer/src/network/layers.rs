//! Convolution and batch norm with their weights.

use burn::module::{Module, ModuleMapper, Param, RunningState};
use burn::tensor::activation::{gelu, silu};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;
use rand_distr::{Distribution as _, StandardNormal};

use crate::operators::{Operators, Running, Window};

/// Added to variances before their root is taken; PyTorch's default.
const EPSILON: f32 = 1e-5;

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

    /// The same with kernels that are multiplied by a gate. `[1, 1, kernel, kernel]`
    pub(super) fn forward_gated(
        &self,
        x: Tensor<B, 4>,
        kernel: Option<&Tensor<B, 4>>,
    ) -> Tensor<B, 4> {
        match kernel {
            None => self.forward(x),
            Some(gate) => B::convolution(x, self.weight.val() * gate.clone(), self.window),
        }
    }
}

/// A linear map with bias.
#[derive(Module, Debug)]
pub(super) struct Linear<B: Backend> {
    /// `[outputs, inputs]`
    weight: Param<Tensor<B, 2>>,
    /// `[outputs]`
    bias: Param<Tensor<B, 1>>,
}

impl<B: Operators> Linear<B> {
    /// Weights are drawn uniformly from ±1/√inputs, as `torch.nn.Linear` does it; the bias is 0.
    pub(super) fn new(
        inputs: usize,
        outputs: usize,
        rng: &mut ChaCha12Rng,
        device: &B::Device,
    ) -> Self {
        let bound = 1.0 / (inputs as f64).sqrt();
        let weight: Vec<f32> = (0..outputs * inputs)
            .map(|_| single(rng.random_range(-bound..bound)))
            .collect();
        let weight = Tensor::from_data(TensorData::new(weight, [outputs, inputs]), device);
        let bias = Tensor::zeros([outputs], device);
        Self {
            weight: Param::from_tensor(weight),
            bias: Param::from_tensor(bias),
        }
    }

    /// `[batch, inputs]` to `[batch, outputs]`.
    pub(super) fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        B::project(x, self.weight.val(), self.bias.val())
    }
}

/// A function applied to every value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activation {
    /// What is above 0, else 0.
    #[default]
    Relu,
    /// `x · sigmoid(x)`
    Silu,
    /// `x · Φ(x)`, with the normal distribution's Φ.
    Gelu,
}

impl Activation {
    pub(super) fn forward<B: Operators>(self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        match self {
            Self::Relu => B::rectify(x),
            Self::Silu => silu(x),
            Self::Gelu => gelu(x),
        }
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
    weight: Param<Tensor<B, 1>>,
    /// `[channels]`
    bias: Param<Tensor<B, 1>>,
    /// `[channels]`
    running_mean: RunningState<Tensor<B, 1>>,
    /// `[channels]`
    running_var: RunningState<Tensor<B, 1>>,
}

impl<B: Operators> Norm<B> {
    pub(super) fn new(channels: usize, device: &B::Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::ones([channels], device)),
            bias: Param::from_tensor(Tensor::zeros([channels], device)),
            running_mean: RunningState::new(Tensor::zeros([channels], device)),
            running_var: RunningState::new(Tensor::ones([channels], device)),
        }
    }

    /// Normalises, multiplies by the gate and applies the activation, if there are any. The gate: `[channels]`
    pub(super) fn forward(
        &self,
        x: Tensor<B, 4>,
        is_training: bool,
        activation: Option<Activation>,
        gate: Option<&Tensor<B, 1>>,
    ) -> Tensor<B, 4> {
        // This one has a kernel that does both.
        let is_relu = activation == Some(Activation::Relu);
        let then = |x| match activation {
            Some(activation) if !is_relu => activation.forward(x),
            _ => x,
        };
        let affine = [self.weight.val(), self.bias.val()].map(|affine| match gate {
            None => affine,
            Some(gate) => affine * gate.clone(),
        });
        let [mean, variance] = [&self.running_mean, &self.running_var].map(RunningState::value);
        if !is_training {
            return then(B::normalize_by(
                x,
                affine,
                [mean, variance],
                EPSILON,
                is_relu,
            ));
        }
        let running = Running { mean, variance };
        let normalized = B::batch_norm(x, affine, running, EPSILON, is_relu);
        replace(&self.running_mean, normalized.running.mean);
        replace(&self.running_var, normalized.running.variance);
        then(normalized.output)
    }
}

/// Puts a new value into the place of a running statistic.
///
/// As a map over the state, which is shared with its clones: its own `update` keeps updates apart by thread until they are
/// asked for, and divides their sum by their number, which a GPU would have to do, too.
fn replace<B: Backend>(running: &RunningState<Tensor<B, 1>>, value: Tensor<B, 1>) {
    drop(running.clone().map(&mut Replace(value.detach())));
}

/// Puts its tensor into the place of one that has as many values.
struct Replace<B: Backend>(Tensor<B, 1>);

impl<B: Backend> ModuleMapper<B> for Replace<B> {
    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let (id, old, mapper) = parameter.consume();
        Param::from_mapped_value(id, self.0.clone().reshape(old.dims()), mapper)
    }
}
