//! Real trainings on the handwritten digits that come with the program.

#![expect(clippy::unwrap_used, reason = "a test")]

use data::{Dataset, Images, Splits};
use shared::objective::TrainingSettings;
use shared::{Budget, BudgetUnit, Configuration, Value};
use trainer::device::Device;
use trainer::minibatch::TrainingData;
use trainer::objective::network::NetworkTrainer;
use trainer::objective::{Control, Ended, Task};

struct Patient;

impl Control for Patient {}

fn load(name: &str) -> Splits {
    let settings = serde_json::from_value(serde_json::json!({ "name": name })).unwrap();
    Dataset::load(&settings).unwrap()
}

fn trainer(splits: &Splits) -> NetworkTrainer<'_> {
    NetworkTrainer {
        data: TrainingData::new(splits),
        data_digest: splits.digest.to_string(),
        settings: TrainingSettings {
            flip: false,
            ..TrainingSettings::default()
        },
        device: Device::Cpu,
    }
}

fn task(values: &[(&str, f64)], epochs: f64, rung: u8) -> Task {
    let mut configuration = Configuration::default();
    for (name, value) in values {
        configuration.set(*name, Value::Float(*value));
    }
    Task {
        configuration,
        budget: Budget {
            amount: epochs,
            unit: BudgetUnit::Epochs,
        },
        job: shared::ConfigurationId(0).job(rung),
        earlier_budgets: Vec::new(),
        seed: 1,
        checks: Vec::new(),
        checkpoint: None,
    }
}

#[test]
fn a_small_network_reads_digits_after_nine_epochs() {
    let splits = load("digits");
    let small = [
        ("nr_residual_blocks_1", 1.0),
        ("nr_residual_blocks_2", 1.0),
        ("nr_residual_blocks_3", 1.0),
        ("initial_filters", 8.0),
        ("batch_size", 32.0),
        ("learning_rate", 0.05),
    ];
    let ended = trainer(&splits)
        .evaluate(&task(&small, 9.0, 2), &mut Patient)
        .unwrap();
    let Ended::Evaluated(evaluation) = ended else {
        panic!("ended as {ended:?}")
    };
    assert!(
        evaluation.measures["test_error"] < 0.05,
        "{:?}",
        evaluation.measures
    );
    assert!(
        evaluation.loss < 0.03,
        "validation error {}",
        evaluation.loss
    );
}

/// Memory this process occupies, in MiB.
fn resident_mib() -> f64 {
    let status = fs_err::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

#[test]
fn two_hundred_configurations_one_after_another_leave_nothing_behind() {
    let splits = load("digits");
    let few = Images {
        pixels: splits.validation.pixels[..64 * 16].to_vec(),
        labels: splits.validation.labels[..16].to_vec(),
    };
    let mut trainer = trainer(&splits);
    trainer.data.validation = &few;
    trainer.data.test = None;
    let train = |index: u32| {
        let varied = |range: u32| f64::from(index % range + 1);
        let values = [
            ("nr_residual_blocks_1", varied(3)),
            ("nr_residual_blocks_2", varied(2)),
            ("nr_residual_blocks_3", 1.0),
            ("initial_filters", 3.0 + varied(9)),
            ("res_branches_1", varied(2)),
            ("res_branches_3", varied(3)),
            ("batch_size", 32.0 * varied(4)),
        ];
        let mut task = task(&values, 2.0, 0);
        task.budget.unit = BudgetUnit::Steps;
        task.seed = u64::from(index);
        let ended = trainer.evaluate(&task, &mut Patient).unwrap();
        assert!(matches!(ended, Ended::Evaluated(_)), "{ended:?}");
    };
    (0..50).for_each(train);
    let before = resident_mib();
    (50..200).for_each(train);
    let after = resident_mib();
    // A network of these with its gradients takes 1 to 6 MiB, so a leak of one in ten would be seen.
    assert!(
        after < before + 15.0,
        "{before} MiB after 50 configurations, {after} after 200"
    );
}

#[test]
#[ignore = "trains for a minute or two"]
fn mnist_is_read_with_less_than_one_and_a_half_errors_in_a_hundred() {
    let splits = load("mnist-10k");
    let values = [
        ("nr_residual_blocks_1", 1.0),
        ("nr_residual_blocks_2", 1.0),
        ("nr_residual_blocks_3", 1.0),
        ("initial_filters", 16.0),
        ("batch_size", 64.0),
        ("learning_rate", 0.1),
    ];
    let ended = trainer(&splits)
        .evaluate(&task(&values, 15.0, 0), &mut Patient)
        .unwrap();
    let Ended::Evaluated(evaluation) = ended else {
        panic!("ended as {ended:?}")
    };
    let error = evaluation.measures["test_error"];
    println!("{error} {:?}", evaluation.measures);
    assert!(error < 0.015, "{:?}", evaluation.measures);
}
