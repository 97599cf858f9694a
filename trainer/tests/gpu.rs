//! Operations and trainings on a GPU: the same as on the CPU, to tolerance.
//!
//! Run where there is a GPU by `docs/gpu/measure.sh`, and without one by `tests/gpu/run`, on an emulated CUDA driver or, with
//! `--vulkan`, on Mesa's driver for the processor.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use data::{DataSettings, Dataset, DatasetName, ImageShape, Images, Splits};
use shared::objective::{Precision, TrainingSettings};
use shared::{Budget, BudgetUnit, Configuration, Value};
use trainer::augment::PixelValues;
use trainer::checkpoint::{self, Arrays};
use trainer::device::{Device, DeviceChoice};
use trainer::minibatch::TrainingData;
use trainer::objective::network::NetworkTrainer;
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

fn trainer(splits: &Splits, device: Device) -> NetworkTrainer<'_> {
    NetworkTrainer {
        data: TrainingData::new(splits),
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
        checks: Vec::new(),
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

/// CUDA where there is CUDA, else Vulkan.
fn choice() -> DeviceChoice {
    static CHOICE: OnceLock<DeviceChoice> = OnceLock::new();

    *CHOICE.get_or_init(|| match DeviceChoice::Cuda.resolve() {
        Ok(_) => DeviceChoice::Cuda,
        Err(reason) => {
            shared::cli::report(&format!("with Vulkan, because {reason}"));
            DeviceChoice::Vulkan
        }
    })
}

fn gpu() -> Device {
    choice().resolve().unwrap()
}

/// All precisions that the device can multiply in.
fn precisions() -> &'static [Precision] {
    if gpu().has_tf32() {
        &[Precision::Fp32, Precision::Tf32]
    } else {
        &[Precision::Fp32]
    }
}

/// The largest difference of tensors, relative to the largest number of each.
fn difference<'a>(one: &'a Arrays, other: &Arrays) -> (f32, &'a str) {
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
    worst
}

#[test]
#[ignore = "needs a GPU"]
fn the_self_test_passes_and_its_result_is_kept() {
    let passed = self_test::run_anew(gpu()).unwrap();
    println!("{passed:?}");
    self_test::ensure_passed(gpu()).unwrap();
    let started = Instant::now();
    self_test::ensure_passed(gpu()).unwrap();
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
    // Numbers that TF32 has, too, have the same products in it.
    let precisions = precisions();
    let in_each = |window| {
        precisions.iter().map(move |&precision| Window {
            precision,
            ..window
        })
    };
    for window in windows.chain(shifted).flat_map(in_each) {
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

/// No GPU has more than 65,535 cubes along each axis, and some have as few.
#[test]
#[ignore = "needs a GPU"]
fn a_launch_may_have_more_cubes_than_an_axis() {
    if choice() == DeviceChoice::Cuda {
        println!("skipped: with CUDA the first axis is long enough, and the emulated driver slow");
        return;
    }
    let sizes = Convolution {
        batch: 1,
        channels: [1, 1],
        pixels: [1, 65_536 * 64 + 1],
        window: Window::same(1, 1),
    };
    let mut expected = self_test::convolution_on(Device::Cpu, sizes);
    let mut found = self_test::convolution_on(gpu(), sizes);
    // The sum of four million products, in another order.
    for results in [&mut expected, &mut found] {
        results.retain(|(name, _)| name != "gradient of the weight");
    }
    self_test::compare(&sizes.to_string(), &expected, &found).unwrap();
    let dims = [1, 1, 4_097, 4_096];
    let expected = self_test::mixing_on(Device::Cpu, dims);
    let found = self_test::mixing_on(gpu(), dims);
    self_test::compare("mixing", &expected, &found).unwrap();
}

/// Every kind of network: several branches and one, both skips, gates, all activations, both optimizers.
#[test]
#[ignore = "needs a GPU"]
fn a_few_steps_are_those_of_the_cpu() {
    let splits = digits();
    let text = |text: &str| Value::Text(text.to_owned());
    // How far all that was learnt may be off, relative to the largest number of each tensor. Counted were 9e-7 for the first,
    // 2e-3 for the velocity of the second's first offset, 4e-4 for that of the third's first weight: where a norm follows,
    // parts of a gradient cancel, and of a weight with a single input only rounding is left.
    for (changes, bound) in [
        (vec![], 1e-5),
        (
            vec![
                ("activation", text("gelu")),
                ("squeeze_excitation", text("true")),
                ("kernel_size", Value::Integer(5)),
            ],
            4e-3,
        ),
        (
            vec![
                ("activation", text("silu")),
                ("optimizer", text("adamw")),
                ("learning_rate", Value::Float(1e-3)),
                ("kernel_size", Value::Integer(1)),
                ("res_branches_1", Value::Integer(3)),
                ("widen_factor_2", Value::Float(1.7)),
            ],
            1e-3,
        ),
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
        let worst = difference(&weights, &weights_there);
        println!("the largest difference of what was learnt: {worst:?}");
        assert!(worst.0 < bound, "{worst:?}, at most {bound}");
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

/// Single precision is never replaced by TF32 on the way, and TF32, where it is asked for, is what is computed in.
#[test]
#[ignore = "needs a GPU"]
fn tf32_is_taken_where_it_is_asked_for() {
    if !gpu().has_tf32() {
        println!("skipped: no tensor cores for TF32");
        return;
    }
    let splits = digits();
    let task = task(5.0, &[]);
    let run_in = |device, precision| {
        let mut trainer = trainer(&splits, device);
        trainer.settings.precision = precision;
        match trainer.evaluate(&task, &mut Script::default()).unwrap() {
            Ended::Evaluated(evaluation) => evaluation.curve[0].training_loss.unwrap(),
            ended => panic!("ended as {ended:?}"),
        }
    };
    let exact = run_in(Device::Cpu, Precision::Fp32);
    let single = run_in(gpu(), Precision::Fp32);
    let rounded = run_in(gpu(), Precision::Tf32);
    println!("training loss {exact} on the CPU, {single} in single precision, {rounded} in TF32");
    assert!((single - exact).abs() < 1e-6 * exact);
    let difference = (rounded - exact).abs() / exact;
    assert!((3e-6..1e-2).contains(&difference), "{difference}");
    let again = run_in(gpu(), Precision::Tf32);
    assert_eq!(rounded.to_bits(), again.to_bits());
}

#[test]
#[ignore = "needs a GPU"]
fn an_epoch_ends_as_on_the_cpu_and_compilation_is_not_in_its_budget() {
    let splits = digits();
    let mut task = task(1.0, &[]);
    task.budget.unit = BudgetUnit::Epochs;
    let (cpu, _) = run(&splits, Device::Cpu, &task);
    let (gpu, _) = run(&splits, gpu(), &task);
    println!("loss {} on the CPU, {} on the GPU", cpu.loss, gpu.loss);
    // A few images lie at the border of two classes.
    assert!((cpu.loss - gpu.loss).abs() < 0.02);
    for (cpu, gpu) in cpu.curve.iter().zip(&gpu.curve) {
        let (cpu, gpu) = (cpu.training_loss.unwrap(), gpu.training_loss.unwrap());
        println!("training loss {cpu} on the CPU, {gpu} on the GPU");
        assert!((cpu - gpu).abs() < 1e-3 * cpu, "{cpu} {gpu}");
    }
    assert!(gpu.measures["warm_up_s"] > 0.0);
}

/// What the emulated driver has counted so far.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq)]
struct Counts {
    launches: i64,
    uploads: i64,
    downloads: i64,
    waits: i64,
    uploaded_bytes: i64,
    downloaded_bytes: i64,
    kernel_bytes: i64,
    /// Allocated at once, at most, since the program began.
    most_memory: i64,
}

/// A function of the emulated driver; null for a real one.
fn of_the_emulation(name: &std::ffi::CStr) -> *mut libc::c_void {
    #[expect(unsafe_code, reason = "the driver's library is loaded already")]
    // SAFETY: both names end with a zero.
    unsafe {
        libc::dlsym(
            libc::dlopen(c"libcuda.so".as_ptr(), libc::RTLD_NOW),
            name.as_ptr(),
        )
    }
}

/// `None` for a real driver.
fn counts() -> Option<Counts> {
    let function = of_the_emulation(c"emulated_gpu_counts");
    if function.is_null() {
        return None;
    }
    #[expect(unsafe_code, reason = "a function of the emulated driver")]
    // SAFETY: it takes nothing and returns a pointer to numbers that live as long as the program.
    unsafe {
        let function: extern "C" fn() -> *const Counts = std::mem::transmute(function);
        Some(*function())
    }
}

/// All kernels that have been launched: those of one name differ in what they were compiled for, and end in a digest.
fn kernels() -> BTreeSet<String> {
    extern "C" fn visit(name: *const libc::c_char, names: &mut BTreeSet<String>) {
        #[expect(unsafe_code, reason = "a string of the emulated driver")]
        // SAFETY: it ends with a zero and lives as long as the call.
        let name = unsafe { std::ffi::CStr::from_ptr(name) };
        names.insert(name.to_str().unwrap().to_owned());
    }
    type Visit = extern "C" fn(*const libc::c_char, &mut BTreeSet<String>);
    let mut names = BTreeSet::new();
    let function = of_the_emulation(c"emulated_gpu_kernels");
    #[expect(unsafe_code, reason = "a function of the emulated driver")]
    // SAFETY: it calls the function that it is given, with the second argument, and keeps neither.
    unsafe {
        let function: extern "C" fn(Visit, &mut BTreeSet<String>) = std::mem::transmute(function);
        function(visit, &mut names);
    }
    names
}

/// Makes all that a kernel writes a thousandth too large, from now on until another one is named.
fn plant(kernel: &str) {
    let name = std::ffi::CString::new(kernel).unwrap();
    let function = of_the_emulation(c"emulated_gpu_plant");
    #[expect(unsafe_code, reason = "a function of the emulated driver")]
    // SAFETY: it copies the string that it is given.
    unsafe {
        let function: extern "C" fn(*const libc::c_char) = std::mem::transmute(function);
        function(name.as_ptr());
    }
}

/// Whichever it is: what trainings use is what the self-test compares.
#[test]
#[ignore = "needs the emulated driver, which can be wrong on purpose"]
fn the_self_test_finds_every_kernel_that_is_a_thousandth_off() {
    if counts().is_none() {
        println!("skipped: only the emulated driver is wrong on purpose");
        return;
    }
    self_test::run_anew(gpu()).unwrap();
    let mut missed = Vec::new();
    for kernel in kernels() {
        plant(&kernel);
        match self_test::run_anew(gpu()) {
            Ok(_) => missed.push(kernel),
            Err(fault) => println!("{kernel}: {fault}"),
        }
    }
    assert!(missed.is_empty(), "nobody noticed {missed:#?}");
    plant("");
    self_test::run_anew(gpu()).unwrap();
}

/// Kernels are kept from process to process, on the node's own disk and without being asked for.
#[test]
#[ignore = "needs the emulated driver, which counts compilations"]
fn a_second_start_compiles_nothing() {
    if counts().is_none() {
        println!("skipped: only the emulated driver counts");
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let compilations = |start: &str| {
        let list = cache.path().join(start);
        let started = Instant::now();
        let ended = Command::new(env!("CARGO_BIN_EXE_trainer"))
            .args(["self-test", "--device", "cuda"])
            .env("XDG_CACHE_HOME", cache.path())
            .env_remove(shared::env::KERNEL_CACHE.name())
            .env("EMULATED_GPU_COMPILATIONS", &list)
            .status();
        assert!(ended.unwrap().success());
        let count = fs_err::read_to_string(list).unwrap_or_default();
        let count = count.lines().count(); // no file: nothing was compiled
        println!("{start}: {count} compilations, {:?}", started.elapsed());
        count
    };
    assert!(compilations("first") > 20);
    assert_eq!(compilations("second"), 0);
}

/// A thread of cubecl's that panics takes its kernel with it, and cubecl goes on without: here because a file of its cache
/// cannot grow.
#[test]
#[ignore = "needs a GPU"]
fn a_kernel_that_is_left_out_ends_the_program() {
    if choice() != DeviceChoice::Cuda {
        println!("skipped: only with CUDA kernels are kept in files");
        return;
    }
    let cache = tempfile::tempdir().unwrap();
    let ended = Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -S -f 16; exec \"$0\" self-test --device cuda",
        ])
        .arg(env!("CARGO_BIN_EXE_trainer"))
        .env(shared::env::KERNEL_CACHE.name(), cache.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    println!("{}: {said}", ended.status);
    assert_eq!(ended.status.signal(), Some(libc::SIGABRT));
    assert!(said.contains("File too large"), "{said}");
}

/// Notes what has been counted whenever the device has nothing left to do, because a loss was read.
#[derive(Default)]
struct Count {
    steps: i64,
    marks: Vec<Mark>,
}

struct Mark {
    steps: i64,
    counts: Counts,
    /// CPU time of the thread that trains.
    time: Duration,
}

impl Control for Count {
    fn stop_reason(&mut self) -> Option<StopReason> {
        (self.steps >= 41).then_some(StopReason::Signal)
    }
    fn progress(&mut self, _spent: f64) {
        self.steps += 1;
    }
    fn checkpoint_due(&mut self, _spent: f64) -> bool {
        let Some(counts) = counts() else { return false };
        let newest = self.marks.last();
        if newest.is_none_or(|mark| mark.counts.downloads < counts.downloads) {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            self.marks.push(Mark {
                steps: self.steps,
                counts,
                time: Duration::try_from(time).unwrap(),
            });
        }
        false
    }
    fn save_checkpoint(&mut self, _spent: f64, _bytes: &[u8]) -> anyhow::Result<()> {
        Ok(())
    }
}

/// What some steps of a training do.
struct Counted {
    steps: i64,
    counts: Counts,
    /// Of the thread that trains.
    time: Duration,
    /// Bytes that the training was said to need.
    predicted_memory: u64,
}

/// What steps do after the first ones.
fn count_steps(task: &Task, shape: ImageShape) -> Counted {
    const IMAGES: usize = 256;
    let pixels = vec![100; IMAGES * shape.image_len()];
    let labels: Vec<u16> = (0..10).cycle().take(IMAGES).collect();
    let all = Images { pixels, labels };
    let trainer = NetworkTrainer {
        data: TrainingData {
            training: &all,
            validation: &all,
            test: None,
            shape,
            classes: 10,
            pixel_values: PixelValues::new(&vec![0.5; shape.channels], &vec![0.25; shape.channels]),
        },
        data_digest: String::new(),
        settings: TrainingSettings::default(),
        device: gpu(),
    };
    let predicted_memory = trainer.data_size().needed(&task.configuration).unwrap();
    let mut control = Count::default();
    let ended = trainer.evaluate(task, &mut control).unwrap();
    assert_eq!(ended, Ended::Interrupted);
    let before = control.marks.iter().find(|mark| mark.steps > 2).unwrap();
    let after = control.marks.last().unwrap();
    let difference = |count: fn(&Counts) -> i64| count(&after.counts) - count(&before.counts);
    let counts = Counts {
        launches: difference(|counts| counts.launches),
        uploads: difference(|counts| counts.uploads),
        downloads: difference(|counts| counts.downloads),
        waits: difference(|counts| counts.waits),
        uploaded_bytes: difference(|counts| counts.uploaded_bytes),
        downloaded_bytes: difference(|counts| counts.downloaded_bytes),
        kernel_bytes: difference(|counts| counts.kernel_bytes),
        most_memory: after.counts.most_memory,
    };
    Counted {
        steps: after.steps - before.steps,
        counts,
        time: after.time.saturating_sub(before.time),
        predicted_memory,
    }
}

/// Trainings and their images, and what a step may do at most (launches, uploads, megabytes, kilobytes) where that is counted. The
/// more memory, the later: what is allocated is kept.
fn counted_trainings() -> [(&'static str, Task, ImageShape, Option<[i64; 4]>); 3] {
    let small = ImageShape {
        channels: 1,
        height: 8,
        width: 8,
    };
    let large = ImageShape {
        channels: 3,
        height: 32,
        width: 32,
    };
    let blocks = |number: u8| (1..=3).map(move |group| (group, number));
    let mut shake_26: Configuration = [
        ("initial_filters", Value::Integer(16)),
        ("widen_factor_1", Value::Float(2.0)),
        ("batch_size", Value::Integer(64)),
    ]
    .into_iter()
    .collect();
    for (group, number) in blocks(4) {
        shake_26.set(
            format!("nr_residual_blocks_{group}"),
            Value::Integer(i64::from(number)),
        );
        shake_26.set(format!("res_branches_{group}"), Value::Integer(2));
    }
    let shake_26 = Task {
        configuration: shake_26,
        ..task(80.0, &[])
    };
    // Many tensors of few channels and pixels.
    let mut narrow = task(80.0, &[("initial_filters", Value::Integer(3))]);
    narrow.configuration.set("batch_size", Value::Integer(256));
    for (group, number) in blocks(8) {
        let name = format!("nr_residual_blocks_{group}");
        narrow
            .configuration
            .set(name, Value::Integer(i64::from(number)));
    }
    [
        ("every option", task(80.0, &[]), small, Some(MOST)),
        ("narrow", narrow, small, None),
        (
            "Shake-Shake-26 2x32d",
            shake_26,
            large,
            Some(MOST_OF_SHAKE_26),
        ),
    ]
}

/// A GPU is slow where a step is many small launches, and where it waits for the host.
#[test]
#[ignore = "needs the emulated driver, which counts"]
fn a_step_takes_few_launches_uploads_and_no_wait() {
    if counts().is_none() {
        println!("skipped: only the emulated driver counts");
        return;
    }
    for (name, task, shape, most) in counted_trainings() {
        let Counted {
            steps,
            counts,
            time,
            predicted_memory,
        } = count_steps(&task, shape);
        println!("{name}: {counts:?}, {time:?} of the thread that trains, in {steps} steps");
        println!("{name}: {predicted_memory} bytes were predicted");
        let most_memory = u64::try_from(counts.most_memory).unwrap();
        assert!(most_memory <= predicted_memory + PAGE);
        let Some(most) = most else { continue };
        assert!(steps >= 20, "marks of {steps} steps");
        // A loss is a download. All that are read together are waited for once; every 64 uploads, those before them.
        assert!(counts.waits <= counts.downloads + 2 + counts.uploads / 64);
        let found = [
            counts.launches,
            counts.uploads,
            counts.kernel_bytes / 64 / 1_000_000,
            counts.uploaded_bytes / 1000,
        ];
        for (found, most) in found.into_iter().zip(most) {
            let most = most * steps;
            assert!(found <= most, "{found} for at most {most}: {counts:?}");
        }
    }
}

/// The smallest amount that is allocated at once, where the device has 4 GiB.
const PAGE: u64 = 16 << 20;
/// Launches and uploads of a step, megabytes of all kernels' arrays for an image, and uploaded kilobytes, as counted when this was
/// written.
const MOST: [i64; 4] = [182, 3, 1, 8];
/// The same of Shake-Shake-26 2x32d with batches of 64 images of 32×32 pixels.
const MOST_OF_SHAKE_26: [i64; 4] = [556, 3, 91, 18];

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
