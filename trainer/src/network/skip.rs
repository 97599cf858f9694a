//! The skip connection of blocks that change the shape: two paths that look at different pixels.
//!
//! Path 1 takes the upper left pixel of every stride × stride square, behind the activation; path 2 the pixel one further down
//! and to the right, without. Each is mapped by a 1×1 convolution to half of the channels (path 2 gets the odd one),
//! the halves are joined and normalised. With a single output channel there is only path 2.

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use rand_chacha::ChaCha12Rng;

use super::layers::{Convolution, Norm};
use crate::operators::{Operators, Window};

#[derive(Module, Debug)]
pub(super) struct Skip<B: Backend> {
    path1: Option<Convolution<B>>,
    path2: Convolution<B>,
    norm: Norm<B>,
}

impl<B: Operators> Skip<B> {
    pub(super) fn new(
        in_channels: usize,
        out_channels: usize,
        block: Window,
        rng: &mut ChaCha12Rng,
        device: &B::Device,
    ) -> Self {
        // Average pooling over one pixel with a stride only picks pixels: the convolution's own stride does the same.
        let straight = block.resized(1, block.stride);
        let shifted = Window {
            shift: 1,
            ..straight
        };
        let (half, rest) = halves(out_channels);
        Self {
            path1: (half > 0).then(|| Convolution::new(in_channels, half, straight, rng, device)),
            path2: Convolution::new(in_channels, rest, shifted, rng, device),
            norm: Norm::new(out_channels, device),
        }
    }

    /// Joins both paths; `activated` is `x` behind the activation, and a gate multiplies the channels. `[channels]`
    pub(super) fn forward(
        &self,
        x: Tensor<B, 4>,
        activated: Tensor<B, 4>,
        is_training: bool,
        gate: Option<&Tensor<B, 1>>,
    ) -> Tensor<B, 4> {
        let second = self.path2.forward(x);
        let joined = match &self.path1 {
            None => second,
            Some(path1) => B::join(path1.forward(activated), second),
        };
        self.norm.forward(joined, is_training, None, gate)
    }
}

/// The output channels of path 1 and path 2.
pub(super) fn halves(out_channels: usize) -> (usize, usize) {
    (out_channels / 2, out_channels.div_ceil(2))
}

/// Whether a block needs this connection: otherwise its input can be added as it is.
pub(super) fn is_needed(in_channels: usize, out_channels: usize, stride: usize) -> bool {
    in_channels != out_channels || stride != 1
}
