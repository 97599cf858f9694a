//! Everything that may come of a training, made to happen.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use shared::record::{Fate, TrainerState};
use shared::{JobId, Outcome, fs};

use crate::{Search, said, wait_until};

/// A network that takes a moment an epoch.
fn small(changes: &Value) -> Value {
    let mut configuration = json!({
        "nr_residual_blocks_1": 1, "nr_residual_blocks_2": 1, "nr_residual_blocks_3": 1,
        "initial_filters": 6, "res_branches_2": 2, "batch_size": 32, "learning_rate": 0.05,
        "mixup_alpha": 0.2, "cutout_length": 8,
    });
    for (name, value) in changes.as_object().unwrap() {
        configuration[name] = value.clone();
    }
    configuration
}

#[test]
fn a_learning_rate_that_is_too_high_diverges() {
    let search = Search::new(&json!({}));
    let job = search.offer(0, 0, &small(&json!({ "learning_rate": 1e6 })));
    search.work();
    let Outcome::Diverged { spent, message } = search.result(job).outcome else {
        panic!("{:?}", search.result(job).outcome)
    };
    assert!((0.0..1.0).contains(&spent), "{spent}");
    // "training loss 12345.6 at step 3"
    let (loss, step) = message
        .strip_prefix("training loss ")
        .and_then(|rest| rest.split_once(" at step "))
        .unwrap_or_else(|| panic!("{message}"));
    let loss: f64 = loss.parse().unwrap();
    assert!(!loss.is_finite() || loss > 1e4, "{loss}");
    assert!((1..42).contains(&step.parse::<u32>().unwrap()), "{message}");
}

#[test]
fn a_bound_that_is_too_low_is_passed_at_once() {
    let search = Search::new(&json!({ "objective": { "network": {
        "data": { "name": "digits" },
        "training": { "flip": false, "divergence_bound": 0.5 },
    } } }));
    let job = search.offer(0, 0, &small(&json!({})));
    search.work();
    let Outcome::Diverged { message, .. } = search.result(job).outcome else {
        panic!("{:?}", search.result(job).outcome)
    };
    assert!(message.ends_with("at step 1"), "{message}");
}

#[test]
fn the_largest_network_of_the_reference_space_does_not_fit() {
    let search = Search::new(&json!({}));
    let job = search.offer(0, 0, &json!({
        "nr_residual_blocks_1": 16, "nr_residual_blocks_2": 16, "nr_residual_blocks_3": 16,
        "initial_filters": 32, "widen_factor_1": 8.0, "widen_factor_2": 4.0, "widen_factor_3": 4.0,
        "res_branches_1": 5, "res_branches_2": 5, "res_branches_3": 5,
        "learning_rate": 0.1, "batch_size": 64,
    }));
    search.work();
    let result = search.result(job);
    let Outcome::OutOfMemory {
        needed_mib,
        available_mib,
    } = result.outcome
    else {
        panic!("{:?}", result.outcome)
    };
    // 25·10⁹ parameters of four bytes, their velocities, and what saving both takes.
    assert!(
        needed_mib > 2.0 * 25e9 * 4.0 / f64::from(1 << 20),
        "{needed_mib}"
    );
    assert!(
        available_mib > 0.0 && available_mib < needed_mib,
        "{available_mib}"
    );
    assert!(
        result.elapsed_s < 60.0,
        "told before training: {} s",
        result.elapsed_s
    );
}

#[cfg(target_os = "linux")]
#[test]
fn memory_that_runs_out_while_training_ends_the_job_and_not_the_trainer() {
    let search = Search::new(&json!({}));
    // Whoever asks for memory in vain, burn or this program's operators, ends the whole process; it starts over. The stem's output, of 64 pixels in 800 channels for a thousand images, is larger than all that the process may
    // have, which nobody can know beforehand.
    let configuration = small(&json!({
        "initial_filters": 800, "widen_factor_1": 0.01, "widen_factor_2": 1, "widen_factor_3": 1,
        "batch_size": 1000,
    }));
    let too_large = [0, 1].map(|id| search.offer(id, 1, &configuration));
    let other = search.offer(2, 0, &small(&json!({})));
    let output = limited(&search.trainer_run()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    for job in too_large {
        let Outcome::OutOfMemory { needed_mib, .. } = search.result(job).outcome else {
            panic!("{:?}", search.result(job).outcome)
        };
        assert!(needed_mib > 195.0, "{needed_mib}");
    }
    assert!(search.loss(other) < 0.9, "the trainer goes on");
    // It was one trainer all the time: it never stopped being there, and has taken its leave.
    let heartbeats = search.directory.heartbeats().unwrap();
    let heartbeats: Vec<_> = heartbeats.into_values().collect();
    assert_eq!(heartbeats.len(), 1, "{heartbeats:?}");
    assert_eq!(heartbeats[0].state, TrainerState::Gone);
    assert!(heartbeats[0].beat >= 3, "{heartbeats:?}");
    for job in [too_large[0], too_large[1], other] {
        assert_eq!(search.result(job).owner, heartbeats[0].owner);
        assert!(search.directory.attempt_ends(job).unwrap().is_empty());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn memory_that_runs_out_is_the_printed_outcome_of_a_job_by_hand() {
    let configuration = small(&json!({
        "initial_filters": 800, "widen_factor_1": 0.01, "widen_factor_2": 1, "widen_factor_3": 1,
        "batch_size": 1000,
    }));
    let constants = configuration.as_object().unwrap().iter();
    let space: Vec<Value> = constants
        .map(|(name, value)| json!({ "name": name, "type": "constant", "value": value }))
        .chain([json!({ "name": "momentum", "type": "float", "lower": 0.8, "upper": 0.9 })])
        .collect();
    let search = Search::new(&json!({ "space": { "hyperparameters": space } }));
    let mut configuration = configuration;
    configuration["momentum"] = json!(0.9);
    let job = search.offer(0, 0, &configuration);
    let file = search.directory.layout().open(job.attempt(1));
    let mut run = std::process::Command::new(env!("CARGO_BIN_EXE_trainer"));
    run.arg("job").arg(file).args(["--device", "cpu"]);
    let output = limited(&run).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed["outcome"]["kind"], "out_of_memory");
}

/// A call with less memory than a network takes whose stem has 800 channels.
#[cfg(target_os = "linux")]
fn limited(call: &std::process::Command) -> std::process::Command {
    let mut limited = std::process::Command::new("sh");
    limited
        .args(["-c", "ulimit -v 180000 && exec \"$0\" \"$@\""])
        .arg(call.get_program())
        .args(call.get_args());
    for variable in shared::env::ALL {
        limited.env_remove(variable.name());
    }
    limited
}

#[test]
fn a_network_that_cannot_be_built_is_the_configurations_fault() {
    let search = Search::new(&json!({}));
    let jobs = [
        (json!({ "widen_factor_1": 1e-3 }), "widen_factor_1"),
        (json!({ "initial_filters": 0 }), "initial_filters"),
        (json!({ "kernel_size": 4 }), "kernel_size"),
        (json!({ "depth": 4 }), "`depth`"),
    ];
    let offered: Vec<JobId> = (0..)
        .zip(&jobs)
        .map(|(id, (changes, _))| search.offer(id, 0, &small(changes)))
        .collect();
    search.work();
    for ((_, name), job) in jobs.iter().zip(offered) {
        let message = search.message(job);
        assert!(
            message.starts_with("no such network: ") && message.contains(name),
            "{message}"
        );
    }
}

/// Training is interrupted where no epoch ends, a second trainer goes on, and nothing shows that it was not the first.
#[test]
fn an_interrupted_training_ends_as_if_it_had_not_been() {
    let configuration = small(&json!({ "initial_filters": 16, "weight_average": 0.9 }));
    let whole = Search::new(&json!({}));
    let job = whole.offer(0, 2, &configuration);
    whole.work();

    let cut = wait_until("interrupted where no epoch ends", || {
        let cut = interrupted(&configuration);
        let steps = cut.only_end(job).spent * STEPS_PER_EPOCH;
        assert!((steps - steps.round()).abs() < 1e-6, "{steps}");
        (steps.round() % STEPS_PER_EPOCH != 0.0).then_some(cut)
    });
    let log = cut.work();
    assert!(
        log.contains("goes on from checkpoint c000000-r2-a1"),
        "{log}"
    );
    check_equal(&whole, &cut, job);
}

/// 1,350 images, 32 a step.
const STEPS_PER_EPOCH: f64 = 42.0;

#[test]
fn slurms_signals_save_and_give_back_within_20_s_in_the_middle_of_an_epoch() {
    for signal in [Signal::USR1, Signal::USR2] {
        let search = interrupted_by(signal, &json!({ "learning_rate": 0.1 }));
        let end = search.only_end(shared::ConfigurationId(0).job(2));
        assert!(end.spent.fract() > 0.0, "not in the middle: {end:?}");
    }
}

/// A step that takes a minute on two cores: the trainer does not wait for its end. On a machine that is many times as
/// fast it does.
#[test]
fn a_signal_ends_a_training_within_20_s_in_the_middle_of_a_long_step() {
    let search = Search::new(&json!({}));
    let wide = json!({
        "initial_filters": 64, "widen_factor_1": 8, "nr_residual_blocks_1": 3, "res_branches_1": 5, "batch_size": 128,
    });
    let job = search.offer(0, 2, &small(&wide));
    let running = search.start();
    wait_until("a claimed job", || {
        let jobs = search.directory.jobs().unwrap();
        (!jobs.claimed.is_empty()).then_some(())
    });
    // Into the step.
    std::thread::sleep(Duration::from_secs(8));
    let (code, seconds, log) = running.terminate();
    assert_eq!(code, Some(75), "{log}");
    assert!(seconds < 20.0, "{seconds} s: {log}");
    let end = search.check_given_back(job, Fate::Preempted);
    shared::cli::report(&format!(
        "spent {} after {seconds:.1} s: {}",
        end.spent, end.message
    ));
    let states: Vec<TrainerState> = search
        .directory
        .heartbeats()
        .unwrap()
        .into_values()
        .map(|heartbeat| heartbeat.state)
        .collect();
    assert_eq!(states, [TrainerState::Gone]);
}

/// A search whose only job was interrupted by SIGTERM.
fn interrupted(configuration: &Value) -> Search {
    interrupted_by(Signal::TERM, configuration)
}

/// A search whose only job was interrupted by a signal.
fn interrupted_by(signal: Signal, configuration: &Value) -> Search {
    let search = Search::new(&json!({}));
    let job = search.offer(0, 2, configuration);
    let running = search.start();
    wait_until("an epoch and a bit", || {
        let heartbeats = search.directory.heartbeats().unwrap();
        let is_on = |state: &TrainerState| matches!(state, TrainerState::Working { spent, .. } if *spent > 1.0);
        heartbeats
            .values()
            .any(|heartbeat| is_on(&heartbeat.state))
            .then_some(())
    });
    let (code, seconds, log) = running.warn(signal);
    assert_eq!(code, Some(75), "{log}");
    assert!(seconds < 20.0, "{seconds} s");
    let end = search.check_given_back(job, Fate::Preempted);
    assert!(end.spent > 1.0 && end.spent < 9.0, "{end:?}");
    search
}

/// Checks that two trainings gave the same: losses, curve, and every bit of the weights.
pub(crate) fn check_equal(one: &Search, other: &Search, job: JobId) {
    assert_eq!(one.loss(job), other.loss(job));
    let (result, result_2) = (one.result(job), other.result(job));
    assert_eq!(result.curve, result_2.curve);
    for name in ["steps", "test_error"] {
        assert_eq!(result.measures[name], result_2.measures[name], "{name}");
    }
    let weights = [one, other].map(|search| {
        let file = search.beside("weights.safetensors");
        let output = search
            .trainer("export")
            .arg(job.configuration.to_string())
            .arg("--out")
            .arg(&file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        fs::read(&file).unwrap()
    });
    assert!(weights[0] == weights[1], "the weights differ");
}
