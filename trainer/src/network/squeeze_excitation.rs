//! Squeeze-and-excitation: a branch's channels are weighted by a small network that sees the mean of each.
//!
//! # Source
//! Hu et al. 2018 (Squeeze-and-Excitation Networks), with reduction 16 and at least four inner units.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::backend::Backend;
use rand_chacha::ChaCha12Rng;

use super::layers::Linear;
use crate::operators::Operators;

const REDUCTION: usize = 16;
const LEAST_UNITS: usize = 4;

#[derive(Module, Debug)]
pub(super) struct SqueezeExcitation<B: Backend> {
    squeeze: Linear<B>,
    excite: Linear<B>,
}

impl<B: Operators> SqueezeExcitation<B> {
    pub(super) fn new(channels: usize, rng: &mut ChaCha12Rng, device: &B::Device) -> Self {
        let units = units(channels);
        Self {
            squeeze: Linear::new(channels, units, rng, device),
            excite: Linear::new(units, channels, rng, device),
        }
    }

    /// `[batch, channels, height, width]`, in and out.
    pub(super) fn forward(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let [batch, channels, _, _] = x.dims();
        let means = B::pixel_mean(x.clone()); // [batch, channels]
        let inner = relu(self.squeeze.forward(means)); // [batch, units]
        let weights = sigmoid(self.excite.forward(inner)); // [batch, channels]
        x * weights.reshape([batch, channels, 1, 1])
    }
}

/// Units of the small network.
pub(super) fn units(channels: usize) -> usize {
    (channels / REDUCTION).max(LEAST_UNITS)
}
