//! Measures how many images per second a network trains on, without data loading and evaluation.
//!
//! `cargo run --release -p trainer --example throughput -- --filters 16 --blocks 2 --branches 2 --size 32`

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use clap::Parser;
use data::{ImageShape, Images};
use rand::RngExt as _;
use shared::objective::TrainingSettings;
use shared::{Budget, BudgetUnit, Seed, Value};
use trainer::augment::PixelValues;
use trainer::device::{DeviceChoice, set_threads};
use trainer::minibatch::TrainingData;
use trainer::objective::network::NetworkTrainer;
use trainer::objective::{Control, Ended, Task};

/// As the trainer's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
struct Args {
    /// Channels behind the stem
    #[arg(long, default_value_t = 16)]
    filters: i64,
    /// Blocks of each of the three groups
    #[arg(long, default_value_t = 1)]
    blocks: i64,
    /// Branches of each block
    #[arg(long, default_value_t = 1)]
    branches: i64,
    /// Widening of the first group
    #[arg(long, default_value_t = 1.0)]
    widen: f64,
    /// Height and width of the images
    #[arg(long, default_value_t = 32)]
    size: usize,
    /// Channels of the images
    #[arg(long, default_value_t = 3)]
    channels: usize,
    /// Images per step
    #[arg(long, default_value_t = 64)]
    batch: i64,
    /// Seconds to train
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Threads
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// What to train on
    #[arg(long, value_enum, default_value_t = DeviceChoice::Cpu)]
    device: DeviceChoice,
}

struct NoControl;

impl Control for NoControl {}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    set_threads(args.threads)?;
    let shape = ImageShape {
        channels: args.channels,
        height: args.size,
        width: args.size,
    };
    let mut rng = Seed::new(1).rng();
    let count = 1024;
    let pixels: Vec<u8> = (0..count * args.channels * args.size * args.size)
        .map(|_| rng.random())
        .collect();
    let labels: Vec<u16> = (0..count).map(|_| rng.random_range(0..10)).collect();
    let few = Images {
        pixels: pixels[..shape.image_len()].to_vec(),
        labels: labels[..1].to_vec(),
    };
    let images = Images { pixels, labels };
    let trainer = NetworkTrainer {
        data: TrainingData {
            training: &images,
            validation: &few,
            test: None,
            shape,
            classes: 10,
            pixel_values: PixelValues::new(&vec![0.5; args.channels], &vec![0.25; args.channels]),
        },
        data_digest: String::new(),
        settings: TrainingSettings::default(),
        device: args.device.resolve()?,
    };
    let task = task(&args);
    let before = cpu_seconds()?;
    let Ended::Evaluated(evaluation) = trainer.evaluate(&task, &mut NoControl)? else {
        anyhow::bail!("the training did not end well")
    };
    let cpu = cpu_seconds()? - before;
    let images = evaluation.measures["steps"] * args.batch as f64;
    println!(
        "{:.0} images/s, {:.3} CPU ms per image, {:.0} MiB at most, loading {:.3} s",
        images / evaluation.measures["training_s"],
        cpu * 1e3 / images,
        peak_mib()?,
        evaluation.measures["loading_s"],
    );
    Ok(())
}

fn task(args: &Args) -> Task {
    let mut configuration = shared::Configuration::default();
    for group in 1..=3 {
        configuration.set(
            format!("nr_residual_blocks_{group}"),
            Value::Integer(args.blocks),
        );
        configuration.set(
            format!("res_branches_{group}"),
            Value::Integer(args.branches),
        );
    }
    configuration.set("initial_filters", Value::Integer(args.filters));
    configuration.set("widen_factor_1", Value::Float(args.widen));
    configuration.set("batch_size", Value::Integer(args.batch));
    configuration.set("learning_rate", Value::Float(1e-3));
    Task {
        configuration,
        budget: Budget {
            amount: args.seconds,
            unit: BudgetUnit::Seconds,
        },
        job: shared::ConfigurationId(0).job(0),
        earlier_budgets: Vec::new(),
        seed: 1,
        checks: Vec::new(),
        checkpoint: None,
    }
}

/// CPU time of this process so far; the kernel counts in hundredths.
fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = fs_err::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

/// The most memory this process has occupied.
fn peak_mib() -> anyhow::Result<f64> {
    let status = fs_err::read_to_string("/proc/self/status")?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap_or("0 kB");
    Ok(peak.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
