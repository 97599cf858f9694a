use burn::backend::flex::FlexDevice;
use burn::backend::{Autodiff, Flex};
use burn::module::{ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use rand::{RngExt as _, SeedableRng as _};

use super::*;

type Cpu = Autodiff<Flex>;

fn config(blocks: usize, filters: usize, widen: [usize; 3], branches: usize) -> NetworkConfig {
    let mut channels = filters;
    let groups = widen
        .iter()
        .map(|factor| {
            channels *= factor;
            GroupConfig {
                blocks,
                channels,
                branches,
            }
        })
        .collect();
    NetworkConfig {
        image: ImageShape {
            channels: 3,
            height: 32,
            width: 32,
        },
        classes: 10,
        initial_filters: filters,
        kernel: 3,
        groups,
        activation: Activation::Relu,
        squeeze_excitation: false,
        death_rate: 0.5,
        precision: Precision::Fp32,
    }
}

fn smallest() -> NetworkConfig {
    let group = |channels| GroupConfig {
        blocks: 1,
        channels,
        branches: 1,
    };
    NetworkConfig {
        groups: [4, 2, 1].map(group).to_vec(),
        ..config(1, 8, [1, 1, 1], 1)
    }
}

struct Count(usize);

impl<B: Backend> ModuleVisitor<B> for Count {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<B, D>>) {
        let tensor = parameter.val();
        if tensor.is_require_grad() {
            self.0 += tensor.shape().num_elements();
        }
    }
}

/// Parameters of the real module, and the shape it gives for two images.
fn build(config: &NetworkConfig) -> (u64, [usize; 2]) {
    let device = FlexDevice;
    let mut rng = ChaCha12Rng::seed_from_u64(1);
    let network = Network::<Cpu>::new(config, &mut rng, &device);
    let mut count = Count(0);
    network.visit(&mut count);
    let ImageShape {
        channels,
        height,
        width,
    } = config.image;
    let images = Tensor::ones([2, channels, height, width], &device);
    (
        count.0 as u64,
        network.forward_training(images, &mut rng).dims(),
    )
}

#[test]
fn known_networks_have_their_published_numbers_of_parameters() {
    let parameters = |config: &NetworkConfig| Summary::new(config).parameters();
    assert_eq!(
        parameters(&config(4, 16, [2, 2, 2], 2)),
        2_923_162,
        "Shake-Shake-26 2×32d"
    );
    assert_eq!(
        parameters(&config(4, 16, [6, 2, 2], 2)),
        26_192_922,
        "Shake-Shake-26 2×96d"
    );
    assert_eq!(
        parameters(&config(4, 16, [8, 2, 2], 1)),
        23_356_634,
        "WRN-28-8"
    );
    assert_eq!(
        parameters(&config(3, 16, [1, 2, 2], 1)),
        272_474,
        "ResNet-20"
    );
}

#[test]
fn the_space_spans_nine_hundred_to_25_billion_parameters() {
    assert_eq!(Summary::new(&smallest()).parameters(), 903);
    let largest = Summary::new(&config(16, 32, [8, 4, 4], 5)).parameters();
    assert!(
        (25_150_000_000..25_250_000_000).contains(&largest),
        "{largest}"
    );
}

#[test]
fn a_module_has_the_parameters_of_its_plan() {
    let resnet = config(3, 16, [1, 2, 2], 1);
    assert_eq!(build(&resnet), (272_474, [2, 10]));
    assert_eq!(build(&smallest()), (903, [2, 10]));
    for branches in 1..4 {
        for image in [(1, 8, 8), (3, 9, 14), (2, 1, 5)] {
            let (channels, height, width) = image;
            let config = NetworkConfig {
                image: ImageShape {
                    channels,
                    height,
                    width,
                },
                classes: 7,
                kernel: 5,
                activation: [Activation::Relu, Activation::Silu, Activation::Gelu][branches - 1],
                squeeze_excitation: branches > 1,
                ..config(2, 3, [1, 3, 1], branches)
            };
            assert_eq!(build(&config), (Summary::new(&config).parameters(), [2, 7]));
        }
    }
}

#[test]
fn groups_halve_the_image_down_to_one_pixel_and_no_further() {
    let mut deep = config(1, 4, [1, 1, 1], 1);
    deep.groups = vec![deep.groups[0].clone(); 6];
    deep.image = ImageShape {
        channels: 1,
        height: 8,
        width: 8,
    };
    let plan = Summary::new(&deep);
    let heights: Vec<usize> = plan
        .layers
        .iter()
        .filter(|layer| layer.name.ends_with("branches.0.conv2"))
        .map(|layer| layer.output.height)
        .collect();
    assert_eq!(heights, [8, 4, 2, 1, 1, 1]);
    assert_eq!(plan.unhalved, [(5, [1, 1]), (6, [1, 1])]);
    assert_eq!(build(&deep).1, [2, 10]);
}

/// A block, the sum of whose outputs (weighted by fixed numbers) is differentiated.
fn loss_and_gradient(branches: usize, input: &[f32], factors: &[Factors]) -> (f64, Vec<f32>) {
    let device = FlexDevice;
    let group = GroupConfig {
        blocks: 1,
        channels: 4,
        branches,
    };
    let mut rng = ChaCha12Rng::seed_from_u64(3);
    let block = Block::<Cpu>::new(
        &config(1, 1, [1, 1, 1], 1),
        3,
        &group,
        Window::same(3, 2),
        &mut rng,
        &device,
    );
    let data = TensorData::new(input.to_vec(), [2, 3, 4, 4]);
    let x = Tensor::<Cpu, 4>::from_data(data, &device).require_grad();
    let factors = Tensor::from_floats(shake::flat(factors).as_slice(), &device);
    let output = block.forward(x.clone(), &factors, 0, true, None);
    assert_eq!(output.dims(), [2, 4, 2, 2]);
    let weights: Vec<f32> = (0..32).map(|_| rng.random_range(-1.0..1.0)).collect();
    let values: Vec<f32> = output.clone().into_data().to_vec().unwrap();
    // Summed up in double precision, so that the differences of two sums have digits left.
    let loss = values
        .iter()
        .zip(&weights)
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum();
    let weights = Tensor::from_data(TensorData::new(weights, [2, 4, 2, 2]), &device);
    let gradients = (output * weights).sum().backward();
    (
        loss,
        x.grad(&gradients).unwrap().into_data().to_vec().unwrap(),
    )
}

/// The gradient with (forward, backward) factors must be the slope of the block whose forward factors are those backward
/// ones.
fn check_gradient(factors: &[Factors]) {
    let mut rng = ChaCha12Rng::seed_from_u64(11);
    let input: Vec<f32> = (0..96).map(|_| rng.random_range(-1.0..1.0)).collect();
    let branches = factors.len();
    let (_, gradient) = loss_and_gradient(branches, &input, factors);
    let straight: Vec<Factors> = factors
        .iter()
        .map(|f| Factors {
            forward: f.backward.clone(),
            backward: f.backward.clone(),
        })
        .collect();
    let mut compared = 0;
    for index in 0..96 {
        let at = |offset: f32| {
            let mut moved = input.clone();
            moved[index] += offset;
            loss_and_gradient(branches, &moved, &straight).0
        };
        let step = 1e-2;
        let slope = (at(step) - at(-step)) / f64::from(2.0 * step);
        let half = (at(step / 2.0) - at(-step / 2.0)) / f64::from(step);
        // Where a ReLU switches within the step, the two slopes differ and there is nothing to compare.
        if (slope - half).abs() < 2e-3 {
            compared += 1;
            let found = f64::from(gradient[index]);
            assert!(
                (found - half).abs() < 1e-2,
                "[{index}]: found {found}, expected {half}"
            );
        }
    }
    assert!(compared > 48, "only {compared} of 96 slopes are smooth");
}

#[test]
fn the_gradient_of_shake_shake_is_that_of_its_backward_weights() {
    check_gradient(&[
        Factors {
            forward: vec![0.3, 0.6],
            backward: vec![0.8, 0.45],
        },
        Factors {
            forward: vec![0.7, 0.4],
            backward: vec![0.2, 0.55],
        },
    ]);
}

#[test]
fn the_gradient_of_shake_drop_is_that_of_its_backward_weights() {
    check_gradient(&[Factors {
        forward: vec![-0.7, 1.0],
        backward: vec![0.4, 1.0],
    }]);
}

#[test]
fn forward_weights_determine_the_value() {
    let input = vec![0.5; 96];
    let factors = |forward: f32| {
        [Factors {
            forward: vec![forward; 2],
            backward: vec![0.5; 2],
        }]
    };
    let loss = |forward| loss_and_gradient(1, &input, &factors(forward)).0;
    let (none, half, full) = (loss(0.0), loss(0.5), loss(1.0));
    assert!(
        (half - f64::midpoint(none, full)).abs() < 1e-5,
        "{none} {half} {full}"
    );
}

#[test]
fn the_same_seed_builds_the_same_network() {
    let device = FlexDevice;
    let config = config(1, 4, [1, 2, 1], 2);
    let scores = |seed| {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let network = Network::<Cpu>::new(&config, &mut rng, &device);
        network
            .forward(Tensor::ones([1, 3, 32, 32], &device))
            .into_data()
    };
    assert_eq!(scores(1), scores(1));
    assert_ne!(scores(1), scores(2));
}

#[test]
fn running_statistics_are_those_of_the_batches() {
    let device = FlexDevice;
    let norm = Norm::<Cpu>::new(1, &device);
    let data = TensorData::new(vec![1.0f32, 2.0, 3.0, 6.0], [2, 1, 1, 2]);
    norm.forward(Tensor::from_data(data.clone(), &device), true, None, None);
    // Mean 3, unbiased variance 14/3; a tenth of each, and nine tenths of 0 and 1.
    let output = norm.forward(Tensor::from_data(data, &device), false, None, None);
    let expected = |x: f64| (x - 0.3) / (0.9 + 14.0 / 30.0 + 1e-5f64).sqrt();
    let found: Vec<f32> = output.into_data().to_vec().unwrap();
    for (found, x) in found.into_iter().zip([1.0, 2.0, 3.0, 6.0]) {
        assert!((f64::from(found) - expected(x)).abs() < 1e-6);
    }
}
