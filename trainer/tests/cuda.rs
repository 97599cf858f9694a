//! Operations and trainings on a GPU: the same as on the CPU, to tolerance.
//!
//! Run where there is a GPU by `docs/gpu/measure.sh`, and without one, on an emulated driver, by `tests/gpu/run`.

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
use trainer::operators::Window;
use trainer::self_test::{self, operations::Convolution};

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
    let mut worst = (0.0, "");
    for (name, array) in &one.0 {
        let scale = array.values.iter().fold(1e-3f32, |a, x| a.max(x.abs()));
        for (a, b) in array.values.iter().zip(&other.0[name].values) {
            let error = (a - b).abs() / scale;
            if error.is_nan() || error > worst.0 {
                worst = (error, name.as_str());
            }
        }
    }
    assert!(worst.0 < tolerance, "{worst:?}");
}

#[test]
#[ignore = "needs a GPU"]
fn the_self_test_passes_and_its_result_is_kept() {
    let passed = self_test::run_anew(gpu()).unwrap();
    println!("{passed:?}");
    self_test::run(gpu()).unwrap();
    let started = std::time::Instant::now();
    self_test::run(gpu()).unwrap();
    println!("again: {:?}", started.elapsed());
}

/// Every kernel, stride and shift, with odd and even sizes, and channels that fill no tile, one or several.
#[test]
#[ignore = "needs a GPU"]
fn convolutions_and_their_gradients_are_those_of_the_cpu() {
    let windows = [1, 3, 5]
        .into_iter()
        .flat_map(|kernel| [1, 2].map(|stride| Window::same(kernel, stride)));
    let shifted = [1, 2].map(|stride| Window {
        shift: 1,
        ..Window::same(1, stride)
    });
    let shapes = [
        (5, [3, 7], [9, 8]),
        (2, [64, 33], [7, 7]),
        (64, [32, 32], [2, 2]),
        (3, [17, 64], [4, 5]),
        (33, [8, 16], [1, 1]),
        (1, [6, 5], [1, 13]),
    ];
    let mut worst = 0.0f32;
    for window in windows.chain(shifted) {
        for (batch, channels, pixels) in shapes {
            let sizes = Convolution {
                batch,
                channels,
                pixels,
                window,
            };
            let expected = self_test::convolution_on(Device::Cpu, sizes);
            let found = self_test::convolution_on(gpu(), sizes);
            let error = self_test::compare(&sizes.to_string(), &expected, &found).unwrap();
            worst = worst.max(error);
        }
    }
    println!("the largest difference: {worst:.1e}");
}

/// Every kind of network: several branches and one, both skips, gates, all activations, both optimizers.
#[test]
#[ignore = "needs a GPU"]
fn a_few_steps_are_those_of_the_cpu() {
    let splits = digits();
    let text = |text: &str| Value::Text(text.to_owned());
    for changes in [
        vec![],
        vec![
            ("activation", text("gelu")),
            ("squeeze_excitation", text("true")),
            ("kernel_size", Value::Integer(5)),
        ],
        vec![
            ("activation", text("silu")),
            ("optimizer", text("adamw")),
            ("learning_rate", Value::Float(1e-3)),
            ("kernel_size", Value::Integer(1)),
            ("res_branches_1", Value::Integer(3)),
            ("widen_factor_2", Value::Float(1.7)),
        ],
    ] {
        let task = task(5.0, &changes);
        let (cpu, weights) = run(&splits, Device::Cpu, &task);
        let (gpu, weights_there) = run(&splits, gpu(), &task);
        assert_eq!(cpu.curve.len(), gpu.curve.len());
        for (a, b) in cpu.curve.iter().zip(&gpu.curve) {
            let (a, b) = (a.training_loss.unwrap(), b.training_loss.unwrap());
            println!("training loss {a} on the CPU, {b} on the GPU");
            assert!((a - b).abs() < 1e-5 * a, "{a} {b}");
        }
        // Gradients of offsets are sums whose parts cancel: there the last digits of single precision are many.
        assert_close(&weights, &weights_there, 5e-3);
    }
}

#[test]
#[ignore = "needs a GPU"]
fn a_training_is_the_same_from_run_to_run_and_goes_on_where_it_was_interrupted() {
    let splits = digits();
    let task = task(8.0, &[]);
    let (whole, weights) = run(&splits, gpu(), &task);
    let mut script = Script {
        stop_after: Some(3),
        ..Script::default()
    };
    let ended = trainer(&splits, gpu()).evaluate(&task, &mut script);
    assert_eq!(ended.unwrap(), Ended::Interrupted);
    let resumed = Task {
        checkpoint: script.saved,
        ..task
    };
    let (rest, weights_again) = run(&splits, gpu(), &resumed);
    assert_eq!(whole.curve, rest.curve);
    assert!(weights == weights_again, "the same bits");
}

#[test]
#[ignore = "needs a GPU"]
fn a_network_learns_and_its_compilation_is_not_in_the_budget() {
    let splits = digits();
    let mut task = task(2.0, &[]);
    task.budget.unit = BudgetUnit::Epochs;
    let (cpu, _) = run(&splits, Device::Cpu, &task);
    let (gpu, _) = run(&splits, gpu(), &task);
    println!("loss {} on the CPU, {} on the GPU", cpu.loss, gpu.loss);
    assert!(gpu.loss < 0.5 && (cpu.loss - gpu.loss).abs() < 0.05);
    assert!(gpu.measures["warm_up_s"] > 0.0);
}

/// What the emulated driver has counted so far: launches, uploads, downloads and waits; `None` for a real one.
fn counts() -> Option<[i64; 4]> {
    #[expect(unsafe_code, reason = "a function of the emulated driver")]
    // SAFETY: the library is loaded already; the function takes nothing and returns a pointer to six numbers that live as
    // long as the program.
    unsafe {
        let library = libc::dlopen(c"libcuda.so".as_ptr(), libc::RTLD_NOW);
        let function = libc::dlsym(library, c"emulated_gpu_counts".as_ptr());
        if function.is_null() {
            return None;
        }
        let function: extern "C" fn() -> *const [i64; 4] = std::mem::transmute(function);
        Some(*function())
    }
}

/// Notes what has been counted after each step.
#[derive(Default)]
struct Count {
    after: Vec<[i64; 4]>,
}

impl Control for Count {
    fn stop_reason(&mut self) -> Option<StopReason> {
        None
    }
    fn progress(&mut self, _spent: f64) {
        self.after.extend(counts());
    }
    fn checkpoint_due(&mut self, _spent: f64) -> bool {
        false
    }
    fn save_checkpoint(&mut self, _spent: f64, _bytes: &[u8]) -> anyhow::Result<()> {
        Ok(())
    }
}

/// A GPU is slow where a step is many small launches, and where it waits for the host.
#[test]
#[ignore = "needs a GPU"]
fn a_step_takes_few_launches_uploads_and_waits() {
    let splits = digits();
    let mut control = Count::default();
    drop(
        trainer(&splits, gpu())
            .evaluate(&task(5.0, &[]), &mut control)
            .unwrap(),
    );
    let [.., before, after] = control.after.as_slice() else {
        println!("skipped: only the emulated driver counts");
        return;
    };
    let step: Vec<i64> = after
        .iter()
        .zip(before)
        .map(|(after, before)| after - before)
        .collect();
    println!("a step: launches, uploads, downloads, waits: {step:?}");
    for (found, most) in step.iter().zip(MOST) {
        assert!(*found <= most, "{step:?}, at most {MOST:?}");
    }
}

/// Launches, uploads, downloads and waits of a step of the network of these tests.
const MOST: [i64; 4] = [600, 300, 3, 3];

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
