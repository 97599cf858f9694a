//! [`Operators`] for the CPU backend.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::{Autodiff, Flex};
use burn::tensor::{DType, Shape, Tensor};
use burn_flex::{FlexTensor, Layout};
use burn_std::Bytes;

use super::aligned::zeros;
use super::gradients::Kernels;
use super::normalization::{Affine, Moments};
use super::simd::Instructions;
use super::{
    AdamStep, Normalized, Operators, Running, SgdStep, Window, branch_sum, convolution,
    normalization, update,
};
use super::{take_up, unwrap, wrap};

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

fn moment_tensors(moments: &[Moments]) -> [FlexTensor; 2] {
    let shape = [moments.len()];
    let mean = moments.iter().map(|moments| moments.mean).collect();
    let variance = moments.iter().map(|moments| moments.variance).collect();
    [tensor(mean, &shape), tensor(variance, &shape)]
}

/// `sum + factors · branch`, in `sum`'s memory if nobody else uses it.
fn add_scaled(sum: FlexTensor, branch: &FlexTensor, factors: &[f32]) -> FlexTensor {
    let mut sum = if sum.is_contiguous() && sum.layout().start_offset() == 0 {
        sum
    } else {
        sum.to_contiguous()
    };
    branch_sum::add_scaled(sum.storage_mut(), Dense::new(branch).values(), factors);
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
        affine: [Tensor<Self, 1>; 2],
        running: Running<Self>,
        epsilon: f32,
        activate: bool,
    ) -> Normalized<Self> {
        let [gamma, beta] = affine.map(unwrap);
        let input = unwrap(input);
        let (output, moments, running) =
            Self::normalize(&input, [&gamma, &beta], running, epsilon, activate);
        let [mean, variance] = moment_tensors(&moments);
        Normalized {
            output: wrap(output),
            mean: wrap(mean),
            variance: wrap(variance),
            running,
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
        factors: &Tensor<Self, 1>,
        place: usize,
    ) -> Tensor<Self, 4> {
        let factors = unwrap(factors.clone());
        wrap(Self::add_scaled(
            unwrap(sum),
            &unwrap(branch),
            &factors,
            place,
        ))
    }

    fn sgd(
        parameter: Tensor<Self, 1>,
        gradient: Tensor<Self, 1>,
        velocity: Option<Tensor<Self, 1>>,
        step: SgdStep,
    ) -> (Tensor<Self, 1>, Tensor<Self, 1>) {
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

    fn adamw(
        parameter: Tensor<Self, 1>,
        gradient: Tensor<Self, 1>,
        moments: Option<(Tensor<Self, 1>, Tensor<Self, 1>)>,
        step: AdamStep,
    ) -> (Tensor<Self, 1>, Tensor<Self, 1>, Tensor<Self, 1>) {
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

    fn square_sum(tensors: Vec<Tensor<Self, 1>>) -> f64 {
        let square_sum =
            |tensor: Tensor<Self, 1>| update::square_sum(unwrap(tensor).to_contiguous().storage());
        tensors.into_iter().map(square_sum).sum()
    }
}

impl Kernels for Flex {
    type Moments = Vec<Moments>;

    fn convolve(input: &FlexTensor, weight: &FlexTensor, window: Window) -> FlexTensor {
        convolve(input, weight, window)
    }

    fn convolve_backward(
        input: &FlexTensor,
        weight: &FlexTensor,
        gradient: &FlexTensor,
        window: Window,
        [wants_input, wants_weight]: [bool; 2],
    ) -> [Option<FlexTensor>; 2] {
        let (input, weight) = (Dense::new(input), Dense::new(weight));
        let mut input_gradient = wants_input.then(|| zeros(input.values().len()));
        let mut weight_gradient = wants_weight.then(|| zeros(weight.values().len()));
        convolution::backward(
            Instructions::best(),
            &convolution_geometry(&input, &weight, window),
            input.values(),
            weight.values(),
            Dense::new(gradient).values(),
            input_gradient.as_deref_mut(),
            weight_gradient.as_deref_mut(),
        );
        [
            input_gradient.map(|values| tensor(values, &input.dims())),
            weight_gradient.map(|values| tensor(values, &weight.dims())),
        ]
    }

    fn normalize(
        input: &FlexTensor,
        [gamma, beta]: [&FlexTensor; 2],
        running: Running<Self>,
        epsilon: f32,
        activate: bool,
    ) -> (FlexTensor, Vec<Moments>, Running<Self>) {
        let (output, moments) = normalize(input, gamma, beta, epsilon, activate);
        let [mean, variance] = moment_tensors(&moments);
        let count = output.layout().shape().num_elements() / moments.len();
        let running = take_up(running, wrap(mean), wrap(variance), count);
        (output, moments, running)
    }

    fn moment_tensors(moments: &Vec<Moments>) -> [FlexTensor; 2] {
        moment_tensors(moments)
    }

    fn normalize_backward(
        input: &FlexTensor,
        [gamma, beta]: [&FlexTensor; 2],
        moments: &Vec<Moments>,
        gradient: &FlexTensor,
        epsilon: f32,
        activate: bool,
    ) -> [FlexTensor; 3] {
        let (input, gamma, beta) = (Dense::new(input), Dense::new(gamma), Dense::new(beta));
        let affine = Affine {
            gamma: gamma.values(),
            beta: beta.values(),
            epsilon,
        };
        let mut input_gradient = zeros(input.values().len());
        let affine_gradient = normalization::backward(
            &normalization_geometry(&input),
            input.values(),
            Dense::new(gradient).values(),
            affine,
            moments,
            activate,
            &mut input_gradient,
        );
        let channels = [affine_gradient.len()];
        let gamma = affine_gradient.iter().map(|gradient| gradient.gamma);
        let beta = affine_gradient.iter().map(|gradient| gradient.beta);
        [
            tensor(input_gradient, &input.dims()),
            tensor(gamma.collect(), &channels),
            tensor(beta.collect(), &channels),
        ]
    }

    fn add_scaled(
        sum: FlexTensor,
        branch: &FlexTensor,
        factors: &FlexTensor,
        place: usize,
    ) -> FlexTensor {
        let batch = branch.layout().shape()[0];
        let factors = factors.to_contiguous();
        add_scaled(
            sum,
            branch,
            &factors.storage()[2 * place * batch..][..batch],
        )
    }

    fn scale(gradient: &FlexTensor, factors: &FlexTensor, place: usize) -> FlexTensor {
        let batch = gradient.layout().shape()[0];
        let mut scaled = gradient.to_contiguous();
        let factors = factors.to_contiguous();
        let factors = &factors.storage()[(2 * place + 1) * batch..][..batch];
        branch_sum::scale(scaled.storage_mut(), factors);
        scaled
    }

    fn product<C: CheckpointStrategy>(
        input: Tensor<Autodiff<Self, C>, 2>,
        weight: Tensor<Autodiff<Self, C>, 2>,
    ) -> Tensor<Autodiff<Self, C>, 2> {
        input.matmul(weight.transpose())
    }
}
