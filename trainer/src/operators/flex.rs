//! [`Operators`] for the CPU backend, with and without gradients.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::{Autodiff, Flex};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Shape, Tensor};
use burn_flex::{FlexTensor, Layout};
use burn_std::Bytes;

use super::aligned::zeros;
use super::normalization::{Affine, Moments};
use super::simd::Instructions;
use super::{
    AdamStep, Normalized, Operators, SgdStep, Window, convolution, mixing, normalization, update,
};
use super::{unwrap, wrap};

/// A tensor of four axes whose values lie in memory one after another.
struct Dense {
    tensor: FlexTensor,
}

impl Dense {
    fn new(tensor: &FlexTensor) -> Self {
        Self {
            tensor: tensor.to_contiguous(),
        }
    }

    fn values(&self) -> &[f32] {
        self.tensor.storage()
    }

    fn dims(&self) -> [usize; 4] {
        let shape = self.tensor.layout().shape();
        [shape[0], shape[1], shape[2], shape[3]]
    }
}

fn tensor(values: Vec<f32>, shape: &[usize]) -> FlexTensor {
    assert_eq!(
        values.len(),
        shape.iter().product::<usize>(),
        "a tensor's values fill its shape"
    );
    let layout = Layout::contiguous(Shape::from(shape.to_vec()));
    FlexTensor::new(Bytes::from_elems(values), layout, DType::F32)
}

fn convolution_geometry(input: &Dense, weight: &Dense, window: Window) -> convolution::Geometry {
    let [batch, in_channels, height, width] = input.dims();
    let [out_channels, weight_channels, kernel, _] = weight.dims();
    assert_eq!(
        in_channels, weight_channels,
        "the weight is for other inputs"
    );
    assert_eq!(kernel, window.kernel, "the weight is for another window");
    convolution::Geometry {
        batch,
        in_channels,
        height,
        width,
        out_channels,
        window,
    }
}

fn convolve(input: &FlexTensor, weight: &FlexTensor, window: Window) -> FlexTensor {
    let (input, weight) = (Dense::new(input), Dense::new(weight));
    let geometry = convolution_geometry(&input, &weight, window);
    let shape = [
        geometry.batch,
        geometry.out_channels,
        geometry.out_height(),
        geometry.out_width(),
    ];
    let mut output = zeros(shape.iter().product());
    convolution::forward(
        Instructions::best(),
        &geometry,
        input.values(),
        weight.values(),
        &mut output,
    );
    tensor(output, &shape)
}

fn normalize(
    input: &FlexTensor,
    gamma: &FlexTensor,
    beta: &FlexTensor,
    epsilon: f32,
    activate: bool,
) -> (FlexTensor, Vec<Moments>) {
    let (input, gamma, beta) = (Dense::new(input), Dense::new(gamma), Dense::new(beta));
    let affine = Affine {
        gamma: gamma.values(),
        beta: beta.values(),
        epsilon,
    };
    let mut output = zeros(input.values().len());
    let geometry = normalization_geometry(&input);
    let moments = normalization::forward(&geometry, input.values(), affine, activate, &mut output);
    (tensor(output, &input.dims()), moments)
}

fn normalize_by(
    input: &FlexTensor,
    [gamma, beta]: [&FlexTensor; 2],
    [mean, variance]: [&FlexTensor; 2],
    epsilon: f32,
    activate: bool,
) -> FlexTensor {
    let (input, gamma, beta) = (Dense::new(input), Dense::new(gamma), Dense::new(beta));
    let affine = Affine {
        gamma: gamma.values(),
        beta: beta.values(),
        epsilon,
    };
    let (mean, variance) = (Dense::new(mean), Dense::new(variance));
    let moments: Vec<Moments> = mean
        .values()
        .iter()
        .zip(variance.values())
        .map(|(&mean, &variance)| Moments { mean, variance })
        .collect();
    let mut output = zeros(input.values().len());
    let geometry = normalization_geometry(&input);
    normalization::apply(
        &geometry,
        input.values(),
        affine,
        &moments,
        activate,
        &mut output,
    );
    tensor(output, &input.dims())
}

fn normalization_geometry(input: &Dense) -> normalization::Geometry {
    let [batch, channels, height, width] = input.dims();
    normalization::Geometry {
        batch,
        channels,
        pixels: height * width,
    }
}

fn moment_tensors(moments: &[Moments]) -> (FlexTensor, FlexTensor) {
    let shape = [moments.len()];
    let mean = moments.iter().map(|moments| moments.mean).collect();
    let variance = moments.iter().map(|moments| moments.variance).collect();
    (tensor(mean, &shape), tensor(variance, &shape))
}

/// `sum + factors · branch`, in `sum`'s memory if nobody else uses it.
fn add_scaled(sum: FlexTensor, branch: &FlexTensor, factors: &[f32]) -> FlexTensor {
    let mut sum = if sum.is_contiguous() && sum.layout().start_offset() == 0 {
        sum
    } else {
        sum.to_contiguous()
    };
    mixing::add_scaled(sum.storage_mut(), Dense::new(branch).values(), factors);
    sum
}

impl Operators for Flex {
    fn convolution(
        input: Tensor<Self, 4>,
        weight: Tensor<Self, 4>,
        window: Window,
    ) -> Tensor<Self, 4> {
        wrap(convolve(&unwrap(input), &unwrap(weight), window))
    }

    fn batch_norm(
        input: Tensor<Self, 4>,
        gamma: Tensor<Self, 1>,
        beta: Tensor<Self, 1>,
        epsilon: f32,
        activate: bool,
    ) -> Normalized<Self> {
        let (output, moments) = normalize(
            &unwrap(input),
            &unwrap(gamma),
            &unwrap(beta),
            epsilon,
            activate,
        );
        let (mean, variance) = moment_tensors(&moments);
        Normalized {
            output: wrap(output),
            mean: wrap(mean),
            variance: wrap(variance),
        }
    }

    fn normalize_by(
        input: Tensor<Self, 4>,
        [gamma, beta]: [Tensor<Self, 1>; 2],
        [mean, variance]: [Tensor<Self, 1>; 2],
        epsilon: f32,
        activate: bool,
    ) -> Tensor<Self, 4> {
        wrap(normalize_by(
            &unwrap(input),
            [&unwrap(gamma), &unwrap(beta)],
            [&unwrap(mean), &unwrap(variance)],
            epsilon,
            activate,
        ))
    }

    fn mix(
        sum: Tensor<Self, 4>,
        branch: Tensor<Self, 4>,
        forward: &[f32],
        _backward: &[f32],
    ) -> Tensor<Self, 4> {
        wrap(add_scaled(unwrap(sum), &unwrap(branch), forward))
    }

    fn sgd<const D: usize>(
        parameter: Tensor<Self, D>,
        gradient: Tensor<Self, D>,
        velocity: Option<Tensor<Self, D>>,
        step: SgdStep,
    ) -> (Tensor<Self, D>, Tensor<Self, D>) {
        let mut parameter: FlexTensor = unwrap(parameter).to_contiguous();
        let gradient = unwrap(gradient).to_contiguous();
        let mut velocity = match velocity {
            Some(velocity) => unwrap(velocity).to_contiguous(),
            None => FlexTensor::zeros(parameter.layout().shape().clone(), DType::F32),
        };
        update::sgd(
            parameter.storage_mut(),
            gradient.storage(),
            velocity.storage_mut(),
            step,
        );
        (wrap(parameter), wrap(velocity))
    }

    fn adamw<const D: usize>(
        parameter: Tensor<Self, D>,
        gradient: Tensor<Self, D>,
        moments: Option<(Tensor<Self, D>, Tensor<Self, D>)>,
        step: AdamStep,
    ) -> (Tensor<Self, D>, Tensor<Self, D>, Tensor<Self, D>) {
        let mut parameter: FlexTensor = unwrap(parameter).to_contiguous();
        let gradient = unwrap(gradient).to_contiguous();
        let zeros = || FlexTensor::zeros(gradient.layout().shape().clone(), DType::F32);
        let (mut velocity, mut squares) = match moments {
            Some((velocity, squares)) => (
                unwrap(velocity).to_contiguous(),
                unwrap(squares).to_contiguous(),
            ),
            None => (zeros(), zeros()),
        };
        update::adamw(
            parameter.storage_mut(),
            gradient.storage(),
            velocity.storage_mut(),
            squares.storage_mut(),
            step,
        );
        (wrap(parameter), wrap(velocity), wrap(squares))
    }

    fn square_sum<const D: usize>(tensor: Tensor<Self, D>) -> f64 {
        let tensor = unwrap(tensor).to_contiguous();
        update::square_sum(tensor.storage())
    }
}

impl<C: CheckpointStrategy> Operators for Autodiff<Flex, C> {
    fn convolution(
        input: Tensor<Self, 4>,
        weight: Tensor<Self, 4>,
        window: Window,
    ) -> Tensor<Self, 4> {
        let (input, weight) = (unwrap(input), unwrap(weight));
        let output = convolve(&input.primitive, &weight.primitive, window);
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
        let (output, moments) = normalize(
            &input.primitive,
            &gamma.primitive,
            &beta.primitive,
            epsilon,
            activate,
        );
        let (mean, variance) = moment_tensors(&moments);
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
        let output = add_scaled(sum.primitive, &branch.primitive, forward);
        wrap(match Mix.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(backward.to_vec(), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        })
    }
}

#[derive(Debug)]
struct Convolution;

impl Backward<Flex, 2> for Convolution {
    type State = (NodeId, NodeId, Window);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        gradients: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [input_node, weight_node] = ops.parents;
        let (input, weight, window) = ops.state;
        let gradient = Dense::new(&gradients.consume::<Flex>(&ops.node));
        let input = Dense::new(&checkpointer.retrieve_node_output(input));
        let weight = Dense::new(&checkpointer.retrieve_node_output(weight));
        let mut input_gradient = input_node.as_ref().map(|_| zeros(input.values().len()));
        let mut weight_gradient = weight_node.as_ref().map(|_| zeros(weight.values().len()));
        convolution::backward(
            Instructions::best(),
            &convolution_geometry(&input, &weight, window),
            input.values(),
            weight.values(),
            gradient.values(),
            input_gradient.as_deref_mut(),
            weight_gradient.as_deref_mut(),
        );
        if let (Some(node), Some(values)) = (input_node, input_gradient) {
            gradients.register::<Flex>(node.id, tensor(values, &input.dims()));
        }
        if let (Some(node), Some(values)) = (weight_node, weight_gradient) {
            gradients.register::<Flex>(node.id, tensor(values, &weight.dims()));
        }
    }
}

#[derive(Debug)]
struct Normalization;

#[derive(Debug, Clone)]
struct NormalizationState {
    input: NodeId,
    gamma: NodeId,
    beta: NodeId,
    moments: Vec<Moments>,
    epsilon: f32,
    activate: bool,
}

impl Backward<Flex, 3> for Normalization {
    type State = NormalizationState;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        gradients: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [input_node, gamma_node, beta_node] = ops.parents;
        let state = ops.state;
        let gradient = Dense::new(&gradients.consume::<Flex>(&ops.node));
        let input = Dense::new(&checkpointer.retrieve_node_output(state.input));
        let gamma: FlexTensor = checkpointer.retrieve_node_output(state.gamma);
        let beta: FlexTensor = checkpointer.retrieve_node_output(state.beta);
        let (gamma, beta) = (Dense::new(&gamma), Dense::new(&beta));
        let affine = Affine {
            gamma: gamma.values(),
            beta: beta.values(),
            epsilon: state.epsilon,
        };
        let mut input_gradient = zeros(input.values().len());
        let affine_gradient = normalization::backward(
            &normalization_geometry(&input),
            input.values(),
            gradient.values(),
            affine,
            &state.moments,
            state.activate,
            &mut input_gradient,
        );
        let channels = [affine_gradient.len()];
        if let Some(node) = input_node {
            gradients.register::<Flex>(node.id, tensor(input_gradient, &input.dims()));
        }
        if let Some(node) = gamma_node {
            let values = affine_gradient
                .iter()
                .map(|gradient| gradient.gamma)
                .collect();
            gradients.register::<Flex>(node.id, tensor(values, &channels));
        }
        if let Some(node) = beta_node {
            let values = affine_gradient
                .iter()
                .map(|gradient| gradient.beta)
                .collect();
            gradients.register::<Flex>(node.id, tensor(values, &channels));
        }
    }
}

#[derive(Debug)]
struct Mix;

impl Backward<Flex, 2> for Mix {
    type State = Vec<f32>;

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        gradients: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let [sum_node, branch_node] = ops.parents;
        let gradient = gradients.consume::<Flex>(&ops.node);
        if let Some(node) = branch_node {
            let mut scaled = gradient.to_contiguous();
            mixing::scale(scaled.storage_mut(), &ops.state);
            gradients.register::<Flex>(node.id, scaled);
        }
        if let Some(node) = sum_node {
            gradients.register::<Flex>(node.id, gradient);
        }
    }
}
