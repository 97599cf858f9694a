use burn::backend::flex::FlexDevice;
use burn::backend::{Autodiff, Flex};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Tensor, TensorData};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::convolution::{self, Geometry};
use super::simd::Instructions;
use super::{AdamStep, stock_adamw, stock_mix, stock_sgd};
use super::{
    Operators as _, Running, SgdStep, Window, reference, stock_batch_norm, stock_convolution,
    stock_cross_entropy, stock_normalize_by, stock_pixel_mean, stock_projection,
};

type Cpu = Autodiff<Flex>;

fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| rng.random_range(-1.0..1.0)).collect()
}

fn leaf<const D: usize>(values: &[f32], dims: [usize; D]) -> Tensor<Cpu, D> {
    let data = TensorData::new(values.to_vec(), dims);
    Tensor::from_data(data, &FlexDevice).require_grad()
}

fn values<const D: usize>(tensor: Tensor<Flex, D>) -> Vec<f32> {
    tensor.into_data().to_vec().unwrap()
}

/// The running statistics before the first batch.
fn fresh(channels: usize) -> Running<Cpu> {
    Running {
        mean: Tensor::zeros([channels], &FlexDevice),
        variance: Tensor::ones([channels], &FlexDevice),
    }
}

/// Asserts that values agree relative to the largest of them.
fn assert_close(name: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let scale = expected
        .iter()
        .fold(1.0f64, |scale, value| scale.max(value.abs()));
    for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs() / scale;
        assert!(
            error < tolerance,
            "{name}[{index}]: found {found}, expected {expected}"
        );
    }
}

fn as_f64(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// Output, gradient of the input, gradient of the weight.
type Convolved = (Vec<f32>, Vec<f32>, Vec<f32>);

fn convolve(
    geometry: Geometry,
    seed: u64,
    operator: impl Fn(Tensor<Cpu, 4>, Tensor<Cpu, 4>, Window) -> Tensor<Cpu, 4>,
) -> Convolved {
    let Geometry {
        batch,
        in_channels,
        height,
        width,
        out_channels,
        window,
    } = geometry;
    let (input_dims, weight_dims) = (
        [batch, in_channels, height, width],
        [out_channels, in_channels, window.kernel, window.kernel],
    );
    let input = leaf(&random(seed, input_dims.iter().product()), input_dims);
    let weight = leaf(&random(seed + 1, weight_dims.iter().product()), weight_dims);
    let output = operator(input.clone(), weight.clone(), window);
    let dims = output.dims();
    let gradient = leaf(&random(seed + 2, dims.iter().product()), dims).detach();
    let gradients = (output.clone() * gradient).sum().backward();
    (
        values(output.inner()),
        gradient_of(&input, &gradients),
        gradient_of(&weight, &gradients),
    )
}

/// A leaf's gradient; zeros where the result does not depend on it at all.
fn gradient_of<const D: usize>(
    leaf: &Tensor<Cpu, D>,
    gradients: &<Cpu as AutodiffBackend>::Gradients,
) -> Vec<f32> {
    let zeros = || leaf.clone().inner().zeros_like();
    values(leaf.grad(gradients).unwrap_or_else(zeros))
}

/// Compares the kernels of every set of instructions with the definition.
fn compare_with_definition(geometry: &Geometry, seed: u64) {
    let Geometry {
        batch,
        in_channels,
        height,
        width,
        out_channels,
        window,
    } = *geometry;
    let input = random(seed, batch * in_channels * height * width);
    let weight = random(seed + 1, out_channels * in_channels * window.kernel.pow(2));
    let expected = reference::convolution(geometry, &input, &weight);
    let gradient = random(seed + 2, expected.len());
    let (by_input, by_weight) =
        reference::convolution_gradients(geometry, &input, &weight, &gradient);
    for instructions in Instructions::all() {
        let mut output = vec![0.0; expected.len()];
        convolution::forward(instructions, geometry, &input, &weight, &mut output);
        assert_close("output", &output, &expected, 1e-5);
        let mut input_gradient = vec![0.0; input.len()];
        let mut weight_gradient = vec![0.0; weight.len()];
        convolution::backward(
            instructions,
            geometry,
            &input,
            &weight,
            &gradient,
            Some(&mut input_gradient),
            Some(&mut weight_gradient),
        );
        assert_close("input gradient", &input_gradient, &by_input, 1e-5);
        assert_close("weight gradient", &weight_gradient, &by_weight, 1e-5);
    }
}

prop_compose! {
    fn geometries()(
        batch in 1usize..9,
        in_channels in 1usize..7,
        out_channels in 1usize..20,
        kernel in prop::sample::select(vec![1usize, 3, 5]),
        stride in 1usize..4,
        padding in 0usize..3,
        shifted in any::<bool>(),
        extra_height in 0usize..12,
        extra_width in 0usize..40,
    ) -> Geometry {
        let shift = usize::from(shifted && padding == 0);
        let least = kernel.saturating_sub(2 * padding).max(1);
        Geometry {
            batch,
            in_channels,
            height: least + extra_height,
            width: least + extra_width,
            out_channels,
            window: Window { kernel, stride, padding, shift, ..Window::same(1, 1) },
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn convolution_and_its_gradients_equal_their_definition(
        geometry in geometries(),
        seed in 0u64..1000,
    ) {
        compare_with_definition(&geometry, seed);
    }

    #[test]
    fn convolution_of_many_channels_and_its_gradients_equal_their_definition(
        batch in 1usize..7,
        in_channels in 32usize..70,
        out_channels in 32usize..70,
        height in 1usize..8,
        width in 1usize..10,
        seed in 0u64..1000,
    ) {
        let window = Window::same(3, 1);
        let geometry = Geometry { batch, in_channels, height, width, out_channels, window };
        prop_assert!(geometry.winograd().is_worth_it(window), "the other way is tested above");
        compare_with_definition(&geometry, seed);
    }

    #[test]
    fn convolution_and_its_gradients_equal_those_of_burn(
        geometry in geometries(),
        seed in 0u64..1000,
    ) {
        let own = convolve(geometry, seed, Cpu::convolution);
        let stock = convolve(geometry, seed, stock_convolution);
        assert_close("output", &own.0, &as_f64(&stock.0), 1e-5);
        assert_close("input gradient", &own.1, &as_f64(&stock.1), 1e-5);
        assert_close("weight gradient", &own.2, &as_f64(&stock.2), 1e-5);
    }

    #[test]
    fn batch_norm_and_its_gradients_equal_definition_and_burn(
        batch in 1usize..9,
        channels in 1usize..6,
        height in 2usize..7,
        width in 1usize..40,
        activate in any::<bool>(),
        seed in 0u64..1000,
    ) {
        let dims = [batch, channels, height, width];
        let len = dims.iter().product();
        let (input, gradient) = (random(seed, len), random(seed + 1, len));
        let (gamma, beta) = (random(seed + 2, channels), random(seed + 3, channels));
        let run = |own: bool| {
            let (x, g, b) = (leaf(&input, dims), leaf(&gamma, [channels]), leaf(&beta, [channels]));
            let (x_, affine, running) = (x.clone(), [g.clone(), b.clone()], fresh(channels));
            let result = if own {
                Cpu::batch_norm(x_, affine, running, 1e-5, activate)
            } else {
                stock_batch_norm(x_, affine, running, 1e-5, activate)
            };
            let weighted = result.output.clone() * leaf(&gradient, dims).detach();
            let gradients = weighted.sum().backward();
            [
                values(result.output.inner()),
                values(result.mean.inner()),
                values(result.variance.inner()),
                values(x.grad(&gradients).unwrap()),
                values(g.grad(&gradients).unwrap()),
                values(b.grad(&gradients).unwrap()),
            ]
        };
        let expected = reference::batch_norm(
            [batch, channels, height * width], &input, &gamma, &beta, 1e-5, activate, &gradient,
        );
        let expected = [
            expected.output,
            expected.mean,
            expected.variance,
            expected.input_gradient,
            expected.gamma_gradient,
            expected.beta_gradient,
        ];
        let names = ["output", "mean", "variance", "input gradient", "gamma's", "beta's"];
        let (own, stock) = (run(true), run(false));
        for index in 0..names.len() {
            assert_close(names[index], &own[index], &expected[index], 1e-4);
            assert_close(names[index], &own[index], &as_f64(&stock[index]), 1e-4);
        }
    }

    #[test]
    fn mixing_uses_one_factor_forward_and_the_other_backward(
        batch in 1usize..5,
        channels in 1usize..4,
        size in 1usize..9,
        seed in 0u64..1000,
    ) {
        let dims = [batch, channels, size, size];
        let len: usize = dims.iter().product();
        let (forward, backward) = (random(seed, batch), random(seed + 1, batch));
        let gradient = random(seed + 2, len);
        let (sum_values, branch_values) = (random(seed + 3, len), random(seed + 4, len));
        let run = |own: bool| {
            let (sum, branch) = (leaf(&sum_values, dims), leaf(&branch_values, dims));
            // Those of another branch come first.
            let factors = [vec![9.0; 2 * batch], forward.clone(), backward.clone()].concat();
            let factors = leaf(&factors, [4 * batch]).detach();
            let output = if own {
                Cpu::mix(sum.clone(), branch.clone(), &factors, 1)
            } else {
                stock_mix(sum.clone(), branch.clone(), &factors, 1)
            };
            let gradients = (output.clone() * leaf(&gradient, dims).detach()).sum().backward();
            [
                values(output.inner()),
                values(sum.grad(&gradients).unwrap()),
                values(branch.grad(&gradients).unwrap()),
            ]
        };
        let image = len / batch;
        let expected = [
            (0..len)
                .map(|i| f64::from(sum_values[i] + forward[i / image] * branch_values[i]))
                .collect(),
            as_f64(&gradient),
            (0..len).map(|i| f64::from(backward[i / image] * gradient[i])).collect::<Vec<_>>(),
        ];
        for (own, (stock, expected)) in run(true).iter().zip(run(false).iter().zip(&expected)) {
            assert_close("own", own, expected, 1e-6);
            assert_close("stock", stock, expected, 1e-6);
        }
    }
}

#[test]
fn blocks_of_channels_of_pixels_and_of_images_add_up() {
    let convolution = |batch, in_channels, out_channels, height, width| Geometry {
        batch,
        in_channels,
        height,
        width,
        out_channels,
        window: Window::same(3, 1),
    };
    // More factors than are worked through at once, more pixels, and groups of 16 images of which the last is short.
    for geometry in [
        convolution(3, 40, 13, 7, 7),
        convolution(2, 2, 3, 60, 50),
        convolution(75, 3, 5, 8, 8),
        // Several channel blocks, panels of different widths, and rows of tiles that are worked on in parts.
        convolution(2, 256, 70, 5, 6),
        convolution(1, 32, 33, 21, 80),
    ] {
        compare_with_definition(&geometry, 1);
    }
}

#[test]
fn convolution_does_not_depend_on_the_number_of_threads() {
    for (in_channels, out_channels) in [(5, 11), (33, 40)] {
        let geometry = Geometry {
            batch: 37,
            in_channels,
            height: 9,
            width: 7,
            out_channels,
            window: Window::same(3, 1),
        };
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| convolve(geometry, 3, Cpu::convolution))
        };
        let one = run(1);
        assert_eq!(one, run(2));
        assert_eq!(one, run(5));
    }
}

#[test]
fn batch_norm_does_not_depend_on_the_number_of_threads() {
    let dims = [13, 7, 5, 9];
    let len = dims.iter().product();
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let input = leaf(&random(1, len), dims);
            let (gamma, beta) = (leaf(&random(2, 7), [7]), leaf(&random(3, 7), [7]));
            let affine = [gamma.clone(), beta];
            let result = Cpu::batch_norm(input.clone(), affine, fresh(7), 1e-5, true);
            let loss = (result.output.clone() * leaf(&random(4, len), dims).detach()).sum();
            let gradients = loss.backward();
            [
                values(result.output.inner()),
                values(input.grad(&gradients).unwrap()),
                values(gamma.grad(&gradients).unwrap()),
            ]
        })
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
}

#[test]
fn normalisation_by_given_statistics_equals_definition_and_burn() {
    let dims = [3, 5, 4, 7];
    let input = random(1, dims.iter().product());
    let [gamma, beta, mean] = [2, 3, 4].map(|seed| random(seed, 5));
    let variance: Vec<f32> = random(5, 5).iter().map(|x| x.abs()).collect();
    for activate in [false, true] {
        let expected: Vec<f32> = input
            .iter()
            .enumerate()
            .map(|(index, x)| {
                let channel = index / 28 % 5;
                let normalized = (x - mean[channel]) / (variance[channel] + 1e-5).sqrt();
                let y = gamma[channel] * normalized + beta[channel];
                if activate { y.max(0.0) } else { y }
            })
            .collect();
        let vector = |values: &[f32]| leaf(values, [5]).inner();
        let affine = || [vector(&gamma), vector(&beta)];
        let moments = || [vector(&mean), vector(&variance)];
        let tensor = || leaf(&input, dims).inner();
        let own = Flex::normalize_by(tensor(), affine(), moments(), 1e-5, activate);
        let stock = stock_normalize_by(tensor(), affine(), moments(), 1e-5, activate);
        let (own, stock) = (values(own), values(stock));
        for ((own, stock), expected) in own.into_iter().zip(stock).zip(expected) {
            let scale = 1e-5 * (1.0 + expected.abs()) * 10.0;
            assert!((own - expected).abs() < scale, "{own} {expected}");
            assert!((stock - expected).abs() < scale, "{stock} {expected}");
        }
    }
    // What is not finite must not be hidden by the activation.
    let one = |x| leaf(&[x], [1]).inner();
    let nan = leaf(&[f32::NAN], [1, 1, 1, 1]).inner();
    let output = Flex::normalize_by(nan, [one(1.0), one(0.0)], [one(0.0), one(1.0)], 0.0, true);
    assert!(values(output)[0].is_nan());
}

#[test]
fn a_shifted_window_sees_zero_beyond_a_single_pixel() {
    let window = Window {
        shift: 1,
        ..Window::same(1, 1)
    };
    for operator in [Cpu::convolution, stock_convolution] {
        let output = operator(
            leaf(&[3.0], [1, 1, 1, 1]),
            leaf(&[2.0], [1, 1, 1, 1]),
            window,
        );
        assert_eq!(values(output.inner()), [0.0]);
    }
}

#[test]
fn sgd_takes_the_steps_of_nesterov_momentum_worked_by_hand() {
    let step = SgdStep {
        rate: 0.5,
        momentum: 0.5,
        weight_decay: 0.25,
    };
    let tensor = |value: f32| Tensor::<Flex, 1>::from_floats([value], &FlexDevice);
    // g = 1 + 0.25·2 = 1.5; v = 1.5; p = 2 − 0.5·(1.5 + 0.75) = 0.875.
    // g = 1 + 0.25·0.875 = 1.21875; v = 0.75 + 1.21875; p = 0.875 − 0.5·(1.21875 + 0.984375).
    for sgd in [Flex::sgd, stock_sgd::<Flex>] {
        let (parameter, velocity) = sgd(tensor(2.0), tensor(1.0), None, step);
        assert_eq!(values(parameter.clone()), [0.875]);
        let (parameter, velocity) = sgd(parameter, tensor(1.0), Some(velocity), step);
        assert_eq!(values(velocity), [1.968_75]);
        assert_eq!(values(parameter), [-0.226_562_5]);
    }
}

#[test]
fn adamw_takes_the_steps_worked_by_hand() {
    // β₁ 0.5, β₂ 0.75, rate 0.1, decay 0.5; gradients 1 and −2.
    let step = |number: i32| AdamStep {
        rate: 0.1 / (1.0 - 0.5f32.powi(number)),
        momentum: 0.5,
        squares: 0.75,
        correction: (1.0 - 0.75f32.powi(number)).sqrt(),
        shrinkage: 0.95,
    };
    let tensor = |value: f32| Tensor::<Flex, 1>::from_floats([value], &FlexDevice);
    for adamw in [Flex::adamw, stock_adamw::<Flex>] {
        // m = 0.5, v = 0.25; both corrected 1: the parameter is 0.95·2 − 0.1.
        let (parameter, m, v) = adamw(tensor(2.0), tensor(1.0), None, step(1));
        assert_close("first", &values(parameter.clone()), &[1.8], 1e-6);
        // m = −0.75, corrected −1; v = 0.1875 + 1 = 1.1875, corrected 1.1875 / 0.4375.
        let (parameter, m, v) = adamw(parameter, tensor(-2.0), Some((m, v)), step(2));
        assert_close(
            "moments",
            &[values(m), values(v)].concat(),
            &[-0.75, 1.1875],
            1e-6,
        );
        let expected = 0.95 * 1.8 + 0.1 / (1.1875f64 / 0.4375).sqrt();
        assert_close("second", &values(parameter), &[expected], 1e-6);
    }
}

#[test]
fn squares_are_summed_over_all_values() {
    let tensor = Tensor::<Flex, 1>::from_floats([1.0, -2.0, 3.0].repeat(7).as_slice(), &FlexDevice);
    assert!((Flex::square_sum(vec![tensor]) - 98.0).abs() < 1e-9);
}

/// Those operators whose gradients are our own everywhere, beside burn's.
#[test]
fn the_ends_of_a_network_and_their_gradients_equal_those_of_burn() {
    let input = random(1, 2 * 3 * 4 * 5);
    let run = |own: bool| {
        let x = leaf(&input, [2, 3, 4, 5]);
        let (weight, bias) = (leaf(&random(2, 12), [4, 3]), leaf(&random(3, 4), [4]));
        let targets = leaf(&[0.5, 0.5, 0.0, 0.0, 0.0, 0.1, 0.2, 0.7], [2, 4]).detach();
        let (activated, joined) = if own {
            (
                Cpu::rectify(x.clone()),
                Cpu::join(x.clone(), Cpu::rectify(x.clone())),
            )
        } else {
            let activated = burn::tensor::activation::relu(x.clone());
            (
                activated.clone(),
                Tensor::cat(vec![x.clone(), activated], 1),
            )
        };
        assert_eq!(joined.dims(), [2, 6, 4, 5]);
        let seen = activated + joined.slice([0..2, 2..5, 0..4, 0..5]);
        let loss = if own {
            let scores = Cpu::project(Cpu::pixel_mean(seen), weight.clone(), bias.clone());
            Cpu::cross_entropy(scores * 3.0, targets)
        } else {
            let scores = stock_projection(stock_pixel_mean(seen), weight.clone(), bias.clone());
            stock_cross_entropy(scores * 3.0, targets)
        };
        let gradients = loss.backward();
        [
            values(loss.clone().inner()),
            values(x.grad(&gradients).unwrap()),
            values(weight.grad(&gradients).unwrap()),
            values(bias.grad(&gradients).unwrap()),
        ]
    };
    for (own, stock) in run(true).iter().zip(run(false)) {
        assert_close("own", own, &as_f64(&stock), 1e-6);
    }
}
