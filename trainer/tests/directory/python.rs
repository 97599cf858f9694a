//! The Python module: jobs as a loop, reports, checkpoints, stopping; and the scripts in the documentation.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use shared::record::{AttemptEnd, Check, Fate};
use shared::{JobId, Outcome, fs};

use crate::command::{checkpoints, document, number};
use crate::{Search, wait_until};

/// What scripts of these tests begin with: a model that PyTorch's conventions apply to, without PyTorch.
const MODEL: &str = r#"
import json, os, random, sys, time
import tandem

HELD = {}  # the epoch before whose end a configuration's first attempt waits until it is told to stop

class Model:
    def __init__(self):
        self.weights = []
    def state_dict(self):
        return {"weights": list(self.weights)}
    def load_state_dict(self, state):
        self.weights = state["weights"]

def marked(job, name, text=""):
    with open(os.path.join(job.checkpoints, name), "w") as file:
        file.write(str(text) + "\n")
"#;

/// Trains with random numbers, so that its loss is that of one training only if it goes on where it was.
const TRAINING: &str = r#"
for job in tandem.jobs():
    random.seed(job.seed)
    model = Model()
    epochs = job.remaining({"model": model})
    for epoch in epochs:
        model.weights.append(random.random())
        while HELD.get(job.id[:7]) == epoch and epochs[0] == 1 and not job.should_stop:
            time.sleep(0.01)
        job.report(epoch, sum(model.weights), training_loss=1 / epoch, first=epochs[0], pid=os.getpid())
        marked(job, "counted", epoch)
"#;

fn module() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

/// A Python in which these modules are found, if there is one.
fn python(modules: &str) -> Option<&'static str> {
    let has_them = |program: &&str| {
        let import = Command::new(program)
            .args(["-c", &format!("import {modules}")])
            .output();
        import.is_ok_and(|output| output.status.success())
    };
    ["python3", "/usr/bin/python3"].into_iter().find(has_them)
}

/// The command of a script that finds the module.
fn command(python: &str, words: &[&str]) -> Vec<String> {
    let path = format!("PYTHONPATH={}", module().display());
    let start = ["env", &path, "PYTHONDONTWRITEBYTECODE=1", python];
    [&start, words]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect()
}

/// A search whose objective is a script that begins with [`MODEL`], with changes to the search file; `None` without Python.
fn scripted(script: &str, keep_alive: bool, changes: &Value) -> Option<Search> {
    let Some(python) = python("json") else {
        shared::cli::report("skipped: there is no python3");
        return None;
    };
    let mut file = json!({
        "space": { "hyperparameters": [{ "name": "case", "type": "categorical", "choices": ["a", "b"] }] },
        "objective": { "command": command(python, &["-c", &format!("{MODEL}{script}")]) },
    });
    if keep_alive {
        file["objective"]["keep_alive"] = json!(true);
    }
    for (name, value) in changes.as_object().unwrap() {
        file[name] = value.clone();
    }
    Some(Search::new(&file))
}

fn a() -> Value {
    crate::command::a()
}

#[test]
fn reports_become_curve_measures_and_loss_and_scripts_keep_their_own_arguments() {
    let script = r#"
for job in tandem.jobs():
    assert len(sys.argv) == 1, sys.argv  # the job's path is no argument of the script's
    assert job.configuration == {"case": "a"}, job.configuration
    assert job.id == "c000000-r1" and job.budget == 3 and job.unit == "epochs"
    assert 0 <= job.seed < 2**32 and job.resume() == 0
    for epoch in range(1, job.budget + 1):
        job.report(epoch, 1 / epoch, training_loss=2 / epoch, accuracy=epoch)
    with job.checkpoint("own.txt") as path:
        open(path, "w").write("kept")
    assert open(job.checkpoint("own.txt")).read() == "kept"
    try:
        with job.checkpoint("own.txt") as path:
            open(path, "w").write("half")
            raise ValueError
    except ValueError:
        pass
    assert open(job.checkpoint("own.txt")).read() == "kept"
    assert os.listdir(job.checkpoints) == ["own.txt"]
"#;
    let Some(search) = scripted(script, false, &json!({})) else {
        return;
    };
    let job = search.offer(0, 1, &a());
    search.work();
    let result = search.result(job);
    assert_eq!(result.outcome, Outcome::Evaluated { loss: 1.0 / 3.0 });
    assert_eq!(result.measures, [("accuracy".to_owned(), 3.0)].into());
    let points = result
        .curve
        .iter()
        .map(|p| (p.spent, p.training_loss, p.loss));
    let expected = [1.0, 2.0, 3.0].map(|epoch| (epoch, Some(2.0 / epoch), Some(1.0 / epoch)));
    assert!(points.eq(expected), "{:?}", result.curve);
}

#[test]
fn epochs_and_steps_are_whole_and_seconds_are_what_they_are() {
    let script = "
for job in tandem.jobs():
    assert job.unit in ('epochs', 'steps') or job.resume() == 0
    job.report(job.budget, 1.0, budget=job.budget)
";
    for (unit, min, max, budget) in [
        ("epochs", 0.5, 1.5, 2.0),
        ("seconds", 0.5, 1.5, 1.5),
        ("cpu_seconds", 0.5, 1.5, 1.5),
        ("steps", 2.0, 6.0, 6.0),
    ] {
        let changes = json!({ "budget": { "unit": unit, "min": min, "max": max, "eta": 3 } });
        let Some(search) = scripted(script, false, &changes) else {
            return;
        };
        let job = search.offer(0, 1, &a());
        search.work();
        assert_eq!(search.result(job).measures["budget"], budget, "{unit}");
    }
}

/// Warns the trainer of a script in the middle of its job, which is given back in time.
fn warn_after_two_epochs(search: &Search, job: JobId) -> AttemptEnd {
    let running = search.start();
    let counted = checkpoints(search, job).join("counted");
    wait_until("two epochs", || number(&counted).filter(|n| *n >= 2));
    let (code, seconds, log) = running.terminate();
    assert_eq!(code, Some(75), "{log}");
    assert!(seconds < 60.0, "{seconds} s");
    search.check_given_back(job, Fate::Preempted)
}

#[test]
fn a_warned_script_saves_and_goes_on_as_if_nothing_had_been() {
    let Some(search) = scripted(
        &format!("HELD['c000000'] = 3\n{TRAINING}"),
        false,
        &json!({}),
    ) else {
        return;
    };
    let job = search.offer(0, 2, &a());
    let end = warn_after_two_epochs(&search, job);
    assert!((2.0..9.0).contains(&end.spent), "{end:?}");
    search.work();
    let interrupted = search.result(job);
    assert_eq!(interrupted.measures["first"], end.spent + 1.0);

    let whole = scripted(TRAINING, false, &json!({})).unwrap();
    // Another directory, the same seeds.
    whole.offer(0, 2, &a());
    whole.work();
    let whole = whole.result(job);
    assert_eq!(whole.measures["first"], 1.0);
    assert_eq!(whole.outcome, interrupted.outcome);
    assert_eq!(whole.curve, interrupted.curve);
}

#[test]
fn the_checkpoint_of_a_killed_script_stays() {
    let script = TRAINING.replace(
        "        marked",
        "        if epoch == 5 and epochs[0] == 1: os.kill(os.getpid(), 9)\n        marked",
    );
    let Some(search) = scripted(&script, false, &json!({})) else {
        return;
    };
    let job = search.offer(0, 2, &a());
    search.work(); // what was killed counts as crashed
    assert!(search.message(job).contains("signal: 9"));
    let again = search.offer(0, 2, &a());
    assert_eq!(again, job);
    let folder = checkpoints(&search, job);
    assert!(folder.join("tandem.checkpoint").exists());
}

/// At which epoch each of three rungs of a configuration began.
fn first_epochs(search: &Search, continues: bool) -> Vec<f64> {
    let run = |rung| {
        let job: JobId = if continues {
            search.offer_continued(0, rung, &a())
        } else {
            search.offer(0, rung, &a())
        };
        search.work();
        search.result(job).measures["first"]
    };
    (0..3).map(run).collect()
}

#[test]
fn every_rung_starts_anew_from_scratch_and_goes_on_where_promotions_continue() {
    for keep_alive in [false, true] {
        let Some(scratch) = scripted(TRAINING, keep_alive, &json!({})) else {
            return;
        };
        assert_eq!(first_epochs(&scratch, false), [1.0, 1.0, 1.0]);
        let changes = json!({ "promotion": "continue", "method": "hyperband" });
        let continued = scripted(TRAINING, keep_alive, &changes).unwrap();
        assert_eq!(first_epochs(&continued, true), [1.0, 2.0, 4.0]);
    }
}

#[test]
fn a_script_that_is_kept_alive_does_one_job_after_the_other() {
    let script = TRAINING.replace(
        "    random.seed",
        "    print('job', job.id, end='')\n    random.seed",
    );
    let Some(search) = scripted(&script, true, &json!({})) else {
        return;
    };
    let jobs: Vec<JobId> = (0..4).map(|id| search.offer(id, 1, &a())).collect();
    search.work();
    let pids: Vec<f64> = jobs
        .iter()
        .map(|job| search.result(*job).measures["pid"])
        .collect();
    assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
    for job in jobs {
        assert_eq!(search.log(job), format!("job {job}"));
    }
}

#[test]
fn a_kept_script_is_warned_within_a_job_and_ends_by_itself_between_two() {
    let Some(search) = scripted(
        &format!("HELD['c000000'] = 3\n{TRAINING}"),
        true,
        &json!({}),
    ) else {
        return;
    };
    let job = search.offer(0, 2, &a());
    let end = warn_after_two_epochs(&search, job);
    search.work();
    assert_eq!(search.result(job).measures["first"], end.spent + 1.0);
}

#[test]
fn what_goes_wrong_is_said_and_is_whose_fault_it_is() {
    let script = r#"
for job in tandem.jobs():
    number = int(job.id[1:7])
    if number == 0:
        job.report(1, 0.5)
        job.report(2, float("nan"), accuracy=0.1)
    elif number == 1:
        pass
    elif number == 2:
        job.configuration["learning_rate"]
    elif number == 3:
        job.report(1, 0.25)
        break  # enough
    elif number == 4:
        job.diverged("no use")
    elif number == 5:
        import argparse
        parser = argparse.ArgumentParser()
        parser.add_argument("--width", type=int, required=True)
        job.arguments(parser)
"#;
    for keep_alive in [false, true] {
        let Some(search) = scripted(script, keep_alive, &json!({})) else {
            return;
        };
        let jobs: Vec<JobId> = (0..6).map(|id| search.offer(id, 1, &a())).collect();
        search.work();
        match search.result(jobs[0]).outcome {
            Outcome::Diverged { spent, message } => {
                assert_eq!(spent, 2.0);
                assert!(message.contains("nan at 2 epochs"), "{message}");
            }
            other => panic!("{other:?}"),
        }
        assert!(search.message(jobs[1]).contains("has no loss"));
        assert!(
            search
                .message(jobs[2])
                .contains("no active hyperparameter `learning_rate`; there are: case")
        );
        assert_eq!(search.loss(jobs[3]), 0.25);
        assert!(
            matches!(search.result(jobs[4]).outcome, Outcome::Diverged { message, .. } if message == "no use")
        );
        let message = search.message(jobs[5]);
        assert!(
            message.contains("no argument for the hyperparameters --case"),
            "{message}"
        );
    }
}

#[test]
fn a_disk_that_is_full_is_the_machines_fault() {
    let script = format!(
        "import tandem\ntandem._Checkpoint.__enter__ = lambda self: '/dev/full'\n{TRAINING}"
    );
    let Some(search) = scripted(&script, false, &json!({})) else {
        return;
    };
    let job = search.offer(0, 1, &a());
    let output = search.trainer_run().output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", crate::said(&output));
    let end = search.check_given_back(job, Fate::DiskFull);
    assert!(end.message.contains("No space left"), "{end:?}");
}

#[test]
fn processes_that_a_script_starts_are_ended_as_ever() {
    let script = r#"
import multiprocessing
def help(is_there):
    is_there.send(True)
    time.sleep(300)
for job in tandem.jobs():
    here, there = multiprocessing.Pipe()
    helper = multiprocessing.get_context("fork").Process(target=help, args=(there,))
    helper.start()
    here.recv()
    helper.terminate()
    helper.join(60)
    assert not job.should_stop
    job.report(job.budget, float(helper.exitcode))
"#;
    let Some(search) = scripted(script, false, &json!({})) else {
        return;
    };
    let job = search.offer(0, 0, &a());
    search.work();
    assert_eq!(search.loss(job), -15.0);
}

#[test]
fn of_several_processes_the_first_one_writes() {
    let script = r#"
import subprocess
if "RANK" not in os.environ:
    start = lambda rank: subprocess.Popen(sys.orig_argv, env={**os.environ, "RANK": rank})
    ranks = [start(rank) for rank in "10"]
    sys.exit(max(rank.wait() for rank in ranks))
for job in tandem.jobs():
    model = Model()
    for epoch in job.remaining({"model": model}):
        job.report(epoch, float(os.environ["RANK"]) + 0.5)
"#;
    let Some(search) = scripted(script, false, &json!({})) else {
        return;
    };
    let job = search.offer(0, 1, &a());
    search.work();
    assert_eq!(search.loss(job), 0.5);
}

#[test]
fn a_script_runs_by_hand_too() {
    let Some(python) = python("json") else {
        shared::cli::report("skipped: there is no python3");
        return;
    };
    let script = r#"
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=7)
parser.add_argument("--width", type=int, default=64)
for job in tandem.jobs():
    args = job.arguments(parser)
    for epoch in job.remaining({"model": Model()}):
        job.report(epoch, 1 / epoch)
    print(args.width, epoch)
"#;
    let words = command(
        python,
        &["-c", &format!("{MODEL}{script}"), "--epochs", "3"],
    );
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(&words[0])
        .args(&words[1..])
        .env_remove("TANDEM_JOB")
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "64 3\n",
        "{}",
        crate::said(&output)
    );
    assert_eq!(fs::list(folder.path()).unwrap(), [""; 0]);
}

#[test]
fn the_module_needs_no_newer_python_than_it_says() {
    let Some(python) = python("ast") else {
        shared::cli::report("skipped: there is no python3");
        return;
    };
    let check = "import ast, sys; ast.parse(open(sys.argv[1]).read(), feature_version=(3, 6))";
    let output = Command::new(python)
        .args(["-c", check])
        .arg(module().join("tandem.py"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", crate::said(&output));
}

fn text(name: &str) -> String {
    String::from_utf8(fs::read(&document(name)).unwrap()).unwrap()
}

#[test]
fn converting_the_script_in_the_documentation_takes_six_lines() {
    let (plain, converted) = (
        text("any-trainer/train_plain.py"),
        text("any-trainer/train_torch.py"),
    );
    let mut rest = plain.lines();
    let added: Vec<&str> = converted
        .lines()
        .filter(|line| {
            let mut ahead = rest.clone();
            let is_known = ahead.any(|other| other == *line);
            if is_known {
                rest = ahead;
            }
            !is_known
        })
        .collect();
    assert!(added.len() <= 6, "{added:#?}");
    // They are the lines that the page shows.
    let page = text("any-trainer.md");
    for line in added {
        assert!(page.contains(&format!("\n+{line}\n")), "{line}");
    }
}

/// A search over the script in the documentation, which is started so; `None` without PyTorch.
fn documented(changes: &Value, command_of: impl Fn(&str) -> Vec<String>) -> Option<Search> {
    let Some(python) = python("torch, sklearn") else {
        shared::cli::report("skipped: there is no python3 with PyTorch and scikit-learn");
        return None;
    };
    let mut file = json!({
        "space": { "hyperparameters": [
            { "name": "learning_rate", "type": "float", "lower": 1e-3, "upper": 1, "log": true },
            { "name": "momentum", "type": "float", "lower": 0, "upper": 0.99 },
            { "name": "width", "type": "integer", "lower": 8, "upper": 256, "log": true },
        ] },
        "objective": { "command": command_of(python) },
    });
    for (name, value) in changes.as_object().unwrap() {
        file[name] = value.clone();
    }
    Some(Search::new(&file))
}

fn chosen() -> Value {
    json!({ "learning_rate": 0.1, "momentum": 0.9, "width": 32 })
}

#[test]
fn the_pytorch_example_starts_anew_at_each_rung_from_scratch_and_goes_on_where_promotions_continue()
{
    let script = document("any-trainer/train_torch.py");
    let script = script.to_str().unwrap();
    for (promotion, goes_on) in [("scratch", false), ("continue", true)] {
        let changes = json!({ "promotion": promotion, "method": "hyperband" });
        let Some(search) = documented(&changes, |python| command(python, &[script])) else {
            return;
        };
        let mut losses = Vec::new();
        for rung in 0..3 {
            let job = if goes_on {
                search.offer_continued(0, rung, &chosen())
            } else {
                search.offer(0, rung, &chosen())
            };
            search.work();
            let (log, result) = (search.log(job), search.result(job));
            let epochs = [1, 3, 9];
            let expected = format!(
                "going on after {} epochs",
                epochs[usize::from(rung).saturating_sub(1)]
            );
            assert_eq!(
                log.contains(&expected),
                goes_on && rung > 0,
                "{promotion}, {job}: {log}"
            );
            assert_eq!(
                log.contains("epoch 1 accuracy"),
                !goes_on || rung == 0,
                "{promotion}, {job}: {log}"
            );
            assert_eq!(result.curve.len(), epochs[usize::from(rung)], "{log}");
            losses.push(search.loss(job));
        }
        assert!(losses[2] < 0.1, "{losses:?}");
    }
}

#[test]
fn the_unchanged_pytorch_script_has_the_same_losses_as_the_converted_one() {
    let words = |python: &str, script: &Path| -> Vec<String> {
        let start = [
            "tandem-run",
            "--metric",
            r"accuracy: (\d+\.\d+)",
            "--maximise",
            python,
        ];
        let script = [
            script.to_str().unwrap(),
            "--epochs",
            "{budget}",
            "--seed",
            "{seed}",
        ];
        let rate = ["--learning-rate", "{learning_rate}"];
        let more = ["--momentum", "{momentum}", "--width", "{width}"];
        let all = [&start[..], &script, &rate, &more].concat();
        all.into_iter().map(str::to_owned).collect()
    };
    let plain = document("any-trainer/train_plain.py");
    let Some(search) = documented(&json!({}), |python| words(python, &plain)) else {
        return;
    };
    let job = search.offer(0, 1, &chosen());
    search.work();
    let converted = document("any-trainer/train_torch.py");
    let other = documented(&json!({}), |python| {
        command(python, &[converted.to_str().unwrap()])
    })
    .unwrap();
    other.offer(0, 1, &chosen());
    other.work();
    let (plain, converted) = (search.result(job), other.result(job));
    assert_eq!(plain.curve.len(), 3, "{}", search.log(job));
    for (printed, reported) in plain.curve.iter().zip(&converted.curve) {
        // Four digits were printed.
        let difference = 1.0 + printed.loss.unwrap() - reported.loss.unwrap();
        assert!(difference.abs() <= 5e-5, "{printed:?} {reported:?}");
        assert_eq!(printed.spent, reported.spent);
    }
}

#[test]
fn two_processes_of_pytorch_train_one_configuration_and_go_on_after_a_warning() {
    // The launcher of Debian's PyTorch 1.13 does not start.
    let Some(python) = python("torch, sklearn; assert torch.__version__ > '2'") else {
        shared::cli::report("skipped: there is no python3 with PyTorch 2 and scikit-learn");
        return;
    };
    let script = document("any-trainer/train_ddp.py");
    let words = |_any: &str| {
        let launcher = [
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node=2",
        ];
        let script = [script.to_str().unwrap()];
        let mut words = command(python, &[&launcher[..], &script].concat());
        // Of the tests' processes there are many.
        words.insert(1, "OMP_NUM_THREADS=1".to_owned());
        words
    };
    let changes = json!({ "budget": { "unit": "epochs", "min": 60, "max": 60 } });
    let Some(search) = documented(&changes, words) else {
        return;
    };
    let job = search.offer(0, 0, &chosen());
    let running = search.start();
    let checkpoint = checkpoints(&search, job).join("tandem.checkpoint");
    wait_until("a checkpoint", || checkpoint.exists().then_some(()));
    let (code, _, log) = running.terminate();
    assert_eq!(code, Some(75), "{log}");
    let end = search.check_given_back(job, Fate::Preempted);
    assert!(end.spent >= 1.0, "{end:?}");
    search.work();
    let (result, log) = (search.result(job), search.log(job));
    assert!(
        log.contains(&format!("going on after {} epochs", end.spent)),
        "{log}"
    );
    assert_eq!(result.measures["processes"], 2.0);
    assert_eq!(result.curve.len(), 60, "{log}");
    assert!(search.loss(job) < 0.1, "{log}");
}

#[test]
fn a_script_is_stopped_at_a_check_and_goes_on_with_what_it_saw_before() {
    let changes = json!({ "promotion": "stopping", "method": "hyperband" });
    let check = |spent, loss| Check { spent, loss };
    for keep_alive in [false, true] {
        let script = format!("HELD.update(c000000=3, c000001=4)\n{TRAINING}");
        let Some(search) = scripted(&script, keep_alive, &changes) else {
            return;
        };
        let mut whole = search.job(0, 2, &a());
        whole.checks = vec![check(1.0, None), check(3.0, None)];
        search.directory.offer(&whole, 1).unwrap();
        // It is interrupted between the two.
        warn_after_two_epochs(&search, whole.job);
        search.work();
        let seen = search.result(whole.job).checks;
        assert_eq!(seen.len(), 2, "{seen:?}");
        let mut ended = search.job(1, 2, &a());
        ended.seed = Some(search.directory.search().training_seed(whole.job));
        ended.checks = vec![
            check(1.0, Some(seen[0].loss)),
            check(3.0, Some(seen[1].loss - 1e-9)),
        ];
        search.directory.offer(&ended, 1).unwrap();
        let next = search.offer(2, 0, &a());
        search.work();
        let result = search.result(ended.job);
        assert_eq!(result.outcome.as_str(), "stopped", "{result:?}");
        assert_eq!(result.checks, seen);
        // It went on until it had heard of it.
        assert_eq!(result.curve[2].loss, Some(seen[1].loss));
        assert!((3..9).contains(&result.curve.len()), "{:?}", result.curve);
        assert!(search.loss(next) > 0.0);
    }
}
