//! The networks of the search space: residual groups whose blocks have one branch or several.
//!
//! ```text
//! image -> stem (convolution, norm) -> group 1 -> group 2 -> group 3 -> ReLU -> mean over pixels -> linear
//! block  = skip(x) + Σ factor_i · branch_i(x)
//! branch = ReLU, convolution (stride), norm, ReLU, convolution, norm
//! ```
//!
//! Groups from the second on halve the image in their first block; where an image is down to one pixel in height or
//! width, they leave it as it is. Convolutions have no bias. How branches are weighted is in `shake.rs`, the skip
//! connection that changes shape in `skip.rs`, the optional gate of channels in `squeeze_excitation.rs`, the sizes of all layers in `summary.rs`.
//!
//! # Source
//! He et al. 2016 (ResNet), Zagoruyko & Komodakis 2016 (wide ResNet), Gastaldi 2017 (Shake-Shake), Yamada et al. 2018
//! (ShakeDrop); joined into one space by Zela et al. 2018 (*Towards automated deep learning*).

mod block;
mod gates;
mod layers;
mod shake;
mod skip;
mod squeeze_excitation;
mod summary;
pub mod weights;

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use rand_chacha::ChaCha12Rng;
use shared::objective::Precision;

use data::ImageShape;

use self::block::Block;
use self::gates::BlockGates;
pub use self::gates::{Gates, GroupGates};
pub use self::layers::Activation;
use self::layers::{Convolution, Linear, Norm};
pub use self::shake::{Factors, Weighting};
pub use self::summary::{Layer, LayerKind, Summary};
use crate::operators::{Operators, Window};

/// One group of blocks, all of the same width.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// How many blocks; at least 1.
    pub blocks: usize,
    /// Channels of every block's output; at least 1.
    pub channels: usize,
    /// Branches of every block; at least 1.
    pub branches: usize,
}

/// Everything that determines a network but its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkConfig {
    /// The images it is given.
    pub image: ImageShape,
    /// How many classes it tells apart.
    pub classes: usize,
    /// Channels behind the stem.
    pub initial_filters: usize,
    /// Side of every convolution's kernel but the skips'; odd.
    pub kernel: usize,
    /// The groups, from the image to the head; at least 1.
    pub groups: Vec<GroupConfig>,
    /// What every block starts with, between its convolutions, and before the head.
    pub activation: Activation,
    /// Whether every branch ends with a gate that weighs its channels (squeeze-and-excitation).
    pub squeeze_excitation: bool,
    /// ShakeDrop: how often a block's only branch is replaced by noise; in 0..=1.
    pub death_rate: f64,
    /// What convolutions multiply in.
    pub precision: Precision,
}

impl NetworkConfig {
    /// The window of the stem, and of all convolutions but the skips'.
    fn window(&self, stride: usize) -> Window {
        Window {
            precision: self.precision,
            ..Window::same(self.kernel, stride)
        }
    }

    /// The stride of a group's first block, for images of the given size before it.
    fn stride(group: usize, height: usize, width: usize) -> usize {
        if group > 0 && height > 1 && width > 1 {
            2
        } else {
            1
        }
    }

    /// How the branches of a group's blocks are weighted.
    fn weighting(&self, group: &GroupConfig) -> Weighting {
        if group.branches > 1 {
            Weighting::ShakeShake {
                branches: group.branches,
            }
        } else {
            Weighting::ShakeDrop {
                death_rate: self.death_rate,
            }
        }
    }
}

/// A run of blocks of the same width.
#[derive(Module, Debug)]
struct Group<B: Backend> {
    blocks: Vec<Block<B>>,
}

/// A network with its weights.
#[derive(Module, Debug)]
pub struct Network<B: Backend> {
    stem: Convolution<B>,
    stem_norm: Norm<B>,
    groups: Vec<Group<B>>,
    head: Linear<B>,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    weightings: Vec<Weighting>,
}

impl<B: Operators> Network<B> {
    /// Builds the network with weights drawn from `rng`, in the order of the layers.
    ///
    /// Convolutions are drawn from N(0, √(2 / (kernel² · `out_channels`))), the head's weight uniformly from
    /// ±1/√channels as `torch.nn.Linear` does it; norms start at 1 and 0, the head's bias at 0.
    pub fn new(config: &NetworkConfig, rng: &mut ChaCha12Rng, device: &B::Device) -> Self {
        let ImageShape {
            channels,
            mut height,
            mut width,
        } = config.image;
        let window = config.window(1);
        let stem = Convolution::new(channels, config.initial_filters, window, rng, device);
        let stem_norm = Norm::new(config.initial_filters, device);
        let mut channels = config.initial_filters;
        let mut groups = Vec::new();
        for (index, group) in config.groups.iter().enumerate() {
            let mut blocks = Vec::new();
            for block in 0..group.blocks {
                let stride = if block == 0 {
                    NetworkConfig::stride(index, height, width)
                } else {
                    1
                };
                let window = config.window(stride);
                (height, width) = (window.output(height), window.output(width));
                blocks.push(Block::new(config, channels, group, window, rng, device));
                channels = group.channels;
            }
            groups.push(Group { blocks });
        }
        let head = Linear::new(channels, config.classes, rng, device);
        let weightings = config
            .groups
            .iter()
            .map(|group| config.weighting(group))
            .collect();
        Self {
            stem,
            stem_norm,
            groups,
            head,
            activation: config.activation,
            weightings,
        }
    }

    /// Scores for every class, with branches weighted by draws from `rng` and norms by the batch's statistics, which
    /// the running ones take up.
    ///
    /// # Shapes
    /// - `images`: `[batch, channels, height, width]`
    /// - output: `[batch, classes]`
    pub(crate) fn forward_training(
        &self,
        images: Tensor<B, 4>,
        rng: &mut ChaCha12Rng,
    ) -> Tensor<B, 2> {
        let batch = images.dims()[0];
        self.run(images, true, |weighting| weighting.draw(batch, rng), None)
    }

    /// Scores for every class, with the branches' expected weights and the running statistics.
    ///
    /// # Shapes
    /// As [`Self::forward_training`].
    pub fn forward(&self, images: Tensor<B, 4>) -> Tensor<B, 2> {
        let batch = images.dims()[0];
        self.run(images, false, |weighting| weighting.expect(batch), None)
    }

    /// Scores for every class of the relaxed network with these gates: nothing is drawn, branches are weighted by their gates
    /// alone, and norms use the batch's statistics.
    ///
    /// # Shapes
    /// As [`Self::forward_training`].
    pub(crate) fn forward_relaxed(&self, images: Tensor<B, 4>, gates: &Gates<B>) -> Tensor<B, 2> {
        let batch = images.dims()[0];
        self.run(images, true, |weighting| weighting.add(batch), Some(gates))
    }

    fn run(
        &self,
        images: Tensor<B, 4>,
        is_training: bool,
        mut factors: impl FnMut(&Weighting) -> Vec<Factors>,
        gates: Option<&Gates<B>>,
    ) -> Tensor<B, 2> {
        // All blocks' factors are brought to the device at once.
        let weightings = self.groups.iter().zip(&self.weightings);
        let of_blocks: Vec<Vec<Factors>> = weightings
            .flat_map(|(group, weighting)| std::iter::repeat_n(weighting, group.blocks.len()))
            .map(&mut factors)
            .collect();
        let all = shake::flat(of_blocks.iter().flatten());
        let all = Tensor::from_floats(all.as_slice(), &images.device());
        let kernel = gates.and_then(|gates| gates.kernel.as_ref());
        let x = self.stem.forward_gated(images, kernel);
        let stem = gates.map(|gates| &gates.stem);
        let mut x = self.stem_norm.forward(x, is_training, None, stem);
        let mut first = 0;
        let mut of_blocks = of_blocks.iter();
        for (number, group) in self.groups.iter().enumerate() {
            for ((index, block), factors) in group.blocks.iter().enumerate().zip(&mut of_blocks) {
                let gates = gates.map(|gates| BlockGates {
                    kernel: &gates.kernel,
                    group: &gates.groups[number],
                    block: index,
                });
                x = block.forward(x, &all, first, is_training, gates.as_ref()); // [batch, channels, height, width]
                first += factors.len();
            }
        }
        self.head.forward(B::pixel_mean(self.activation.forward(x)))
    }
}

#[cfg(test)]
mod tests;
