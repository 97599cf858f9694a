//! The residual block: a skip connection plus weighted branches.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use rand_chacha::ChaCha12Rng;

use super::gates::{BlockGates, Kernel};
use super::layers::{Activation, Convolution, Norm};
use super::skip::{self, Skip};
use super::squeeze_excitation::SqueezeExcitation;
use super::{GroupConfig, NetworkConfig, Window};
use crate::operators::Operators;

/// Two convolutions with their norms; the activation before the first one is the block's.
#[derive(Module, Debug)]
struct Branch<B: Backend> {
    conv1: Convolution<B>,
    norm1: Norm<B>,
    conv2: Convolution<B>,
    norm2: Norm<B>,
    gate: Option<SqueezeExcitation<B>>,
    #[module(skip)]
    activation: Activation,
}

impl<B: Operators> Branch<B> {
    fn new(
        config: &NetworkConfig,
        in_channels: usize,
        out_channels: usize,
        window: Window,
        rng: &mut ChaCha12Rng,
        device: &B::Device,
    ) -> Self {
        let inner = window.resized(window.kernel, 1);
        Self {
            conv1: Convolution::new(in_channels, out_channels, window, rng, device),
            norm1: Norm::new(out_channels, device),
            conv2: Convolution::new(out_channels, out_channels, inner, rng, device),
            norm2: Norm::new(out_channels, device),
            gate: config
                .squeeze_excitation
                .then(|| SqueezeExcitation::new(out_channels, rng, device)),
            activation: config.activation,
        }
    }

    /// `gates` has, where there are gates, those of the kernels, of the inner channels and of the branch's own channels.
    fn forward(
        &self,
        activated: Tensor<B, 4>,
        is_training: bool,
        gates: Option<(&Kernel<B>, &Tensor<B, 1>, &Tensor<B, 1>)>,
    ) -> Tensor<B, 4> {
        let kernel = gates.and_then(|(kernel, _, _)| kernel.as_ref());
        let inner = gates.map(|(_, inner, _)| inner);
        let outer = gates.map(|(_, _, outer)| outer);
        let activation = Some(self.activation);
        let x = self.conv1.forward_gated(activated, kernel);
        let x = self.norm1.forward(x, is_training, activation, inner);
        let x = self.conv2.forward_gated(x, kernel);
        let x = self.norm2.forward(x, is_training, None, outer);
        match &self.gate {
            None => x,
            Some(gate) => gate.forward(x),
        }
    }
}

/// `skip(x) + Σ factor_i · branch_i(x)`
#[derive(Module, Debug)]
pub(super) struct Block<B: Backend> {
    branches: Vec<Branch<B>>,
    /// `None` where the input's shape is the output's: then the input itself is added.
    skip: Option<Skip<B>>,
    #[module(skip)]
    activation: Activation,
}

impl<B: Operators> Block<B> {
    pub(super) fn new(
        config: &NetworkConfig,
        in_channels: usize,
        group: &GroupConfig,
        window: Window,
        rng: &mut ChaCha12Rng,
        device: &B::Device,
    ) -> Self {
        let channels = group.channels;
        let branches = (0..group.branches)
            .map(|_| Branch::new(config, in_channels, channels, window, rng, device))
            .collect();
        let skip = skip::is_needed(in_channels, channels, window.stride)
            .then(|| Skip::new(in_channels, channels, window, rng, device));
        Self {
            branches,
            skip,
            activation: config.activation,
        }
    }

    /// Adds up skip and branches, branch `i` weighted by the factors at place `first + i`; gates multiply what they are
    /// for, where there are any.
    ///
    /// # Shapes
    /// - `x`: `[batch, in_channels, height, width]`
    /// - output: `[batch, channels, height / stride, width / stride]`, rounded up
    pub(super) fn forward(
        &self,
        x: Tensor<B, 4>,
        factors: &Tensor<B, 1>,
        first: usize,
        is_training: bool,
        gates: Option<&BlockGates<'_, B>>,
    ) -> Tensor<B, 4> {
        let activated = self.activation.forward(x.clone());
        let channels = gates.map(|gates| &gates.group.channels);
        let mut sum = match &self.skip {
            None => x,
            Some(skip) => skip.forward(x, activated.clone(), is_training, channels),
        };
        for (index, branch) in self.branches.iter().enumerate() {
            let gates = gates.map(|gates| {
                let outer = &gates.group.branches[gates.block][index];
                (gates.kernel, &gates.group.channels, outer)
            });
            let branch = branch.forward(activated.clone(), is_training, gates);
            sum = B::mix(sum, branch, factors, first + index);
        }
        sum
    }
}
