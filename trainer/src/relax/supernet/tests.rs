use std::collections::BTreeMap;

use burn::backend::flex::FlexDevice;
use burn::backend::{Autodiff, Flex};
use data::{ImageShape, Images};
use rand::RngExt as _;
use shared::SearchSpace;

use super::super::discretise::discretise;
use super::super::gates::{by_probability, one_hot};
use super::*;
use crate::augment::PixelValues;
use crate::checkpoint::Array;
use crate::minibatch::Pixels;

type Cpu = Autodiff<Flex>;

const SHAPE: ImageShape = ImageShape {
    channels: 1,
    height: 8,
    width: 8,
};
const CLASSES: usize = 4;

/// One group without a skip that changes the shape; `more` are hyperparameters in front of the constants.
fn choices(more: &str) -> Choices {
    let json = format!(
        r#"{{"hyperparameters": [{more},
        {{"name": "groups", "type": "constant", "value": 1}},
        {{"name": "learning_rate", "type": "constant", "value": 0.1}},
        {{"name": "batch_size", "type": "constant", "value": 32}}]}}"#
    );
    let space = SearchSpace::new(&serde_json::from_str(&json).unwrap()).unwrap();
    Choices::new(&space, SHAPE, CLASSES).unwrap()
}

fn small() -> Choices {
    choices(
        r#"{"name": "initial_filters", "type": "integer", "lower": 2, "upper": 4},
        {"name": "kernel_size", "type": "ordinal", "sequence": [1, 3]},
        {"name": "nr_residual_blocks_1", "type": "integer", "lower": 1, "upper": 3},
        {"name": "res_branches_1", "type": "integer", "lower": 1, "upper": 3}"#,
    )
}

/// Stripes of four directions, each image shifted at random, with noise.
fn stripes(number: usize, seed: u64) -> Images {
    let mut rng = Seed::new(seed).rng();
    let mut pixels = Vec::new();
    let labels: Vec<u16> = (0..number)
        .map(|image| u16::try_from(image % CLASSES).unwrap())
        .collect();
    for &label in &labels {
        let shift = rng.random_range(0..4_i32);
        for place in 0..64_i32 {
            let (row, column) = (place / 8, place % 8);
            let along = [row, column, row + column, row - column][usize::from(label)];
            let is_bright = (along + shift).rem_euclid(4) < 2;
            let noise = rng.random_range(-60..60);
            let value = if is_bright { 170 } else { 85 } + noise;
            pixels.push(u8::try_from(value).unwrap());
        }
    }
    Images { pixels, labels }
}

/// Hands out a relaxation on stripes.
fn with_stripes<T>(
    choices: &Choices,
    epochs: u32,
    seed: u64,
    use_it: impl FnOnce(&Relaxation<'_>) -> T,
) -> T {
    let (training, validation) = (stripes(256, 1), stripes(128, 2));
    let data = TrainingData {
        training: &training,
        validation: &validation,
        test: None,
        shape: SHAPE,
        classes: CLASSES,
        pixel_values: PixelValues::new(&[0.5], &[0.25]),
    };
    let settings = TrainingSettings {
        flip: false,
        crop_padding: 0,
        ..TrainingSettings::default()
    };
    use_it(&Relaxation {
        data: &data,
        choices,
        settings: &settings,
        epochs,
        seed: Seed::new(seed),
    })
}

fn found(choices: &Choices, epochs: u32, seed: u64) -> Probabilities {
    with_stripes(choices, epochs, seed, |relaxation| {
        optimise::<Cpu>(relaxation, &FlexDevice, &mut |_, _| {}).unwrap()
    })
}

fn batch() -> Batch {
    let images = stripes(8, 3);
    let pixels = images
        .pixels
        .iter()
        .map(|&pixel| f32::from(pixel) / 64.0 - 2.0);
    let targets = images
        .labels
        .iter()
        .flat_map(|&label| one_hot(usize::from(label), CLASSES));
    Batch {
        pixels: Pixels::Rendered(pixels.collect()),
        targets: targets
            .map(|target| if target > 0.5 { 1.0 } else { 0.0 })
            .collect(),
        len: 8,
    }
}

#[test]
fn derivatives_by_probabilities_are_those_of_finite_differences() {
    let choices = small();
    let even = |number: usize| vec![1.0 / number as f64; number];
    let probabilities: Probabilities = choices.all.iter().map(|c| even(c.levels.len())).collect();
    with_stripes(&choices, 1, 4, |relaxation| {
        let network = relaxation.network::<Cpu>(&FlexDevice);
        let training =
            relaxation.training(relaxation.data, &choices.training, relaxation.settings, "");
        let loss_at = |probabilities: &Probabilities| {
            loss_and_gradient(
                &network,
                batch(),
                &training,
                &choices,
                probabilities,
                &FlexDevice,
            )
        };
        let (_, by_gate) = loss_at(&probabilities);
        let derivatives = by_probability(&choices, &probabilities, &by_gate);
        let mut checked = 0;
        for (choice, derivatives) in derivatives.iter().enumerate() {
            for (level, derivative) in derivatives.iter().enumerate() {
                if derivatives.len() < 2 {
                    continue;
                }
                // From all others to this one: their sum stays 1.
                let others = (derivatives.len() - 1) as f64;
                let moved = |step: f64| {
                    let mut probabilities = probabilities.clone();
                    for (other, probability) in probabilities[choice].iter_mut().enumerate() {
                        *probability += if other == level { step } else { -step / others };
                    }
                    loss_at(&probabilities).0
                };
                let expected = (moved(5e-3) - moved(-5e-3)) / 1e-2;
                let sum: f64 = derivatives.iter().sum();
                let derivative = derivative - (sum - derivative) / others;
                let most = 0.02 + 0.05 * expected.abs();
                let name = &choices.all[choice].name;
                assert!(
                    (derivative - expected).abs() < most,
                    "{name} {level}: {derivative} {expected}"
                );
                checked += 1;
            }
        }
        assert_eq!(checked, 3 + 2 + 3 + 3);
    });
}

/// The first channels of an array and the middle of its kernels.
fn cropped(array: &Array, dims: &[usize]) -> Array {
    let offset = |axis: usize, place: usize| {
        // The last two of four axes are a kernel's.
        let is_kernel = dims.len() == 4 && axis >= 2;
        place
            + if is_kernel {
                (array.shape[axis] - dims[axis]) / 2
            } else {
                0
            }
    };
    let number: usize = dims.iter().product();
    let values = (0..number).map(|index| {
        let mut rest = index;
        let mut place = vec![0; dims.len()];
        for axis in (0..dims.len()).rev() {
            place[axis] = offset(axis, rest % dims[axis]);
            rest /= dims[axis];
        }
        let flat = place
            .iter()
            .zip(&array.shape)
            .fold(0, |flat, (place, size)| flat * size + place);
        array.values[flat]
    });
    Array {
        shape: dims.to_vec(),
        values: values.collect(),
    }
}

#[test]
fn with_certain_levels_the_relaxed_network_is_the_smaller_one() {
    let large = small();
    // Three filters, kernels of 1, two blocks, two branches; no other choice has more than one level.
    let levels: Vec<usize> = large
        .all
        .iter()
        .map(|choice| match choice.name.as_str() {
            "initial_filters" | "nr_residual_blocks_1" | "res_branches_1" => 1,
            _ => 0,
        })
        .collect();
    let configuration = large.configuration(&levels).unwrap();
    let (config, _) = crate::hyperparameters::read(&configuration, SHAPE, CLASSES).unwrap();
    assert_eq!((config.initial_filters, config.kernel), (3, 1));
    assert_eq!((config.groups[0].blocks, config.groups[0].branches), (2, 2));
    let pairs = large.all.iter().zip(&levels);
    let certain = pairs
        .map(|(choice, &level)| one_hot(level, choice.levels.len()))
        .collect();
    with_stripes(&large, 1, 5, |relaxation| {
        let network = relaxation.network::<Cpu>(&FlexDevice);
        let mut rng = Seed::new(6).rng();
        let other: Network<Cpu> = Network::new(&config, &mut rng, &FlexDevice);
        let all: BTreeMap<String, Array> = weights::collect(&network).into_iter().collect();
        let arrays = weights::collect(&other).into_iter().map(|(name, array)| {
            let cropped = cropped(&all[&name], &array.shape);
            (name, cropped)
        });
        let other = weights::restore(other, arrays.collect(), &FlexDevice).unwrap();
        let Pixels::Rendered(images) = batch().pixels else {
            panic!("rendered above")
        };
        let pixels = TensorData::new(images, [8, 1, 8, 8]);
        let pixels: Tensor<Cpu, 4> = Tensor::from_data(pixels, &FlexDevice);
        let numbers = gates::gates(&large, &certain);
        let gates = on_device(&numbers, &flat_tensor::<Cpu>(&numbers, &FlexDevice), &large);
        let relaxed = weights::values(network.forward_relaxed(pixels.clone(), &gates));
        let ones = Tensor::ones([3], &FlexDevice);
        let all_there = network::Gates {
            kernel: None,
            stem: ones.clone(),
            groups: vec![GroupGates {
                channels: ones.clone(),
                branches: vec![vec![ones * 0.5; 2]; 2],
            }],
        };
        let expected = weights::values(other.forward_relaxed(pixels, &all_there));
        for (found, expected) in relaxed.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-4, "{relaxed:?} {expected:?}");
        }
    });
}

#[test]
fn kernels_that_see_directions_are_found_where_directions_are_to_be_told_apart() {
    // Kernels of 1 see single pixels, of which all classes have the same.
    let choices = choices(
        r#"{"name": "kernel_size", "type": "ordinal", "sequence": [1, 3]},
        {"name": "nr_residual_blocks_1", "type": "constant", "value": 1},
        {"name": "initial_filters", "type": "constant", "value": 4}"#,
    );
    for seed in 0..3 {
        let probabilities = found(&choices, 15, seed);
        let configuration = discretise(&choices, &probabilities).unwrap();
        assert_eq!(
            configuration.integer("kernel_size"),
            Some(3),
            "{probabilities:?}"
        );
    }
}

#[test]
fn filters_are_found_where_one_is_not_enough() {
    let choices = choices(
        r#"{"name": "initial_filters", "type": "integer", "lower": 1, "upper": 6},
        {"name": "nr_residual_blocks_1", "type": "constant", "value": 1}"#,
    );
    for seed in 0..3 {
        let probabilities = found(&choices, 15, seed);
        let configuration = discretise(&choices, &probabilities).unwrap();
        let filters = configuration.integer("initial_filters").unwrap();
        assert!(filters >= 3, "{probabilities:?}");
    }
}

#[test]
fn the_same_seed_finds_the_same() {
    let choices = small();
    let first = found(&choices, 2, 7);
    assert_eq!(first, found(&choices, 2, 7));
    assert_ne!(first, found(&choices, 2, 8));
}
