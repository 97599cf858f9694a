//! Trainings on a GPU: the same as on the CPU, to tolerance. Only run where there is one, by `docs/gpu/measure.sh`.

#![expect(clippy::unwrap_used, reason = "a test")]

use data::{DataSettings, Dataset, DatasetName, Splits};
use shared::objective::TrainingSettings;
use shared::{Budget, BudgetUnit, Configuration, Value};
use trainer::batch::Images;
use trainer::checkpoint::{self, Arrays};
use trainer::device::{Device, DeviceChoice};
use trainer::network::ImageShape;
use trainer::objective::network::{NetworkTrainer, training_data};
use trainer::objective::{Control, Ended, Evaluation, StopReason, Task};

/// Keeps checkpoints, and stops when it is told to.
#[derive(Default)]
struct Script {
    stop_after: Option<u32>,
    steps: u32,
    saved: Option<Vec<u8>>,
}

impl Control for Script {
    fn stop_reason(&mut self) -> Option<StopReason> {
        (self.stop_after == Some(self.steps)).then_some(StopReason::Signal)
    }
    fn progress(&mut self, _spent: f64) {
        self.steps += 1;
    }
    fn checkpoint_due(&mut self, _spent: f64) -> bool {
        self.stop_after.is_none()
    }
    fn save_checkpoint(&mut self, _spent: f64, bytes: &[u8]) -> anyhow::Result<()> {
        self.saved = Some(bytes.to_vec());
        Ok(())
    }
}

fn images(images: &data::Images) -> Images<'_> {
    Images {
        pixels: &images.images,
        labels: &images.labels,
    }
}

fn trainer(splits: &Splits, device: Device) -> NetworkTrainer<'_> {
    let data::Shape {
        channels,
        height,
        width,
    } = splits.shape;
    let shape = ImageShape {
        channels,
        height,
        width,
    };
    NetworkTrainer {
        data: training_data(
            images(&splits.train),
            images(&splits.validation),
            splits.test.as_ref().map(images),
            shape,
            splits.num_classes(),
            &splits.normalisation.mean,
            &splits.normalisation.std,
        ),
        data_digest: splits.digest.to_string(),
        settings: TrainingSettings::default(),
        device,
    }
}

/// Every kind of block and option, for so many steps.
fn task(steps: f64, changes: &[(&str, Value)]) -> Task {
    let values = [
        ("nr_residual_blocks_1", Value::Integer(1)),
        ("nr_residual_blocks_2", Value::Integer(2)),
        ("nr_residual_blocks_3", Value::Integer(1)),
        ("initial_filters", Value::Integer(8)),
        ("res_branches_2", Value::Integer(2)),
        ("death_rate", Value::Float(0.2)),
        ("mixup_alpha", Value::Float(0.2)),
        ("cutout_length", Value::Integer(8)),
        ("label_smoothing", Value::Float(0.1)),
        ("gradient_clipping", Value::Float(5.0)),
        ("weight_average", Value::Float(0.9)),
        ("batch_size", Value::Integer(64)),
        ("learning_rate", Value::Float(0.02)),
    ];
    let mut configuration: Configuration = values.into_iter().collect();
    for (name, value) in changes {
        configuration.set(*name, value.clone());
    }
    Task {
        configuration,
        budget: Budget {
            amount: steps,
            unit: BudgetUnit::Steps,
        },
        job: shared::ConfigurationId(0).job(0),
        earlier_budgets: Vec::new(),
        seed: 1,
        checkpoint: None,
    }
}

fn digits() -> Splits {
    Dataset::load(&DataSettings::new(DatasetName::Digits)).unwrap()
}

/// How a training ended, and the last checkpoint it saved.
fn run(splits: &Splits, device: Device, task: &Task) -> (Evaluation, Arrays) {
    let mut script = Script::default();
    let ended = trainer(splits, device).evaluate(task, &mut script).unwrap();
    let Ended::Evaluated(evaluation) = ended else {
        panic!("ended as {ended:?}")
    };
    let (arrays, _): (Arrays, serde_json::Value) =
        checkpoint::decode(&script.saved.unwrap()).unwrap();
    (evaluation, arrays)
}

fn gpu() -> Device {
    DeviceChoice::Cuda.resolve().unwrap()
}

/// Asserts that all tensors agree, relative to the largest number of each.
fn assert_close(one: &Arrays, other: &Arrays, tolerance: f32) {
    assert_eq!(one.0.len(), other.0.len());
    for (name, array) in &one.0 {
        let scale = array.values.iter().fold(1e-3f32, |a, x| a.max(x.abs()));
        for (a, b) in array.values.iter().zip(&other.0[name].values) {
            assert!((a - b).abs() / scale < tolerance, "{name}: {a} {b}");
        }
    }
}

#[test]
#[ignore = "needs a GPU"]
fn a_few_steps_are_those_of_the_cpu() {
    let splits = digits();
    for changes in [
        vec![],
        vec![
            ("activation", Value::Text("gelu".to_owned())),
            ("squeeze_excitation", Value::Text("true".to_owned())),
            ("kernel_size", Value::Integer(5)),
        ],
    ] {
        let task = task(5.0, &changes);
        let (cpu, weights) = run(&splits, Device::Cpu, &task);
        let (gpu, weights_there) = run(&splits, gpu(), &task);
        for (a, b) in cpu.curve.iter().zip(&gpu.curve) {
            let (a, b) = (a.training_loss.unwrap(), b.training_loss.unwrap());
            println!("training loss {a} on the CPU, {b} on the GPU");
            assert!((a - b).abs() < 1e-2 * a, "{a} {b}");
        }
        assert_close(&weights, &weights_there, 2e-2);
    }
}

#[test]
#[ignore = "needs a GPU"]
fn a_training_goes_on_where_it_was_interrupted() {
    let splits = digits();
    let task = task(12.0, &[]);
    let (whole, weights) = run(&splits, gpu(), &task);
    let mut script = Script {
        stop_after: Some(5),
        ..Script::default()
    };
    let ended = trainer(&splits, gpu()).evaluate(&task, &mut script);
    assert_eq!(ended.unwrap(), Ended::Interrupted);
    let resumed = Task {
        checkpoint: script.saved,
        ..task
    };
    let (rest, weights_again) = run(&splits, gpu(), &resumed);
    assert!((whole.loss - rest.loss).abs() < 0.05);
    assert_close(&weights, &weights_again, 5e-2);
}

#[test]
#[ignore = "needs a GPU"]
fn a_network_learns_and_its_compilation_is_not_in_the_budget() {
    let splits = digits();
    let changes = [("learning_rate", Value::Float(0.05))];
    let mut task = task(9.0, &changes);
    task.budget.unit = BudgetUnit::Epochs;
    let (evaluation, _) = run(&splits, gpu(), &task);
    println!("{:?}", evaluation.measures);
    assert!(evaluation.loss < 0.1, "{}", evaluation.loss);
    assert!(evaluation.measures["warm_up_s"] > 0.0);
}

#[test]
#[ignore = "needs a GPU"]
fn a_network_larger_than_the_gpu_does_not_fit() {
    let splits = digits();
    let largest: Vec<(String, Value)> = (1..=3)
        .flat_map(|group| {
            [
                (format!("nr_residual_blocks_{group}"), Value::Integer(16)),
                (format!("res_branches_{group}"), Value::Integer(5)),
                (format!("widen_factor_{group}"), Value::Float(4.0)),
            ]
        })
        .chain([("initial_filters".to_owned(), Value::Integer(64))])
        .collect();
    let changes: Vec<(&str, Value)> = largest
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    let ended = trainer(&splits, gpu()).evaluate(&task(1.0, &changes), &mut Script::default());
    assert!(matches!(ended.unwrap(), Ended::OutOfMemory { .. }));
}
