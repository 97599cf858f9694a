//! What the parts of a relaxed network are multiplied by.
//!
//! A relaxed network is the largest of many networks, each part of which is there to some degree between 0 and 1: rings of
//! kernels, channels, branches, blocks. Gates of channels multiply what norms give, since a norm would undo whatever
//! scales its input. With gates of 0 and 1 alone, a relaxed network is one of the smaller ones.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// The gates of kernels, where kernels of several sizes are relaxed. `[1, 1, kernel, kernel]`
pub(super) type Kernel<B> = Option<Tensor<B, 4>>;

/// The gates of a whole network.
#[derive(Debug, Clone)]
pub struct Gates<B: Backend> {
    /// Of all kernels but the skips', where kernels of several sizes are relaxed. `[1, 1, kernel, kernel]`
    pub kernel: Option<Tensor<B, 4>>,
    /// Of the channels behind the stem. `[initial_filters]`
    pub stem: Tensor<B, 1>,
    /// Of the groups, from the image to the head.
    pub groups: Vec<GroupGates<B>>,
}

/// The gates of a group.
#[derive(Debug, Clone)]
pub struct GroupGates<B: Backend> {
    /// Of the channels within branches, and of skips that change the shape. `[channels]`
    pub channels: Tensor<B, 1>,
    /// Of the channels that each branch of each block ends with: the channel's, the branch's and the block's gate in one.
    /// `[blocks][branches][channels]`
    pub branches: Vec<Vec<Tensor<B, 1>>>,
}

/// The gates of one block.
#[derive(Debug)]
pub(super) struct BlockGates<'a, B: Backend> {
    /// Of its kernels.
    pub(super) kernel: &'a Kernel<B>,
    /// Of its group.
    pub(super) group: &'a GroupGates<B>,
    /// Which one of its group it is.
    pub(super) block: usize,
}
