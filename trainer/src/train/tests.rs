use data::ImageShape;
use shared::record::Checked;
use shared::{Configuration, Value};

use super::*;
use crate::augment::PixelValues;
use crate::checkpoint;
use crate::device::Device;
use crate::objective::network::NetworkTrainer;
use crate::objective::{StopReason, Task};

const SHAPE: ImageShape = ImageShape {
    channels: 1,
    height: 8,
    width: 8,
};

/// Images of noise over one of eight textures, which is the class.
struct Textures(Images);

impl Textures {
    fn new(count: u16) -> Self {
        use rand::RngExt as _;
        let mut rng = Seed::new(9).rng();
        let labels: Vec<u16> = (0..count).map(|index| index % 8).collect();
        let steps = [
            (0, 1),
            (1, 0),
            (1, 1),
            (1, 3),
            (0, 2),
            (2, 0),
            (2, 2),
            (2, 1),
        ];
        let mut pixels = Vec::new();
        for &label in &labels {
            let (by_row, by_column) = steps[usize::from(label)];
            for (row, column) in (0..8).flat_map(|row| (0..8).map(move |column| (row, column))) {
                let is_bright = (row * by_row + column * by_column) % 4 < 2;
                pixels.push(rng.random_range(0..100) + if is_bright { 120 } else { 0 });
            }
        }
        Self(Images { pixels, labels })
    }

    fn trainer(&self) -> NetworkTrainer<'_> {
        let settings = TrainingSettings {
            flip: false,
            crop_padding: 0,
            ..Default::default()
        };
        NetworkTrainer {
            data: TrainingData {
                training: &self.0,
                validation: &self.0,
                test: Some(&self.0),
                shape: SHAPE,
                classes: 8,
                pixel_values: PixelValues::new(&[0.25], &[0.2]),
            },
            data_digest: "textures".to_owned(),
            settings,
            device: Device::Cpu,
        }
    }
}

fn task(budget: f64, unit: BudgetUnit) -> Task {
    let configuration = [
        ("nr_residual_blocks_1", Value::Integer(1)),
        ("nr_residual_blocks_2", Value::Integer(1)),
        ("nr_residual_blocks_3", Value::Integer(1)),
        ("initial_filters", Value::Integer(4)),
        ("widen_factor_2", Value::Float(1.0)),
        ("widen_factor_3", Value::Float(1.0)),
        ("res_branches_1", Value::Integer(2)),
        ("death_rate", Value::Float(0.1)),
        ("mixup_alpha", Value::Float(0.2)),
        ("cutout_length", Value::Integer(4)),
        ("batch_size", Value::Integer(32)),
        ("learning_rate", Value::Float(0.05)),
    ];
    Task {
        configuration: configuration.into_iter().collect(),
        budget: Budget {
            amount: budget,
            unit,
        },
        job: shared::ConfigurationId(0).job(0),
        earlier_budgets: Vec::new(),
        seed: 5,
        checks: Vec::new(),
        checkpoint: None,
    }
}

fn with(mut task: Task, name: &str, value: Value) -> Task {
    task.configuration.set(name, value);
    task
}

/// Stops after some steps, and keeps what is saved.
#[derive(Default)]
struct Script {
    stop_after: Option<u32>,
    steps: u32,
    keeps_last: bool,
    saved: Vec<(f64, Vec<u8>)>,
    told: Vec<f64>,
    checked: Vec<Checked>,
}

impl Control for Script {
    fn stop_reason(&mut self) -> Option<StopReason> {
        (self.stop_after == Some(self.steps)).then_some(StopReason::Signal)
    }

    fn progress(&mut self, spent: f64) {
        self.steps += 1;
        self.told.push(spent);
    }

    fn checked(&mut self, seen: &[Checked]) {
        self.checked = seen.to_vec();
    }

    fn checkpoint_due(&mut self, _spent: f64) -> bool {
        self.keeps_last
    }

    fn save_checkpoint(&mut self, spent: f64, bytes: &[u8]) -> anyhow::Result<()> {
        self.saved.push((spent, bytes.to_vec()));
        Ok(())
    }
}

fn run(trainer: &NetworkTrainer<'_>, task: &Task) -> Evaluation {
    match trainer.evaluate(task, &mut Script::default()).unwrap() {
        Ended::Evaluated(evaluation) => evaluation,
        other => panic!("ended as {other:?}"),
    }
}

#[test]
fn a_few_epochs_learn_what_can_be_learnt() {
    let textures = Textures::new(320);
    let mut task = task(6.0, BudgetUnit::Epochs);
    for name in ["death_rate", "mixup_alpha", "cutout_length"] {
        task.configuration.set(name, Value::Integer(0));
    }
    let evaluation = run(
        &textures.trainer(),
        &with(task, "initial_filters", Value::Integer(8)),
    );
    assert!(
        evaluation.loss < 0.05,
        "validation error {}",
        evaluation.loss
    );
    assert!((evaluation.measures["test_error"] - evaluation.loss).abs() < 1e-12);
    assert_eq!(evaluation.measures["steps"], 60.0);
    let losses: Vec<f64> = evaluation
        .curve
        .iter()
        .filter_map(|point| point.training_loss)
        .collect();
    assert_eq!(losses.len(), 8);
    assert!(losses[7] < losses[0] / 2.0, "{losses:?}");
    assert_eq!(evaluation.curve[7].loss, Some(evaluation.loss));
}

#[test]
fn the_same_task_gives_the_same_curve_and_another_seed_another() {
    let textures = Textures::new(96);
    let trainer = textures.trainer();
    let task = task(7.0, BudgetUnit::Steps);
    let curve = run(&trainer, &task).curve;
    assert_eq!(curve, run(&trainer, &task).curve);
    assert_ne!(curve, run(&trainer, &Task { seed: 6, ..task }).curve);
}

/// The final checkpoint of a training, without its times.
fn final_state(trainer: &NetworkTrainer<'_>, task: &Task) -> (checkpoint::Arrays, Vec<CurvePoint>) {
    let mut script = Script {
        keeps_last: true,
        ..Script::default()
    };
    trainer.evaluate(task, &mut script).unwrap();
    let (arrays, header): (_, serde_json::Value) =
        checkpoint::decode(&script.saved.last().unwrap().1).unwrap();
    (
        arrays,
        serde_json::from_value(header["progress"]["curve"].clone()).unwrap(),
    )
}

#[test]
fn an_interrupted_training_equals_one_that_was_not_bit_for_bit() {
    let textures = Textures::new(100);
    let trainer = textures.trainer();
    let task = task(4.0, BudgetUnit::Epochs);
    let whole = final_state(&trainer, &task);
    assert!(whole.0.0.keys().any(|name| name.starts_with("velocity.")));
    for stop_after in [1, 4, 5, 11] {
        let mut script = Script {
            stop_after: Some(stop_after),
            ..Script::default()
        };
        assert_eq!(
            trainer.evaluate(&task, &mut script).unwrap(),
            Ended::Interrupted
        );
        assert_eq!(script.told.len(), usize::try_from(stop_after).unwrap());
        let (spent, bytes) = script.saved.pop().unwrap();
        assert!((spent - f64::from(stop_after) / 3.0).abs() < 1e-12);
        let resumed = Task {
            checkpoint: Some(bytes),
            ..task.clone()
        };
        assert_eq!(
            final_state(&trainer, &resumed),
            whole,
            "stopped after {stop_after}"
        );
    }
}

#[test]
fn a_training_that_is_looked_at_is_the_same_bit_for_bit() {
    let textures = Textures::new(100);
    let trainer = textures.trainer();
    let plain = task(4.0, BudgetUnit::Epochs);
    let check = |spent, loss| Check { spent, loss };
    let looked_at = Task {
        checks: vec![check(0.5, None), check(1.5, None)],
        ..plain.clone()
    };
    let (arrays, curve) = final_state(&trainer, &looked_at);
    let (expected, without) = final_state(&trainer, &plain);
    assert_eq!(arrays, expected);
    assert_eq!(curve.last().unwrap().loss, without.last().unwrap().loss);
    // Two of three steps are the first to reach half an epoch.
    let loss_at = |spent: f64| {
        let is_there = |point: &&CurvePoint| (point.spent - spent).abs() < 1e-9;
        curve.iter().find(is_there).unwrap().loss.unwrap()
    };
    let losses = [loss_at(2.0 / 3.0), loss_at(5.0 / 3.0)];
    let ended = Task {
        checks: vec![
            check(0.5, Some(losses[0])),
            check(1.5, Some(losses[1] - 1e-9)),
        ],
        ..plain
    };
    let whole = trainer.evaluate(&ended, &mut Script::default()).unwrap();
    let Ended::Stopped {
        spent, evaluation, ..
    } = &whole
    else {
        panic!("ended as {whole:?}");
    };
    assert!((spent - 5.0 / 3.0).abs() < 1e-9);
    assert_eq!(evaluation.loss, losses[1]);
    let points = evaluation.curve.len();
    assert_eq!(evaluation.curve, curve[..points]);
    // Interrupted before, at and after the first look, it ends in the same way.
    for stop_after in [1, 2, 3, 4] {
        let mut script = Script {
            stop_after: Some(stop_after),
            ..Script::default()
        };
        let interrupted = trainer.evaluate(&ended, &mut script).unwrap();
        assert_eq!(interrupted, Ended::Interrupted);
        let resumed = Task {
            checkpoint: Some(script.saved.pop().unwrap().1),
            ..ended.clone()
        };
        let mut script = Script::default();
        let again = trainer.evaluate(&resumed, &mut script).unwrap();
        let Ended::Stopped {
            evaluation: again, ..
        } = again
        else {
            panic!("ended as {again:?}");
        };
        assert_eq!(again.curve, evaluation.curve, "stopped after {stop_after}");
        let losses_seen: Vec<f64> = script.checked.iter().map(|seen| seen.loss).collect();
        assert_eq!(losses_seen, losses);
    }
}

#[test]
fn every_optimizer_resumes_bit_for_bit() {
    let textures = Textures::new(100);
    let trainer = textures.trainer();
    let task = with(
        task(3.0, BudgetUnit::Epochs),
        "optimizer",
        Value::Text("adamw".to_owned()),
    );
    let task = with(task, "weight_average", Value::Float(0.9));
    let task = with(task, "gradient_clipping", Value::Float(0.5));
    let whole = final_state(&trainer, &task);
    for kind in ["velocity.", "squares.", "average."] {
        assert!(
            whole.0.0.keys().any(|name| name.starts_with(kind)),
            "{kind}"
        );
    }
    let mut script = Script {
        stop_after: Some(4),
        ..Script::default()
    };
    trainer.evaluate(&task, &mut script).unwrap();
    let bytes = script.saved.pop().unwrap().1;
    let resumed = Task {
        checkpoint: Some(bytes),
        ..task
    };
    assert_eq!(final_state(&trainer, &resumed), whole);
}

#[test]
fn every_option_changes_the_training_and_learns() {
    let textures = Textures::new(320);
    let trainer = textures.trainer();
    let mut plain = task(6.0, BudgetUnit::Epochs);
    for name in ["death_rate", "mixup_alpha", "cutout_length"] {
        plain.configuration.set(name, Value::Integer(0));
    }
    let plain = with(plain, "initial_filters", Value::Integer(8));
    let reference = run(&trainer, &plain);
    for (name, value) in [
        ("label_smoothing", Value::Float(0.1)),
        ("warm_up", Value::Float(0.3)),
        ("gradient_clipping", Value::Float(0.5)),
        ("weight_average", Value::Float(0.8)),
    ] {
        let evaluation = run(&trainer, &with(plain.clone(), name, value));
        assert!(evaluation.loss < 0.2, "{name}: {}", evaluation.loss);
        let is_average = name == "weight_average";
        let losses = |e: &Evaluation| e.curve.iter().map(|p| p.training_loss).collect::<Vec<_>>();
        // An average of weights is looked at and not learnt from.
        assert_eq!(
            losses(&evaluation) == losses(&reference),
            is_average,
            "{name}"
        );
    }
    let adamw = with(plain, "optimizer", Value::Text("adamw".to_owned()));
    let adamw = run(&trainer, &with(adamw, "learning_rate", Value::Float(0.01)));
    assert!(adamw.loss < 0.1, "{}", adamw.loss);
}

#[test]
fn smoothed_targets_worked_by_hand() {
    let smoothed = smooth(vec![1.0, 0.0, 0.0, 0.0], 0.2, 4);
    for (found, expected) in smoothed.into_iter().zip([0.85, 0.05, 0.05, 0.05]) {
        assert!((found - expected).abs() < 1e-6);
    }
}

#[test]
fn a_stop_before_the_first_step_saves_nothing() {
    let textures = Textures::new(64);
    let mut script = Script {
        stop_after: Some(0),
        ..Script::default()
    };
    let ended = textures
        .trainer()
        .evaluate(&task(4.0, BudgetUnit::Epochs), &mut script)
        .unwrap();
    assert_eq!(ended, Ended::Interrupted);
    assert!(script.saved.is_empty());
}

#[test]
fn a_promoted_training_continues_its_lower_rung() {
    let textures = Textures::new(96);
    let trainer = textures.trainer();
    let low = task(2.0, BudgetUnit::Epochs);
    let mut script = Script {
        keeps_last: true,
        ..Script::default()
    };
    trainer.evaluate(&low, &mut script).unwrap();
    let (spent, bytes) = script.saved.pop().unwrap();
    assert_eq!(spent, 2.0);
    let high = Task {
        budget: Budget {
            amount: 6.0,
            unit: BudgetUnit::Epochs,
        },
        job: shared::ConfigurationId(0).job(1),
        earlier_budgets: vec![low.budget],
        checkpoint: Some(bytes),
        ..low
    };
    let mut script = Script::default();
    let Ended::Evaluated(evaluation) = trainer.evaluate(&high, &mut script).unwrap() else {
        panic!("not evaluated")
    };
    assert_eq!(
        script.told.len(),
        12,
        "three steps an epoch, four epochs more"
    );
    assert_eq!(evaluation.measures["steps"], 18.0);
    // Both cycles' ends are validated.
    let validated: Vec<f64> = evaluation
        .curve
        .iter()
        .filter(|point| point.loss.is_some())
        .map(|p| p.spent)
        .collect();
    assert_eq!(validated, [2.0, 6.0]);
}

#[test]
fn a_checkpoint_of_another_configuration_or_no_checkpoint_at_all_starts_from_scratch() {
    let textures = Textures::new(64);
    let trainer = textures.trainer();
    let task = task(3.0, BudgetUnit::Steps);
    let curve = run(&trainer, &task).curve;
    let other = with(task.clone(), "initial_filters", Value::Integer(5));
    let mut script = Script {
        stop_after: Some(2),
        ..Script::default()
    };
    trainer.evaluate(&other, &mut script).unwrap();
    for bytes in [script.saved.pop().unwrap().1, b"no checkpoint".to_vec()] {
        let resumed = Task {
            checkpoint: Some(bytes),
            ..task.clone()
        };
        assert_eq!(run(&trainer, &resumed).curve, curve);
    }
}

#[test]
fn budgets_in_seconds_count_training_alone() {
    let textures = Textures::new(64);
    let evaluation = run(&textures.trainer(), &task(0.3, BudgetUnit::Seconds));
    let trained = evaluation.measures["training_s"];
    assert!(trained >= 0.3, "{trained}");
    assert!((evaluation.curve.last().unwrap().spent - trained).abs() < 1e-9);
    assert!(evaluation.measures["evaluation_s"] > 0.0);
}

#[test]
fn budgets_in_cpu_seconds_count_what_the_training_threads_compute() {
    let textures = Textures::new(64);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1);
    let pool = pool.build().unwrap();
    let task = task(0.3, BudgetUnit::CpuSeconds);
    let evaluation = pool.install(|| run(&textures.trainer(), &task));
    let measure = |name: &str| evaluation.measures[name];
    assert!(measure("training_cpu_s") >= 0.3);
    // One thread computes no longer than the clock on the wall goes on.
    assert!(measure("training_cpu_s") <= measure("training_s") + 0.01);
    let last = evaluation.curve.last().unwrap();
    assert_eq!(last.spent, measure("training_cpu_s"));
    assert!(last.loss.is_some());
}

#[test]
fn a_batch_larger_than_the_data_trains_on_all_of_it() {
    let textures = Textures::new(24);
    let task = with(
        task(3.0, BudgetUnit::Epochs),
        "batch_size",
        Value::Integer(128),
    );
    assert_eq!(run(&textures.trainer(), &task).measures["steps"], 3.0);
}

#[test]
fn a_learning_rate_far_too_high_diverges_with_its_step() {
    let textures = Textures::new(64);
    let task = with(
        task(50.0, BudgetUnit::Epochs),
        "learning_rate",
        Value::Float(1e30),
    );
    let ended = textures
        .trainer()
        .evaluate(&task, &mut Script::default())
        .unwrap();
    let Ended::Diverged { spent, message } = ended else {
        panic!("ended as {ended:?}")
    };
    assert!(spent > 0.0 && spent < 50.0);
    assert!(message.contains(" step "), "{message}");
}

#[test]
fn a_loss_above_its_bound_diverges() {
    let textures = Textures::new(64);
    let mut trainer = textures.trainer();
    trainer.settings.divergence_bound = 0.01;
    let ended = trainer
        .evaluate(&task(5.0, BudgetUnit::Epochs), &mut Script::default())
        .unwrap();
    let Ended::Diverged { message, .. } = ended else {
        panic!("ended as {ended:?}")
    };
    assert!(message.starts_with("training loss 2."), "{message}");
}

#[test]
fn twenty_five_billion_parameters_do_not_fit_and_nothing_is_tried() {
    let textures = Textures::new(64);
    let mut configuration = Configuration::default();
    for (name, value) in [
        ("nr_residual_blocks_1", 16.0),
        ("nr_residual_blocks_2", 16.0),
        ("nr_residual_blocks_3", 16.0),
        ("initial_filters", 32.0),
        ("widen_factor_1", 8.0),
        ("widen_factor_2", 4.0),
        ("widen_factor_3", 4.0),
        ("res_branches_1", 5.0),
        ("res_branches_2", 5.0),
        ("res_branches_3", 5.0),
    ] {
        configuration.set(name, Value::Float(value));
    }
    let task = Task {
        configuration,
        ..task(1.0, BudgetUnit::Epochs)
    };
    let ended = textures
        .trainer()
        .evaluate(&task, &mut Script::default())
        .unwrap();
    let Ended::OutOfMemory {
        needed_mib,
        available_mib,
    } = ended
    else {
        panic!("ended as {ended:?}")
    };
    // 25·10⁹ numbers of 4 bytes, at least three of each.
    assert!(needed_mib > 280_000.0, "{needed_mib}");
    assert!(available_mib > 0.0 && available_mib < needed_mib);
}

#[test]
fn an_unknown_hyperparameter_crashes_the_configuration_and_is_named() {
    let textures = Textures::new(64);
    let task = with(
        task(1.0, BudgetUnit::Epochs),
        "learning_rte",
        Value::Float(0.1),
    );
    let ended = textures
        .trainer()
        .evaluate(&task, &mut Script::default())
        .unwrap();
    let Ended::Crashed { message } = ended else {
        panic!("ended as {ended:?}")
    };
    assert!(message.contains("`learning_rte`"), "{message}");
}
