//! Networks whose scores were computed by PyTorch, from the same weights: they must be the same here.
//!
//! The files in `tests/pytorch/` hold weights, images and PyTorch's scores. To make them anew:
//!
//! ```text
//! cargo test -p trainer --test pytorch -- --ignored     # writes weights and images
//! python3 docs/pytorch/scores.py target/tmp trainer/tests/pytorch
//! ```

use std::path::Path;

use burn::backend::Flex;
use burn::backend::flex::FlexDevice;
use data::ImageShape;
use rand::RngExt as _;
use serde_json::{Value, json};
use shared::{Configuration, Seed};
use trainer::checkpoint::{self, Array, Arrays};
use trainer::hyperparameters;
use trainer::network::{Network, weights};
use trainer::trained::Trained;

const CLASSES: usize = 10;
const IMAGES: usize = 3;

/// Both kinds of blocks, both kinds of skips, odd numbers of channels, images of several shapes, all options.
fn cases() -> [(&'static str, Value, ImageShape); 6] {
    let image = |channels, height, width| ImageShape {
        channels,
        height,
        width,
    };
    [
        (
            "identity",
            json!({"nr_residual_blocks_1": 2, "nr_residual_blocks_2": 1, "nr_residual_blocks_3": 1,
                "initial_filters": 8, "widen_factor_1": 1.0, "widen_factor_2": 1.5, "widen_factor_3": 1.0}),
            image(3, 16, 16),
        ),
        (
            "shake-shake",
            json!({"nr_residual_blocks_1": 1, "nr_residual_blocks_2": 1, "nr_residual_blocks_3": 1,
                "initial_filters": 8, "widen_factor_1": 0.5, "widen_factor_2": 2.0, "widen_factor_3": 1.0,
                "res_branches_1": 2, "res_branches_2": 3, "res_branches_3": 2}),
            image(3, 32, 32),
        ),
        (
            "shake-drop",
            json!({"nr_residual_blocks_1": 1, "nr_residual_blocks_2": 2, "nr_residual_blocks_3": 1,
                "initial_filters": 9, "widen_factor_1": 0.6, "widen_factor_2": 1.4, "widen_factor_3": 1.4,
                "death_rate": 0.35}),
            image(3, 12, 12),
        ),
        (
            "smallest",
            json!({"nr_residual_blocks_1": 1, "nr_residual_blocks_2": 1, "nr_residual_blocks_3": 1,
                "initial_filters": 8, "widen_factor_1": 0.5, "widen_factor_2": 0.5, "widen_factor_3": 0.5}),
            image(1, 8, 8),
        ),
        (
            "down-to-one-pixel",
            json!({"groups": 4, "nr_residual_blocks_1": 1, "nr_residual_blocks_2": 1,
                "nr_residual_blocks_3": 1, "nr_residual_blocks_4": 1, "initial_filters": 4,
                "widen_factor_2": 1.0, "widen_factor_3": 1.5, "widen_factor_4": 1.0}),
            image(2, 3, 5),
        ),
        (
            "options",
            json!({"groups": 2, "nr_residual_blocks_1": 1, "nr_residual_blocks_2": 1,
                "initial_filters": 6, "res_branches_2": 2, "kernel_size": 5, "activation": "silu",
                "squeeze_excitation": true}),
            image(3, 9, 14),
        ),
    ]
}

#[test]
fn scores_equal_those_of_pytorch() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pytorch");
    for (name, configuration, shape) in cases() {
        let bytes = fs_err::read(folder.join(format!("{name}.safetensors"))).unwrap();
        let (mut arrays, _) = checkpoint::read(&bytes).unwrap();
        let dims = [IMAGES, shape.channels, shape.height, shape.width];
        let images = arrays.take("images", &dims).unwrap();
        let expected = arrays.take("scores", &[IMAGES, CLASSES]).unwrap();
        let configuration: Configuration = serde_json::from_value(configuration).unwrap();
        let trained = Trained::new(&configuration, shape, CLASSES, arrays.0).unwrap();
        let scale = expected
            .iter()
            .fold(1.0f32, |scale, score| scale.max(score.abs()));
        assert!(
            scale > 0.2,
            "{name}: scores that say something, not {expected:?}"
        );
        for (found, expected) in trained.scores(images).into_iter().zip(expected) {
            let error = (found - expected).abs() / scale;
            assert!(error < 1e-4, "{name}: found {found}, expected {expected}");
        }
    }
}

#[test]
#[ignore = "writes the weights from which docs/pytorch/scores.py makes the files of the test above"]
#[expect(
    clippy::disallowed_methods,
    reason = "files of a test, in cargo's folder for them"
)]
fn write_weights_and_images() {
    for (name, configuration, shape) in cases() {
        let parsed: Configuration = serde_json::from_value(configuration.clone()).unwrap();
        let (config, _) = hyperparameters::read(&parsed, shape, CLASSES).unwrap();
        let mut rng = Seed::new(4).child("weights", name).rng();
        let network = Network::<Flex>::new(&config, &mut rng, &FlexDevice);
        let mut arrays = Arrays(weights::collect(&network).into_iter().collect());
        for array in arrays.0.values_mut().filter(|array| array.shape.len() == 1) {
            // Norms and biases as training leaves them, not as they start.
            array
                .values
                .iter_mut()
                .for_each(|value| *value = rng.random_range(0.5..1.5));
        }
        let dims = vec![IMAGES, shape.channels, shape.height, shape.width];
        let values = (0..dims.iter().product())
            .map(|_| rng.random_range(-2.0..2.0))
            .collect();
        arrays.0.insert(
            "images".to_owned(),
            Array {
                shape: dims,
                values,
            },
        );
        let metadata = json!({ "configuration": configuration.to_string() });
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.safetensors"));
        std::fs::write(path, checkpoint::write(&arrays, metadata)).unwrap();
    }
}
