//! A training that goes on from a checkpoint: one step of a small network on a few small images.

use data::{ImageShape, Images};
use shared::objective::TrainingSettings;
use shared::{Budget, BudgetUnit, Configuration, Value};
use trainer::augment::PixelValues;
use trainer::device::Device;
use trainer::minibatch::TrainingData;
use trainer::objective::network::NetworkTrainer;
use trainer::objective::{Control, Ended, Task};

const SHAPE: ImageShape = ImageShape {
    channels: 1,
    height: 4,
    width: 4,
};
const NUM_IMAGES: usize = 4;

/// The whole budget is this; a checkpoint of the first half is a seed.
const STEPS: f64 = 2.0;

/// Trains to the end from a checkpoint, if it can be used.
///
/// # Panics
/// If the training ends otherwise than without a checkpoint: whatever a checkpoint holds is not the configuration's
/// fault.
pub(crate) fn train_from(checkpoint: &[u8]) {
    let ended = train(Some(checkpoint.to_vec()), &mut Quiet::default());
    // Weights from anywhere may well diverge.
    assert!(
        matches!(ended, Ended::Evaluated(_) | Ended::Diverged { .. }),
        "{ended:?}"
    );
}

/// A checkpoint of the first half of the training.
pub(crate) fn checkpoint() -> Vec<u8> {
    let mut control = Quiet {
        is_saved_at: Some(STEPS / 2.0),
        saved: Vec::new(),
    };
    train(None, &mut control);
    control.saved
}

fn train(checkpoint: Option<Vec<u8>>, control: &mut Quiet) -> Ended {
    let pixels: Vec<u8> = (0..16 * NUM_IMAGES)
        .map(|i| u8::try_from(i * 37 % 256).expect("below 256"))
        .collect();
    let labels: Vec<u16> = vec![0, 1, 0, 1];
    let images = Images { pixels, labels };
    let trainer = NetworkTrainer {
        data: TrainingData {
            training: &images,
            validation: &images,
            test: None,
            shape: SHAPE,
            classes: 2,
            pixel_values: PixelValues::new(&[0.5], &[0.25]),
        },
        data_digest: "images".into(),
        settings: TrainingSettings::default(),
        device: Device::Cpu,
    };
    let configuration: Configuration = [
        ("groups", Value::Integer(1)),
        ("nr_residual_blocks_1", Value::Integer(1)),
        ("initial_filters", Value::Integer(2)),
        ("batch_size", Value::Integer(4)),
        ("weight_average", Value::Float(0.5)),
        ("optimizer", Value::Text("adamw".into())),
    ]
    .into_iter()
    .collect();
    let task = Task {
        configuration,
        budget: Budget {
            amount: STEPS,
            unit: BudgetUnit::Steps,
        },
        job: shared::ConfigurationId(0).job(0),
        earlier_budgets: Vec::new(),
        seed: 0,
        checks: Vec::new(),
        checkpoint,
    };
    trainer
        .evaluate(&task, control)
        .expect("no file is written")
}

/// Lets a training run, and keeps one checkpoint.
#[derive(Default)]
struct Quiet {
    is_saved_at: Option<f64>,
    saved: Vec<u8>,
}

impl Control for Quiet {
    fn checkpoint_due(&mut self, spent: f64) -> bool {
        self.is_saved_at.is_some_and(|at| spent >= at) && self.saved.is_empty()
    }

    fn save_checkpoint(&mut self, _spent: f64, bytes: &[u8]) -> anyhow::Result<()> {
        self.saved = bytes.to_vec();
        Ok(())
    }
}
