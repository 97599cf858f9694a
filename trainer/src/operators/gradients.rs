//! [`Operators`] with gradients, for every backend that has [`Kernels`] of our own.

use burn::backend::Autodiff;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::tensor::Tensor;
use burn::tensor::ops::FloatTensor;

use super::{
    Normalized, Operators, Window, projection_by_convolution, stock_projection, unwrap, wrap,
};

/// Our own kernels for a backend without gradients; shapes are those of [`Operators`].
pub(super) trait Kernels: Operators {
    /// Whether burn chooses kernels by time, or adds in an order that time decides, where it is left to itself.
    const IS_GPU: bool;
    /// What a batch norm keeps of its batch for the way back.
    type Moments: Clone + std::fmt::Debug + Send + 'static;
    /// What mixing keeps of the factors for the way back.
    type Factors: Clone + std::fmt::Debug + Send + 'static;

    /// Cross-correlation without bias.
    fn convolve(
        input: &FloatTensor<Self>,
        weight: &FloatTensor<Self>,
        window: Window,
    ) -> FloatTensor<Self>;

    /// The gradients of input and weight, each where it is wanted.
    fn convolve_backward(
        input: &FloatTensor<Self>,
        weight: &FloatTensor<Self>,
        gradient: &FloatTensor<Self>,
        window: Window,
        wanted: [bool; 2],
    ) -> [Option<FloatTensor<Self>>; 2];

    /// Batch norm, and what its way back needs.
    fn normalize(
        input: &FloatTensor<Self>,
        affine: [&FloatTensor<Self>; 2],
        epsilon: f32,
        activate: bool,
    ) -> (FloatTensor<Self>, Self::Moments);

    /// Mean and biased variance of each channel.
    fn moment_tensors(moments: &Self::Moments) -> [FloatTensor<Self>; 2];

    /// The gradients of input, gamma and beta.
    fn normalize_backward(
        input: &FloatTensor<Self>,
        affine: [&FloatTensor<Self>; 2],
        moments: &Self::Moments,
        gradient: &FloatTensor<Self>,
        epsilon: f32,
        activate: bool,
    ) -> [FloatTensor<Self>; 3];

    /// `sum + forward · branch`, and the `backward` factors where the way back finds them.
    fn add_scaled(
        sum: FloatTensor<Self>,
        branch: &FloatTensor<Self>,
        forward: &[f32],
        backward: &[f32],
    ) -> (FloatTensor<Self>, Self::Factors);

    /// The branch's gradient: that of the sum, scaled image by image.
    fn scale(gradient: &FloatTensor<Self>, factors: &Self::Factors) -> FloatTensor<Self>;
}

impl<B: Kernels, C: CheckpointStrategy> Operators for Autodiff<B, C> {
    fn convolution(
        input: Tensor<Self, 4>,
        weight: Tensor<Self, 4>,
        window: Window,
    ) -> Tensor<Self, 4> {
        let (input, weight) = (unwrap(input), unwrap(weight));
        let output = B::convolve(&input.primitive, &weight.primitive, window);
        let nodes = [input.node.clone(), weight.node.clone()];
        wrap(
            match Convolution.prepare::<C>(nodes).compute_bound().stateful() {
                OpsKind::Tracked(mut prepared) => {
                    let state = (
                        prepared.checkpoint(&input),
                        prepared.checkpoint(&weight),
                        window,
                    );
                    prepared.finish(state, output)
                }
                OpsKind::UnTracked(prepared) => prepared.finish(output),
            },
        )
    }

    fn batch_norm(
        input: Tensor<Self, 4>,
        gamma: Tensor<Self, 1>,
        beta: Tensor<Self, 1>,
        epsilon: f32,
        activate: bool,
    ) -> Normalized<Self> {
        let (input, gamma, beta) = (unwrap(input), unwrap(gamma), unwrap(beta));
        let affine = [&gamma.primitive, &beta.primitive];
        let (output, moments) = B::normalize(&input.primitive, affine, epsilon, activate);
        let [mean, variance] = B::moment_tensors(&moments);
        let nodes = [input.node.clone(), gamma.node.clone(), beta.node.clone()];
        let output = match Normalization.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prepared) => {
                let state = NormalizationState {
                    input: prepared.checkpoint(&input),
                    gamma: prepared.checkpoint(&gamma),
                    beta: prepared.checkpoint(&beta),
                    moments,
                    epsilon,
                    activate,
                };
                prepared.finish(state, output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        };
        Normalized {
            output: wrap(output),
            mean: wrap(FloatTensor::<Self>::new(mean)),
            variance: wrap(FloatTensor::<Self>::new(variance)),
        }
    }

    fn mix(
        sum: Tensor<Self, 4>,
        branch: Tensor<Self, 4>,
        forward: &[f32],
        backward: &[f32],
    ) -> Tensor<Self, 4> {
        let (sum, branch) = (unwrap(sum), unwrap(branch));
        let nodes = [sum.node.clone(), branch.node.clone()];
        let (output, factors) = B::add_scaled(sum.primitive, &branch.primitive, forward, backward);
        wrap(match Mix.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(factors, output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        })
    }

    /// On GPUs one axis after the other: burn's sum of everything adds parts in the order in which they are done.
    fn sum(tensor: Tensor<Self, 2>) -> Tensor<Self, 1> {
        if B::IS_GPU {
            tensor.sum_dim(1).sum_dim(0).reshape([1])
        } else {
            tensor.sum()
        }
    }

    fn project(input: Tensor<Self, 2>, weight: Tensor<Self, 2>) -> Tensor<Self, 2> {
        if B::IS_GPU {
            projection_by_convolution(input, weight)
        } else {
            stock_projection(input, weight)
        }
    }
}

#[derive(Debug)]
struct Convolution;

impl<B: Kernels> Backward<B, 2> for Convolution {
    type State = (NodeId, NodeId, Window);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        gradients: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let (input, weight, window) = ops.state;
        let gradient = gradients.consume::<B>(&ops.node);
        let input = checkpointer.retrieve_node_output::<FloatTensor<B>>(input);
        let weight = checkpointer.retrieve_node_output::<FloatTensor<B>>(weight);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let found = B::convolve_backward(&input, &weight, &gradient, window, wanted);
        for (node, gradient) in ops.parents.into_iter().zip(found) {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct Normalization;

#[derive(Debug, Clone)]
struct NormalizationState<M> {
    input: NodeId,
    gamma: NodeId,
    beta: NodeId,
    moments: M,
    epsilon: f32,
    activate: bool,
}

impl<B: Kernels> Backward<B, 3> for Normalization {
    type State = NormalizationState<B::Moments>;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        gradients: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let state = ops.state;
        let gradient = gradients.consume::<B>(&ops.node);
        let input = checkpointer.retrieve_node_output::<FloatTensor<B>>(state.input);
        let gamma = checkpointer.retrieve_node_output::<FloatTensor<B>>(state.gamma);
        let beta = checkpointer.retrieve_node_output::<FloatTensor<B>>(state.beta);
        let found = B::normalize_backward(
            &input,
            [&gamma, &beta],
            &state.moments,
            &gradient,
            state.epsilon,
            state.activate,
        );
        for (node, gradient) in ops.parents.into_iter().zip(found) {
            if let Some(node) = node {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct Mix;

impl<B: Kernels> Backward<B, 2> for Mix {
    type State = B::Factors;

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let [sum_node, branch_node] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        if let Some(node) = branch_node {
            gradients.register::<B>(node.id, B::scale(&gradient, &ops.state));
        }
        if let Some(node) = sum_node {
            gradients.register::<B>(node.id, gradient);
        }
    }
}
