//! `tandem-run`: scripts that know nothing of jobs.

use serde_json::{Value, json};
use shared::record::{Fate, Heartbeat, TrainerState};
use shared::{JobId, Outcome};

use crate::command::{a, checkpoints, number};
use crate::{Search, wait_until};

const METRIC: [&str; 3] = ["--metric", r"accuracy: (\d+\.\d+)", "--maximise"];

/// A search whose objective is a shell script with these options of `tandem-run` before it.
fn adapted(options: &[&str], script: &str, arguments: &[&str], changes: &Value) -> Search {
    let words = [
        &["tandem-run"],
        options,
        &["sh", "-c", script, "script"],
        arguments,
    ]
    .concat();
    let mut file = json!({
        "space": { "hyperparameters": [
            { "name": "case", "type": "categorical", "choices": ["a", "b"] },
            { "name": "rate", "type": "float", "lower": 1e-9, "upper": 1, "log": true },
            { "name": "momentum", "type": "float", "lower": 0, "upper": 1,
              "active_when": { "hyperparameter": "case", "in": ["b"] } },
        ] },
        "objective": { "command": words },
    });
    for (name, value) in changes.as_object().unwrap() {
        file[name] = value.clone();
    }
    Search::new(&file)
}

fn points(search: &Search, job: JobId) -> Vec<(f64, f64)> {
    let curve = search.result(job).curve;
    curve.iter().map(|p| (p.spent, p.loss.unwrap())).collect()
}

#[test]
fn a_script_gets_its_values_and_what_it_prints_becomes_the_result() {
    let script = r#"
        echo "started with $*"
        for epoch in 1 2 3; do printf 'epoch %s accuracy: 0.%s\r' $epoch $((epoch + 4)) >&2; done
        printf '\033[1maccuracy: 0.6\033[0m size: 12'
    "#;
    let arguments = [
        "--epochs",
        "{budget}",
        "--lr={rate}",
        "--momentum",
        "{momentum}",
        "{case}{{}}",
    ];
    let options = [&METRIC[..], &["--measure", r"size=size: (\d+)"]].concat();
    let search = adapted(&options, script, &arguments, &json!({}));
    let one = search.offer(0, 1, &json!({ "case": "a", "rate": 1e-7 }));
    let two = search.offer(1, 1, &json!({ "case": "b", "rate": 0.5, "momentum": 0.25 }));
    search.work();
    let first_line = |job| search.log(job).lines().next().unwrap().to_owned();
    assert_eq!(first_line(one), "started with --epochs 3 --lr=1e-7 a{}");
    assert_eq!(
        first_line(two),
        "started with --epochs 3 --lr=0.5 --momentum 0.25 b{}"
    );
    let result = search.result(one);
    assert_eq!(result.outcome, Outcome::Evaluated { loss: -0.6 });
    let expected = [("metric".to_owned(), 0.6), ("size".to_owned(), 12.0)];
    assert_eq!(result.measures, expected.into());
    let losses = [-0.5, -0.6, -0.7, -0.6];
    let expected = [0.75, 1.5, 2.25, 3.0].into_iter().zip(losses);
    assert!(
        points(&search, one).into_iter().eq(expected),
        "{:?}",
        result.curve
    );
    let best = adapted(
        &[&options[..], &["--value", "best"]].concat(),
        script,
        &arguments,
        &json!({}),
    );
    let job = best.offer(0, 1, &json!({ "case": "a", "rate": 0.5 }));
    best.work();
    assert_eq!(best.loss(job), -0.7);
}

#[test]
fn budgets_that_are_no_whole_epochs_are_rounded_and_never_none() {
    let changes = json!({ "budget": { "unit": "epochs", "min": 0.4, "max": 2.5, "eta": 2.5 } });
    let script = r#"i=0; while [ $i -lt $1 ]; do i=$((i + 1)); echo "accuracy: 0.5"; done"#;
    let search = adapted(&METRIC, script, &["{budget}"], &changes);
    let jobs = [0, 1, 2].map(|rung| search.offer(0, rung, &json!({ "case": "a", "rate": 0.5 })));
    search.work();
    let ends = jobs.map(|job| {
        (
            points(&search, job).len(),
            points(&search, job).last().unwrap().0,
        )
    });
    assert_eq!(ends, [(1, 0.4), (1, 1.0), (3, 2.5)]);
}

#[test]
fn what_goes_wrong_is_said_and_is_whose_fault_it_is() {
    let script = r#"case "$1" in
        c000000*) echo "training"; echo "done" ;;
        c000001*) echo "accuracy: 0.5"; echo "ValueError: out of luck" >&2; exit 3 ;;
        c000002*) echo "accuracy: 0.5"; kill -9 $$ ;;
        c000003*) echo "loss: 0.5"; echo "loss: nan" ;;
        c000004*) echo "loss: low" ;;
        c000005*) echo "loss: 0.5"; sleep 300 & ;;
    esac"#;
    let search = adapted(&["--metric", "loss: (.+)"], script, &["{job}"], &json!({}));
    let configuration = json!({ "case": "a", "rate": 0.5 });
    let jobs: Vec<JobId> = (0..6)
        .map(|id| search.offer(id, 0, &configuration))
        .collect();
    search.work();
    let message = search.message(jobs[0]);
    assert!(
        message.contains("`loss: (.+)` matches no line") && message.contains("`done`"),
        "{message}"
    );
    assert!(
        search
            .message(jobs[1])
            .contains("exit status: 3; the last it said: ValueError: out of luck")
    );
    assert!(search.message(jobs[2]).contains("exit status: 137"));
    assert!(matches!(
        search.result(jobs[3]).outcome,
        Outcome::Diverged { .. }
    ));
    assert!(
        search
            .message(jobs[4])
            .contains("finds `low` in `loss: low`, which is no number")
    );
    assert_eq!(search.loss(jobs[5]), 0.5);
}

#[test]
fn places_without_a_value_and_scripts_that_cannot_be_started_are_named() {
    let search = adapted(&METRIC, "true", &["--lr", "{learning_rate}"], &json!({}));
    let job = search.offer(0, 0, &json!({ "case": "a", "rate": 0.5 }));
    search.work();
    let message = search.message(job);
    assert!(
        message.contains("expected one of case, rate, budget, seed"),
        "{message}"
    );
    assert!(message.contains("found `learning_rate`"), "{message}");

    let changes = json!({ "objective": { "command": ["tandem-run", "--metric", "(.*)", "no-such-program"] } });
    let search = adapted(&METRIC, "", &[], &changes);
    let job = search.offer(0, 0, &json!({ "case": "a", "rate": 0.5 }));
    search.trainer_run().output().unwrap();
    let ends = search.directory.attempt_ends(job).unwrap();
    assert!(
        ends.iter().all(|end| end.fate == Fate::InputOutput),
        "{ends:?}"
    );
    assert!(
        ends[0].message.contains("cannot start `no-such-program`"),
        "{ends:?}"
    );
}

#[test]
fn a_warning_reaches_the_script_which_may_keep_what_it_has() {
    let script = r#"
        trap 'echo "$n" > "$1/saved"; exit 0' TERM
        n=$(cat "$1/saved" 2>/dev/null || echo 0)
        first=$n
        while [ "$n" -lt 40 ]; do
            # A first attempt waits at 20 until it is told to stop.
            [ "$first$n" = 020 ] || n=$((n + 1))
            echo "epoch $n of 40 since $first, accuracy: 0.$n"
            sleep 0.05
        done
    "#;
    let options = [
        "--metric",
        r"epoch (?<spent>\d+).*accuracy: (\S+)",
        "--measure",
        r"first=since (\d+)",
    ];
    let changes = json!({ "budget": { "unit": "epochs", "min": 40, "max": 40 } });
    let search = adapted(&options, script, &["{checkpoints}"], &changes);
    let job = search.offer(0, 0, &json!({ "case": "a", "rate": 0.5 }));
    let running = search.start();
    let folder = checkpoints(&search, job);
    let has_heard = |beat: &Heartbeat| matches!(beat.state, TrainerState::Working { spent, .. } if spent >= 20.0);
    wait_until("twenty epochs", || {
        let beats = search.directory.heartbeats().unwrap();
        beats.values().any(has_heard).then_some(())
    });
    let (code, seconds, log) = running.terminate();
    assert_eq!(code, Some(75), "{log}");
    assert!(seconds < 60.0, "{seconds} s");
    let end = search.check_given_back(job, Fate::Preempted);
    let saved = f64::from(number(&folder.join("saved")).unwrap());
    assert_eq!((saved, end.spent), (20.0, 20.0), "{end:?}");
    search.work();
    let result = search.result(job);
    assert_eq!(result.measures["first"], saved);
    assert_eq!(result.curve.last().map(|point| point.spent), Some(40.0));
}

#[test]
fn what_a_script_without_checkpoints_has_done_does_not_count_as_kept() {
    let script = "trap 'exit 1' TERM; echo 'accuracy: 0.5'; while true; do sleep 0.05; done";
    let search = adapted(&METRIC, script, &[], &json!({}));
    let job = search.offer(0, 2, &json!({ "case": "a", "rate": 0.5 }));
    let running = search.start();
    wait_until("a heartbeat that says 1", || {
        let heartbeats = search.directory.heartbeats().unwrap();
        let mut states = heartbeats.values().map(|heartbeat| &heartbeat.state);
        states
            .any(|state| matches!(state, TrainerState::Working { spent, .. } if *spent == 1.0))
            .then_some(())
    });
    let (code, _, log) = running.terminate();
    assert_eq!(code, Some(75), "{log}");
    assert_eq!(search.check_given_back(job, Fate::Preempted).spent, 0.0);
}

#[test]
fn scripts_are_not_kept_alive() {
    let changes = json!({ "objective": { "command": ["tandem-run", "--metric", "(.*)", "true"], "keep_alive": true } });
    let search = adapted(&METRIC, "", &[], &changes);
    let job = search.offer(0, 0, &a_with_rate());
    search.work();
    assert!(
        search
            .message(job)
            .contains("leave `keep_alive` out of the search file")
    );
}

fn a_with_rate() -> Value {
    let mut configuration = a();
    configuration["rate"] = json!(0.5);
    configuration
}
