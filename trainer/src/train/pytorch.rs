//! A few steps of training as PyTorch takes them from the same weights: forward pass, gradients, optimizer, all options.
//!
//! The files in `tests/pytorch/steps/` hold what training starts from and what PyTorch made of it. To make them anew:
//!
//! ```text
//! cargo test -p trainer --lib -- --ignored --exact train::pytorch::write_what_training_starts_from
//! python3 docs/pytorch/steps.py /tmp/tandem-steps trainer/tests/pytorch/steps
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use burn::backend::flex::FlexDevice;
use burn::backend::{Autodiff, Flex};
use data::ImageShape;
use rand::RngExt as _;
use serde_json::{Value, json};

use super::*;
use crate::augment::PixelValues;
use crate::checkpoint::{self, Array, Arrays};
use crate::hyperparameters;
use crate::network::weights;

type Cpu = Autodiff<Flex>;

const STEPS: u8 = 4;

/// A training without anything random: one branch a block, and images as they are.
struct Case {
    name: &'static str,
    configuration: Value,
    image: ImageShape,
    classes: usize,
    batch: usize,
}

fn cases() -> [Case; 4] {
    let case = |name, configuration, (channels, height, width), classes, batch| Case {
        name,
        configuration,
        image: ImageShape {
            channels,
            height,
            width,
        },
        classes,
        batch,
    };
    [
        case(
            "sgd",
            json!({"nr_residual_blocks_1": 2, "nr_residual_blocks_2": 1, "nr_residual_blocks_3": 1,
                "initial_filters": 4, "widen_factor_2": 1.5, "widen_factor_3": 1.0, "learning_rate": 0.1,
                "weight_decay": 0.01, "momentum": 0.8, "label_smoothing": 0.1, "gradient_clipping": 0.5,
                "weight_average": 0.7, "warm_up": 0.5}),
            (1, 9, 9),
            100,
            6,
        ),
        case(
            "adamw",
            json!({"groups": 2, "nr_residual_blocks_1": 1, "nr_residual_blocks_2": 1, "initial_filters": 5,
                "activation": "silu", "kernel_size": 5, "squeeze_excitation": true, "optimizer": "adamw",
                "learning_rate": 0.01, "weight_decay": 0.1, "momentum": 0.85}),
            (3, 11, 7),
            10,
            6,
        ),
        case(
            "gelu",
            json!({"groups": 4, "nr_residual_blocks_1": 1, "nr_residual_blocks_2": 1, "nr_residual_blocks_3": 1,
                "nr_residual_blocks_4": 1, "initial_filters": 3, "widen_factor_2": 1.0, "widen_factor_3": 1.0,
                "widen_factor_4": 1.0, "kernel_size": 1, "activation": "gelu", "learning_rate": 0.05}),
            (3, 33, 33),
            3,
            2,
        ),
        case(
            "one-pixel",
            json!({"groups": 5, "nr_residual_blocks_1": 1, "nr_residual_blocks_2": 1, "nr_residual_blocks_3": 1,
                "nr_residual_blocks_4": 1, "nr_residual_blocks_5": 2, "initial_filters": 3,
                "widen_factor_2": 1.0, "widen_factor_3": 1.0, "widen_factor_4": 1.0, "widen_factor_5": 1.0,
                "kernel_size": 7, "momentum": 0.0, "weight_decay": 0.0, "learning_rate": 0.02}),
            (1, 8, 8),
            2,
            8,
        ),
    ]
}

/// Calls `check` with the training that a case is.
fn with_training(case: &Case, check: impl FnOnce(&Training<'_>)) {
    let parsed = serde_json::from_value(case.configuration.clone()).unwrap();
    let (network, config) = hyperparameters::read(&parsed, case.image, case.classes).unwrap();
    let nothing = Images::default();
    let data = TrainingData {
        training: &nothing,
        validation: &nothing,
        test: None,
        shape: case.image,
        classes: case.classes,
        pixel_values: PixelValues::new(&[0.0], &[1.0]),
    };
    check(&Training {
        data: &data,
        network: &network,
        config: &config,
        settings: &TrainingSettings::default(),
        budget: Budget {
            amount: f64::from(STEPS),
            unit: BudgetUnit::Steps,
        },
        checks: &[],
        schedule: Schedule::new(f64::from(STEPS), 0, &[]).with_warm_up(config.warm_up),
        seed: Seed::new(2),
        identity: String::new(),
        is_compiled: false,
        images_fit: false,
    });
}

#[test]
fn steps_of_training_are_those_of_pytorch() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pytorch/steps");
    for case in cases() {
        let bytes = fs_err::read(folder.join(format!("{}.safetensors", case.name))).unwrap();
        let (mut arrays, _) = checkpoint::read(&bytes).unwrap();
        let ImageShape {
            channels,
            height,
            width,
        } = case.image;
        let dims = [case.batch, channels, height, width];
        let pixels = arrays.take("images", &dims).unwrap();
        let targets = arrays.take("targets", &[case.batch, case.classes]).unwrap();
        let losses = arrays.take("losses", &[usize::from(STEPS)]).unwrap();
        let mut of = |prefix: &str| -> BTreeMap<String, Array> {
            let names: Vec<String> = arrays.0.keys().cloned().collect();
            let own = names.iter().filter_map(|name| {
                let short = name.strip_prefix(prefix)?.to_owned();
                Some((short, arrays.0.remove(name)?))
            });
            own.collect()
        };
        let (start, trained, averaged) = (of("start."), of("trained."), of("averaged."));
        assert!(start.len() == trained.len() && trained.len() > 10);
        with_training(&case, |training| {
            let mut state = State::<Cpu>::new(training, &FlexDevice);
            state.network = weights::restore(state.network, start, &FlexDevice).unwrap();
            let run = Run {
                training,
                kept: None,
                device: &FlexDevice,
                steps_per_epoch: 1,
            };
            for expected in losses {
                let batch = Batch {
                    pixels: Pixels::Rendered(pixels.clone()),
                    targets: targets.clone(),
                    len: case.batch,
                };
                let loss;
                (state, loss) = run.step(state, batch);
                let loss = f64::from(weights::values(loss)[0]);
                assert!(
                    (loss - f64::from(expected)).abs() < 1e-4 * loss.max(1.0),
                    "{}: loss {loss}, expected {expected}",
                    case.name
                );
            }
            let found = weights::collect(&state.network).into_iter().collect();
            assert_close(case.name, &found, &trained);
            if !averaged.is_empty() {
                let average = state.optimizer.averaged(state.network.valid());
                let found = weights::collect(&average).into_iter().collect();
                assert_close(case.name, &found, &averaged);
            }
        });
    }
}

fn assert_close(case: &str, found: &BTreeMap<String, Array>, expected: &BTreeMap<String, Array>) {
    assert!(found.keys().eq(expected.keys()), "{case}");
    for (name, expected) in expected {
        let scale = expected.values.iter().fold(1.0f32, |a, x| a.max(x.abs()));
        for (found, expected) in found[name].values.iter().zip(&expected.values) {
            assert!(
                (found - expected).abs() < 1e-4 * scale,
                "{case}, {name}: found {found}, expected {expected}"
            );
        }
    }
}

#[test]
#[ignore = "writes what docs/pytorch/steps.py makes the files of the test above from"]
fn write_what_training_starts_from() {
    let folder = std::env::temp_dir().join("tandem-steps");
    fs_err::create_dir_all(&folder).unwrap();
    for case in cases() {
        with_training(&case, |training| {
            let state = State::<Cpu>::new(training, &FlexDevice);
            let mut rng = Seed::new(6).child("data", case.name).rng();
            let mut arrays = Arrays::default();
            for (name, array) in weights::collect(&state.network) {
                arrays.0.insert(format!("start.{name}"), array);
            }
            let ImageShape {
                channels,
                height,
                width,
            } = case.image;
            let mut targets = vec![0.0; case.batch * case.classes];
            for image in targets.chunks_exact_mut(case.classes) {
                // Mixed images have two classes.
                image[rng.random_range(0..case.classes)] += 0.75;
                image[rng.random_range(0..case.classes)] += 0.25;
            }
            let shape = vec![case.batch, channels, height, width];
            let values = (0..shape.iter().product())
                .map(|_| rng.random_range(-2.0..2.0))
                .collect();
            arrays
                .0
                .insert("images".to_owned(), Array { shape, values });
            let shape = vec![case.batch, case.classes];
            let values = targets;
            arrays
                .0
                .insert("targets".to_owned(), Array { shape, values });
            let metadata = json!({ "configuration": case.configuration.to_string() });
            let path = folder.join(format!("{}.safetensors", case.name));
            shared::fs::replace(&path, &checkpoint::write(&arrays, metadata)).unwrap();
        });
    }
}
