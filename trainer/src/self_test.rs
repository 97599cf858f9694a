//! Whether a device computes what the CPU does, asked before the first job on it.
//!
//! Some convolutions with all gradients, norms, mixing, and a training of two steps are computed with the CPU's kernels and
//! on the device. What passed is written down for this device, driver and program, so that the next trainer starts at
//! once; what failed is not, and is asked anew.

pub mod operations;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use burn::tensor::backend::Backend as _;
use shared::exit::{Code, Failure};
use shared::objective::{Precision, TrainingSettings};
use shared::{Budget, BudgetUnit, Configuration, Value};

use self::operations::{Convolution, Results};
use crate::augment::PixelValues;
use crate::checkpoint::{self, Arrays};
use crate::device::{Device, with_backend};
use crate::minibatch::TrainingData;
use crate::objective::network::NetworkTrainer;
use crate::objective::{Control, Ended, Task};
use crate::operators::{AdamStep, Descent, SgdStep, TrainingBackend, Window};
use data::{ImageShape, Images};

/// How far an operation's results may be from the CPU's, relative to the largest of them.
///
/// Sums of a few thousand products in single precision differ by 1e-6 when their order does; a tensor core's TF32 is off by
/// 3e-4 and is found out.
pub(crate) const TOLERANCE: f32 = 2e-5;

/// A device that computes something else than the CPU.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A result is off.
    #[error(
        "{operation}: the {result} is off by {error:.1e} of its largest value ({found} for {expected}); \
         up to {TOLERANCE:.0e} is rounding"
    )]
    Wrong {
        /// What was computed.
        operation: String,
        /// Which of its results.
        result: String,
        /// The largest difference, relative to the largest value.
        error: f32,
        /// What the device says there.
        found: f32,
        /// What the CPU says.
        expected: f32,
    },
    /// There is no result.
    #[error("{operation}: {message}")]
    Failed {
        /// What was computed.
        operation: String,
        /// In the device's words.
        message: String,
    },
}

/// What passed.
#[derive(Debug, Clone, PartialEq)]
pub struct Passed {
    /// The device, its driver and this program.
    pub identity: String,
    /// Operations that were compared; none if an earlier program has done it.
    pub operations: usize,
    /// The largest difference that was found, relative to the largest value of its result.
    pub worst: f32,
}

/// Tests the device, unless it has passed before.
///
/// # Errors
/// The first operation that is wrong: exit code 3.
pub fn ensure_passed(device: Device) -> Result<(), Failure> {
    let Some(identity) = device.identity() else {
        return Ok(()); // the CPU is what others are compared with
    };
    let file = passed_file(&identity);
    let earlier = file.as_ref().map(|file| shared::fs::read_if_there(file));
    if let Some(Ok(Some(earlier))) = earlier
        && earlier == identity.as_bytes()
    {
        return Ok(());
    }
    let passed = run_anew(device).map_err(|fault| refused(device, fault))?;
    tracing::info!(worst = passed.worst, "{device} computes what the CPU does");
    if let Some(file) = &file
        && let Some(folder) = file.parent()
    {
        let kept = shared::fs::make_folder(folder)
            .and_then(|()| shared::fs::replace(file, identity.as_bytes()));
        if let Err(error) = kept {
            tracing::debug!("the device will be tested again: {error}");
        }
    }
    Ok(())
}

/// Tests the device, whatever was found before.
///
/// # Errors
/// The first operation that is wrong.
pub fn run_anew(device: Device) -> Result<Passed, Fault> {
    let mut passed = Passed {
        identity: device.identity().unwrap_or_else(|| device.to_string()),
        operations: 0,
        worst: 0.0,
    };
    for (operation, compute) in cases(device) {
        let expected = compute(Device::Cpu);
        let found = catch_unwind(AssertUnwindSafe(|| ask(&compute, device)))
            .unwrap_or_else(|panic| Err(panic_message(panic.as_ref()).to_owned()))
            .map_err(|message| Fault::Failed {
                operation: operation.clone(),
                message,
            })?;
        let worst = compare(&operation, &expected, &found)?;
        passed.operations += 1;
        passed.worst = passed.worst.max(worst);
    }
    let worst = compare_training(device)?;
    passed.operations += 1;
    passed.worst = passed.worst.max(worst);
    Ok(passed)
}

/// Arguments of `trainer self-test`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How and where to compute
    #[command(flatten)]
    compute: crate::Compute,
}

/// Tests the device that is asked for, and says so in a line for a person.
///
/// # Errors
/// The device cannot be had, or is wrong: exit code 3.
pub fn run(args: &Args) -> anyhow::Result<Code> {
    let choice = args.compute.device;
    let device = choice
        .resolve()
        .map_err(|error| Failure::because(Code::BadInput, format!("--device {choice}"), error))?;
    let passed = run_anew(device).map_err(|fault| refused(device, fault))?;
    let Passed {
        identity,
        operations,
        worst,
    } = passed;
    shared::cli::print(&format!(
        "{identity}: {operations} operations give what the CPU gives; the largest difference is {worst:.1e}\n"
    ))?;
    Ok(Code::Done)
}

/// Why nothing is computed on a device.
fn refused(device: Device, fault: Fault) -> Failure {
    Failure::because(
        Code::BadInput,
        format!("{device} computes wrongly and is not used"),
        fault,
    )
}

/// What a panic says.
fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
}

/// Where it is written down that a device has passed.
fn passed_file(identity: &str) -> Option<PathBuf> {
    let digest = shared::Seed::new(0).child("self-test", identity);
    let name = format!("{:016x}", digest.number());
    Some(shared::env::cache_folder()?.join("self-test").join(name))
}

/// The largest difference between results, relative to the largest value of each.
///
/// # Errors
/// A difference above [`TOLERANCE`], or a result that is not a number.
pub fn compare(operation: &str, expected: &Results, found: &Results) -> Result<f32, Fault> {
    let mut worst = 0.0f32;
    for ((name, expected), (_, found)) in expected.iter().zip(found) {
        let scale = expected
            .iter()
            .fold(1e-6f32, |scale, value| scale.max(value.abs()));
        if expected.len() != found.len() {
            return Err(Fault::Failed {
                operation: operation.to_owned(),
                message: format!(
                    "{} values of the {name} for {}",
                    found.len(),
                    expected.len()
                ),
            });
        }
        let error = |(expected, found): (&f32, &f32)| (expected - found).abs() / scale;
        let errors = expected.iter().zip(found).map(error).enumerate();
        // What is not a number counts as larger than all numbers.
        let largest = errors.max_by(|(_, a), (_, b)| a.total_cmp(b));
        let Some((index, error)) = largest else {
            continue; // no values at all
        };
        if error.is_nan() || error > TOLERANCE {
            return Err(Fault::Wrong {
                operation: operation.to_owned(),
                result: name.clone(),
                error,
                found: found[index],
                expected: expected[index],
            });
        }
        worst = worst.max(error);
    }
    Ok(worst)
}

const SGD: SgdStep = SgdStep {
    rate: 0.1,
    momentum: 0.9,
    weight_decay: 0.01,
};
const ADAMW: AdamStep = AdamStep {
    rate: 0.1,
    momentum: 0.9,
    squares: 0.99,
    correction: 0.2,
    shrinkage: 0.99,
};

type Compute = Box<dyn Fn(Device) -> Results>;

/// Calls a function of a backend for the device's.
macro_rules! on {
    ($device:expr, $function:ident($($argument:expr),*)) => {
        with_backend!($device, |B, place| operations::$function::<B>($($argument,)* place))
    };
}

/// Convolutions with sizes that fill no tile, in every precision that the device has.
fn convolutions(device: Device) -> Vec<Convolution> {
    let same = Window::same;
    let shifted = Window {
        shift: 1,
        ..same(1, 2)
    };
    let sizes = [
        (16, [3, 16], [9, 8], same(3, 1)),
        (8, [16, 33], [8, 7], same(3, 2)),
        (64, [32, 32], [2, 2], same(3, 1)),
        (4, [20, 8], [7, 7], same(1, 2)),
        (4, [20, 8], [7, 6], shifted),
        (2, [5, 70], [6, 6], same(5, 1)),
    ];
    let precisions: &[Precision] = if device.has_tf32() {
        &[Precision::Fp32, Precision::Tf32]
    } else {
        &[Precision::Fp32]
    };
    let in_precision = |&precision: &Precision| {
        sizes.map(|(batch, channels, pixels, window)| Convolution {
            batch,
            channels,
            pixels,
            window: Window {
                precision,
                ..window
            },
        })
    };
    precisions.iter().flat_map(in_precision).collect()
}

/// The operations that are compared: each kind of kernel.
fn cases(device: Device) -> Vec<(String, Compute)> {
    let mut cases: Vec<(String, Compute)> = Vec::new();
    for sizes in convolutions(device) {
        let compute = move |device| convolution_on(device, sizes);
        cases.push((sizes.to_string(), Box::new(compute)));
    }
    for activate in [false, true] {
        let dims = [24, 7, 9, 8];
        let compute = move |device| on!(device, batch_norm(dims, activate));
        cases.push((
            format!("batch norm, activation {activate}"),
            Box::new(compute),
        ));
        let compute = move |device| on!(device, normalize_by(dims, activate));
        cases.push((
            format!("norm by given moments, activation {activate}"),
            Box::new(compute),
        ));
    }
    cases.push((
        "mixing".to_owned(),
        Box::new(|device| mixing_on(device, [6, 5, 7, 3])),
    ));
    cases.push((
        "activation, joining, mean and linear map".to_owned(),
        Box::new(|device| on!(device, head([9, 5, 3, 4], 37))),
    ));
    cases.push((
        "loss".to_owned(),
        Box::new(|device| on!(device, cross_entropy([300, 10]))),
    ));
    for (name, mixup_alpha) in [("images", 0.0), ("mixed images", 1.0)] {
        let compute = move |device| on!(device, see(mixup_alpha));
        cases.push((format!("a batch of {name}"), Box::new(compute)));
    }
    for (name, descent) in [("SGD", Descent::Sgd(SGD)), ("AdamW", Descent::AdamW(ADAMW))] {
        // More tensors than a launch works on.
        let lengths: Vec<usize> = (0..19).map(|number| 1 + number * number * 20).collect();
        let compute = move |device| on!(device, update(&lengths, descent));
        cases.push((format!("steps of {name}"), Box::new(compute)));
    }
    cases
}

/// A convolution's results on a device.
pub fn convolution_on(device: Device, sizes: Convolution) -> Results {
    fn with<B: TrainingBackend>(sizes: Convolution, device: &B::Device) -> Results {
        operations::convolution::<B>(B::convolution, sizes, device)
    }
    with_backend!(device, |B, place| with::<B>(sizes, place))
}

/// What mixing a branch in gives on a device, for tensors of these dimensions.
pub fn mixing_on(device: Device, dims: [usize; 4]) -> Results {
    on!(device, mix(dims))
}

/// Computes on a device, and says what the device has to say of it.
fn ask(compute: &Compute, device: Device) -> Result<Results, String> {
    let results = compute(device);
    // Where a kernel was not launched, its results are what lay in the memory.
    let unheard = with_backend!(device, |B, place| B::sync(place));
    unheard.map(|()| results).map_err(|error| error.to_string())
}

/// Keeps the last checkpoint of a training that is not to be stopped.
#[derive(Default)]
struct Keep {
    checkpoint: Vec<u8>,
}

impl Control for Keep {
    fn checkpoint_due(&mut self, _spent: f64) -> bool {
        true
    }
    fn save_checkpoint(&mut self, _spent: f64, bytes: &[u8]) -> anyhow::Result<()> {
        bytes.clone_into(&mut self.checkpoint);
        Ok(())
    }
}

/// Two steps with every kind of block, on the device and on the CPU.
fn compare_training(device: Device) -> Result<f32, Fault> {
    const OPERATION: &str = "a training of two steps";
    let expected = train(Device::Cpu).expect("the CPU trains");
    let found = catch_unwind(|| train(device))
        .unwrap_or_else(|panic| Err(panic_message(panic.as_ref()).to_owned()))
        .map_err(|message| Fault::Failed {
            operation: OPERATION.to_owned(),
            message,
        })?;
    compare(OPERATION, &expected, &found)
}

/// All that a training of two steps has learnt.
fn train(device: Device) -> Result<Results, String> {
    const SIDE: usize = 8;
    const IMAGES: usize = 16;
    let pixels: Vec<u8> = (0..IMAGES * 3 * SIDE * SIDE)
        .map(|index| u8::try_from(index * index % 251).expect("below 251"))
        .collect();
    let labels: Vec<u16> = (0..IMAGES)
        .map(|index| u16::try_from(index % 4).expect("below 4"))
        .collect();
    let images = Images { pixels, labels };
    let trainer = NetworkTrainer {
        data: TrainingData {
            training: &images,
            validation: &images,
            test: None,
            shape: ImageShape {
                channels: 3,
                height: SIDE,
                width: SIDE,
            },
            classes: 4,
            pixel_values: PixelValues::new(&[0.5; 3], &[0.3; 3]),
        },
        data_digest: String::new(),
        settings: TrainingSettings::default(),
        device,
    };
    let mut control = Keep::default();
    match trainer.evaluate(&task(), &mut control) {
        Ok(Ended::Evaluated(_)) => {}
        Ok(
            Ended::Crashed { message }
            | Ended::Diverged { message, .. }
            | Ended::DeviceFailed { message },
        ) => return Err(message),
        Ok(ended) => return Err(format!("it ends as {ended:?}")),
        Err(error) => return Err(format!("{error:#}")),
    }
    let decoded = checkpoint::decode(&control.checkpoint);
    let (arrays, _): (Arrays, serde_json::Value) = decoded.map_err(|error| error.to_string())?;
    let named = arrays
        .0
        .into_iter()
        .map(|(name, array)| (name, array.values));
    Ok(named.collect())
}

fn task() -> Task {
    let values = [
        ("nr_residual_blocks_1", Value::Integer(1)),
        ("nr_residual_blocks_2", Value::Integer(1)),
        ("nr_residual_blocks_3", Value::Integer(1)),
        ("initial_filters", Value::Integer(6)),
        ("res_branches_2", Value::Integer(2)),
        ("death_rate", Value::Float(0.3)),
        ("gradient_clipping", Value::Float(1.0)),
        ("batch_size", Value::Integer(8)),
        ("learning_rate", Value::Float(0.01)),
    ];
    Task {
        configuration: values.into_iter().collect::<Configuration>(),
        budget: Budget {
            amount: 2.0,
            unit: BudgetUnit::Steps,
        },
        job: shared::ConfigurationId(0).job(0),
        earlier_budgets: Vec::new(),
        seed: 1,
        checks: Vec::new(),
        checkpoint: None,
    }
}

#[cfg(test)]
mod tests;
