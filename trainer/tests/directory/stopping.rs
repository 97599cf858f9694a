//! Trainings that are stopped on their way: networks, functions, programs, and what is interrupted meanwhile.

use serde_json::{Value, json};
use shared::record::{Check, Fate, JobResult};
use shared::{JobId, Outcome};

use crate::command::{PREAMBLE, a, checkpoints, number};
use crate::{Search, wait_until};

/// A search with rungs of 1, 3 and 9 epochs in which trainings are stopped.
fn search(changes: &Value) -> Search {
    let mut all = json!({ "promotion": "stopping", "method": "hyperband" });
    for (name, value) in changes.as_object().unwrap() {
        all[name] = value.clone();
    }
    Search::new(&all)
}

/// A search whose objective is a command.
fn commanded(objective: &Value) -> Search {
    search(&json!({
        "space": { "hyperparameters": [
            { "name": "case", "type": "categorical", "choices": ["a", "b"] }
        ] },
        "objective": objective,
    }))
}

fn shell(script: &str) -> Search {
    commanded(&json!({ "command": ["sh", "-c", format!("{PREAMBLE}{script}"), "sh"] }))
}

/// Offers a job with the largest budget, and these limits at 1 and 3 epochs.
fn offer(search: &Search, id: u32, configuration: &Value, limits: [Option<f64>; 2]) -> JobId {
    let mut job = search.job(id, 2, configuration);
    let budgets = [1.0, 3.0].into_iter().zip(limits);
    job.checks = budgets.map(|(spent, loss)| Check { spent, loss }).collect();
    search.directory.offer(&job, 1).unwrap();
    job.job
}

fn seen(result: &JobResult) -> Vec<(f64, f64)> {
    let checks = result.checks.iter();
    checks.map(|check| (check.spent, check.loss)).collect()
}

/// What a stopped job spent, its loss, and the limit.
fn stopped(result: &JobResult) -> (f64, f64, f64) {
    match result.outcome {
        Outcome::Stopped { spent, loss, limit } => (spent, loss, limit),
        ref other => panic!("{} ended as {other:?}", result.job()),
    }
}

#[test]
fn a_network_ends_where_its_loss_is_too_large_and_was_the_same_until_then() {
    let search = search(&json!({}));
    let rate = json!({ "learning_rate": 0.02 });
    let whole = offer(&search, 0, &rate, [None, None]);
    search.work();
    let whole = search.result(whole);
    assert!(whole.outcome.loss().is_some());
    let [(first, first_loss), (second, second_loss)] = seen(&whole)[..] else {
        panic!("{:?}", whole.checks);
    };
    assert_eq!([first, second], [1.0, 3.0]);
    // Of the same seed, since it is the same configuration.
    let directory = &search.directory;
    let mut again = search.job(1, 2, &rate);
    again.seed = Some(directory.search().training_seed(whole.job()));
    again.checks = vec![
        Check {
            spent: 1.0,
            loss: Some(first_loss),
        },
        Check {
            spent: 3.0,
            loss: Some(second_loss - 1e-9),
        },
    ];
    directory.offer(&again, 1).unwrap();
    search.work();
    let ended = search.result(again.job);
    let (spent, loss, limit) = stopped(&ended);
    assert!((3.0..3.2).contains(&spent), "{spent}");
    assert_eq!((loss, limit), (second_loss, second_loss - 1e-9));
    assert_eq!(seen(&ended), seen(&whole));
    let points = ended.curve.len();
    assert_eq!(ended.curve[..], whole.curve[..points]);
    assert_eq!(ended.curve[points - 1].loss, Some(loss));
    assert!(ended.measures["parameters"] > 0.0 && !ended.measures.contains_key("test_error"));
    // What a training without checks learns, one with them does.
    let mut plain = search.job(2, 2, &rate);
    plain.seed = again.seed;
    directory.offer(&plain, 1).unwrap();
    search.work();
    assert_eq!(search.result(plain.job).outcome, whole.outcome);
}

#[test]
fn a_function_is_looked_at_where_its_budget_is_the_rungs() {
    let search = search(&json!({
        "space": { "hyperparameters": [
            { "name": "x1", "type": "float", "lower": -5, "upper": 10 },
            { "name": "x2", "type": "float", "lower": 0, "upper": 15 },
        ] },
        "objective": { "benchmark": "branin", "bias": 1.0 },
    }));
    let worst = json!({ "x1": -5.0, "x2": 0.0 });
    let whole = offer(&search, 0, &worst, [None, Some(1e9)]);
    search.work();
    let whole = search.result(whole);
    let losses = seen(&whole);
    assert_eq!(losses.len(), 2);
    let at_first = offer(&search, 1, &worst, [Some(losses[0].1 - 1.0), None]);
    search.work();
    let ended = search.result(at_first);
    assert_eq!(stopped(&ended), (1.0, losses[0].1, losses[0].1 - 1.0));
    assert_eq!(seen(&ended), losses[..1]);
}

/// Epochs of a tenth of a second, each with the loss 1 / epoch; goes on from the last, and says nothing of those before. After
/// those that are looked at it waits long enough to be seen.
const EPOCHS: &str = r#"
    n=$(cat "$checkpoints/epochs" 2>/dev/null || echo 0)
    [ "$n" = 0 ] || echo "$n" > "$checkpoints/went_on_after"
    while [ $n -lt 9 ]; do
        n=$((n + 1)); sleep 0.1
        loss=$(awk "BEGIN { print 1 / $n }")
        echo $n > "$checkpoints/epochs.part"; mv "$checkpoints/epochs.part" "$checkpoints/epochs"
        echo "{\"spent\": $n, \"loss\": $loss}" > "$progress.part"; mv "$progress.part" "$progress"
        case $n in
            1 | 3) sleep 1.5 & wait $! ;;
            4) [ -z "$held" ] || [ -e "$checkpoints/went_on_after" ] || while :; do sleep 0.05; done ;;
        esac
    done
    echo "{\"loss\": $loss}" > "$result"
"#;

#[test]
fn a_program_is_ended_when_it_tells_a_loss_that_is_too_large() {
    let search = shell(&format!("trap 'echo told >&2; exit 1' TERM\n{EPOCHS}"));
    let whole = offer(&search, 0, &a(), [Some(1.0), Some(0.34)]);
    let ended = offer(&search, 1, &a(), [Some(1.0), Some(0.25)]);
    search.work();
    let whole = search.result(whole);
    assert_eq!(whole.outcome, Outcome::Evaluated { loss: 0.111_111 });
    assert_eq!(seen(&whole), [(1.0, 1.0), (3.0, 0.333_333)]);
    assert_eq!(search.log(ended), "told\n");
    let result = search.result(ended);
    assert_eq!(stopped(&result), (3.0, 0.333_333, 0.25));
    assert_eq!(seen(&result), seen(&whole));
    assert_eq!(result.curve.len(), 2);
}

#[test]
fn a_program_that_tells_no_loss_on_its_way_is_never_stopped() {
    let search = shell("echo 3 > \"$progress\"; sleep 0.2; echo '{\"loss\": 0.5}' > \"$result\"");
    let job = offer(&search, 0, &a(), [Some(0.1), Some(0.1)]);
    search.work();
    let result = search.result(job);
    assert_eq!(result.outcome, Outcome::Evaluated { loss: 0.5 });
    assert!(result.checks.is_empty());
}

#[test]
fn the_curve_of_a_program_that_was_too_fast_to_be_stopped_is_heard_all_the_same() {
    let search = shell(
        r#"echo '{"loss": 0.5, "curve": [{"spent": 2, "loss": 0.75}, {"spent": 9, "loss": 0.5}]}' > "$result""#,
    );
    let job = offer(&search, 0, &a(), [Some(0.1), Some(0.1)]);
    search.work();
    let result = search.result(job);
    assert_eq!(result.outcome, Outcome::Evaluated { loss: 0.5 });
    // At 9 it was done.
    assert_eq!(seen(&result), [(1.0, 0.75)]);
}

#[test]
fn a_program_that_goes_on_later_is_not_looked_at_twice() {
    // Its first attempt waits after four epochs until it is ended.
    let search = shell(&format!("held=yes\n{EPOCHS}"));
    // The second loss is smaller than the first limit, the fourth larger than what the third must have had.
    let job = offer(&search, 0, &a(), [Some(1.0), Some(0.4)]);
    let running = search.start();
    let epochs = checkpoints(&search, job).join("epochs");
    wait_until("four epochs", || {
        number(&epochs).filter(|number| *number >= 4)
    });
    running.terminate();
    search.check_given_back(job, Fate::Preempted);
    search.work();
    let result = search.result(job);
    assert!(number(&checkpoints(&search, job).join("went_on_after")).unwrap() >= 4);
    assert_eq!(result.outcome, Outcome::Evaluated { loss: 0.111_111 });
    assert_eq!(seen(&result), [(1.0, 1.0), (3.0, 0.333_333)]);
}

#[test]
fn a_script_without_a_change_is_stopped_by_what_it_prints() {
    let script = r#"for n in 1 2 3 4 5 6 7 8 9; do echo "epoch $n accuracy: 0.$n"; sleep 0.$((n % 3 ? 1 : 9)); done"#;
    let command = [
        "tandem-run",
        "--metric",
        r"accuracy: (\d+\.\d+)",
        "--maximise",
        "sh",
        "-c",
        script,
    ];
    let search = commanded(&json!({ "command": command }));
    let ended = offer(&search, 0, &a(), [Some(-0.1), Some(-0.5)]);
    let whole = offer(&search, 1, &a(), [Some(-0.1), Some(-0.3)]);
    search.work();
    assert_eq!(stopped(&search.result(ended)), (3.0, -0.3, -0.5));
    let whole = search.result(whole);
    assert_eq!(whole.outcome, Outcome::Evaluated { loss: -0.9 });
    assert_eq!(seen(&whole), [(1.0, -0.1), (3.0, -0.3)]);
}
