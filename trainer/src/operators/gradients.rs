//! [`Operators`] with gradients, for every backend that has [`Kernels`] of our own.

use burn::backend::Autodiff;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::tensor::activation::softmax;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{Tensor, s};

use super::{Normalized, Operators, Running, Window, projection_by_convolution, unwrap, wrap};

/// What [`Operators`] with gradients are made of: kernels of a backend without, with the same shapes.
///
/// Where there is a default, it is burn's own operations.
pub(super) trait Kernels: Operators {
    /// What a batch norm keeps of its batch for the way back.
    type Moments: Clone + std::fmt::Debug + Send + 'static;

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

    /// Batch norm, what its way back needs, and the running statistics with this batch.
    fn normalize(
        input: &FloatTensor<Self>,
        affine: [&FloatTensor<Self>; 2],
        running: Running<Self>,
        epsilon: f32,
        activate: bool,
    ) -> (FloatTensor<Self>, Self::Moments, Running<Self>);

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

    /// `sum + factor · branch`, as [`Operators::mix`].
    fn add_scaled(
        sum: FloatTensor<Self>,
        branch: &FloatTensor<Self>,
        factors: &FloatTensor<Self>,
        place: usize,
    ) -> FloatTensor<Self>;

    /// The branch's gradient: that of the sum, scaled image by image by the factors for the way back.
    fn scale(
        gradient: &FloatTensor<Self>,
        factors: &FloatTensor<Self>,
        place: usize,
    ) -> FloatTensor<Self>;

    /// The gradient of a `ReLU`'s input.
    fn rectify_backward(
        output: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        <Self as burn::tensor::ops::ActivationOps<Self>>::relu_backward(output, gradient)
    }

    /// A tensor's first channels, and the rest of them.
    fn split(tensor: FloatTensor<Self>, first: usize) -> [FloatTensor<Self>; 2] {
        let tensor = wrap::<Self, 4>(tensor);
        let channels = tensor.dims()[1];
        [0..first, first..channels].map(|part| unwrap(tensor.clone().slice(s![.., part])))
    }

    /// The gradient of a mean over pixels' input: `[batch, channels]` to `[batch, channels, height, width]`
    fn spread(gradient: FloatTensor<Self>, [height, width]: [usize; 2]) -> FloatTensor<Self> {
        let gradient = wrap::<Self, 2>(gradient) / (height * width) as f64;
        let [batch, channels] = gradient.dims();
        let gradient = gradient.reshape([batch, channels, 1, 1]);
        unwrap(gradient.expand([batch, channels, height, width]))
    }

    /// The gradient of the scores of a mean cross-entropy, whose own gradient is `[1]`.
    fn cross_entropy_backward(
        scores: FloatTensor<Self>,
        targets: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (scores, targets) = (wrap::<Self, 2>(scores), wrap::<Self, 2>(targets));
        let batch = scores.dims()[0];
        let shares = softmax(scores, 1) * targets.clone().sum_dim(1);
        let gradient = wrap::<Self, 1>(gradient) / batch as f64;
        unwrap((shares - targets) * gradient.unsqueeze())
    }

    /// The product of `input` and the transposed `weight`, tracked: a convolution of a single pixel, because burn chooses
    /// between its own kernels by time.
    fn product<C: CheckpointStrategy>(
        input: Tensor<Autodiff<Self, C>, 2>,
        weight: Tensor<Autodiff<Self, C>, 2>,
    ) -> Tensor<Autodiff<Self, C>, 2> {
        projection_by_convolution(input, weight)
    }

    /// Adds a value to each column. `[rows, columns]` and `[columns]`
    fn add_bias(tensor: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        unwrap(wrap::<Self, 2>(tensor) + wrap::<Self, 1>(bias).unsqueeze())
    }

    /// Each column's sum. `[rows, columns]` to `[columns]`
    fn column_sums(tensor: FloatTensor<Self>) -> FloatTensor<Self> {
        unwrap(wrap::<Self, 2>(tensor).sum_dim(0).squeeze_dim::<1>(0))
    }
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
        affine: [Tensor<Self, 1>; 2],
        running: Running<Self>,
        epsilon: f32,
        activate: bool,
    ) -> Normalized<Self> {
        let input = unwrap(input);
        let [gamma, beta] = affine.map(unwrap);
        let affine = [&gamma.primitive, &beta.primitive];
        let running = Running {
            mean: wrap(unwrap(running.mean).primitive),
            variance: wrap(unwrap(running.variance).primitive),
        };
        let (output, moments, running) =
            B::normalize(&input.primitive, affine, running, epsilon, activate);
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
            running: Running {
                mean: Tensor::from_inner(running.mean),
                variance: Tensor::from_inner(running.variance),
            },
        }
    }

    fn mix(
        sum: Tensor<Self, 4>,
        branch: Tensor<Self, 4>,
        factors: &Tensor<Self, 1>,
        place: usize,
    ) -> Tensor<Self, 4> {
        let (sum, branch) = (unwrap(sum), unwrap(branch));
        let factors = unwrap(factors.clone()).primitive;
        let nodes = [sum.node.clone(), branch.node.clone()];
        let output = B::add_scaled(sum.primitive, &branch.primitive, &factors, place);
        wrap(match Mix.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((factors, place), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        })
    }

    fn rectify(input: Tensor<Self, 4>) -> Tensor<Self, 4> {
        let input = unwrap(input);
        let output = unwrap(B::rectify(wrap(input.primitive)));
        wrap(
            match Relu.prepare::<C>([input.node]).compute_bound().stateful() {
                OpsKind::Tracked(prepared) => prepared.finish(output.clone(), output),
                OpsKind::UnTracked(prepared) => prepared.finish(output),
            },
        )
    }

    fn join(first: Tensor<Self, 4>, second: Tensor<Self, 4>) -> Tensor<Self, 4> {
        let channels = first.dims()[1];
        let (first, second) = (unwrap(first), unwrap(second));
        let output = unwrap(B::join(wrap(first.primitive), wrap(second.primitive)));
        let nodes = [first.node, second.node];
        wrap(match Join.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(channels, output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        })
    }

    fn pixel_mean(input: Tensor<Self, 4>) -> Tensor<Self, 2> {
        let [_, _, height, width] = input.dims();
        let input = unwrap(input);
        let output = unwrap(B::pixel_mean(wrap(input.primitive)));
        let prepared = PixelMean.prepare::<C>([input.node]).compute_bound();
        wrap(match prepared.stateful() {
            OpsKind::Tracked(prepared) => prepared.finish([height, width], output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        })
    }

    fn cross_entropy(scores: Tensor<Self, 2>, targets: Tensor<Self, 2>) -> Tensor<Self, 1> {
        let (scores, targets) = (unwrap(scores), unwrap(targets).primitive);
        let state = (scores.primitive.clone(), targets.clone());
        let output = unwrap(B::cross_entropy(wrap(scores.primitive), wrap(targets)));
        let prepared = CrossEntropy.prepare::<C>([scores.node]).compute_bound();
        wrap(match prepared.stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(state, output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        })
    }

    fn project(
        input: Tensor<Self, 2>,
        weight: Tensor<Self, 2>,
        bias: Tensor<Self, 1>,
    ) -> Tensor<Self, 2> {
        let product = B::product(input, weight);
        let (product, bias) = (unwrap(product), unwrap(bias));
        let output = B::add_bias(product.primitive, bias.primitive);
        let nodes = [product.node, bias.node];
        wrap(match Bias.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        })
    }
}

/// Hands the gradients that were found to those who want them.
fn register<B: Kernels, S, const N: usize>(
    gradients: &mut Gradients,
    ops: &Ops<S, N>,
    found: [Option<FloatTensor<B>>; N],
) {
    for (node, gradient) in ops.parents.iter().zip(found) {
        if let (Some(node), Some(gradient)) = (node, gradient) {
            gradients.register::<B>(node.id, gradient);
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
        register::<B, _, 2>(gradients, &ops, found);
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
        let state = &ops.state;
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
        register::<B, _, 3>(gradients, &ops, found.map(Some));
    }
}

#[derive(Debug)]
struct Mix;

impl<B: Kernels> Backward<B, 2> for Mix {
    type State = (FloatTensor<B>, usize);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let [sum_node, branch_node] = ops.parents;
        let (factors, place) = ops.state;
        let gradient = gradients.consume::<B>(&ops.node);
        if let Some(node) = branch_node {
            gradients.register::<B>(node.id, B::scale(&gradient, &factors, place));
        }
        if let Some(node) = sum_node {
            gradients.register::<B>(node.id, gradient);
        }
    }
}

#[derive(Debug)]
struct Relu;

impl<B: Kernels> Backward<B, 1> for Relu {
    type State = FloatTensor<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        unary::<B, _>(ops.parents, ops.node, gradients, |gradient| {
            B::rectify_backward(ops.state, gradient)
        });
    }
}

#[derive(Debug)]
struct Join;

impl<B: Kernels> Backward<B, 2> for Join {
    /// Channels of the first tensor.
    type State = usize;

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let parts = B::split(gradients.consume::<B>(&ops.node), ops.state);
        register::<B, _, 2>(gradients, &ops, parts.map(Some));
    }
}

#[derive(Debug)]
struct PixelMean;

impl<B: Kernels> Backward<B, 1> for PixelMean {
    /// Height and width.
    type State = [usize; 2];

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        unary::<B, _>(ops.parents, ops.node, gradients, |gradient| {
            B::spread(gradient, ops.state)
        });
    }
}

#[derive(Debug)]
struct CrossEntropy;

impl<B: Kernels> Backward<B, 1> for CrossEntropy {
    /// Scores and targets.
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (scores, targets) = ops.state;
        unary::<B, _>(ops.parents, ops.node, gradients, |gradient| {
            B::cross_entropy_backward(scores, targets, gradient)
        });
    }
}

#[derive(Debug)]
struct Bias;

impl<B: Kernels> Backward<B, 2> for Bias {
    type State = ();

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let [product, bias] = ops.parents;
        let gradient = gradients.consume::<B>(&ops.node);
        if let Some(node) = bias {
            gradients.register::<B>(node.id, B::column_sums(gradient.clone()));
        }
        if let Some(node) = product {
            gradients.register::<B>(node.id, gradient);
        }
    }
}
