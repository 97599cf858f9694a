//! Any program as a trainer: the contract of `docs/any-trainer.md`, line by line.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};
use shared::record::Fate;
use shared::{JobId, Outcome, clock, fs};

use crate::{Search, is_alive, said, wait_until};

/// What a script begins with: `$1` is the job file; its fields are put into variables.
pub(crate) const PREAMBLE: &str = r#"
field() { sed -n 's/.*"'"$2"'": "\(.*\)".*/\1/p' "$1"; }
result=$(field "$1" result)
progress=$(field "$1" progress)
checkpoints=$(field "$1" checkpoints)
case=$(field "$1" case)
"#;

/// A search whose objective is a shell script; the space has one hyperparameter, `case`.
fn scripted(script: &str) -> Search {
    Search::new(&json!({
        "space": { "hyperparameters": [
            { "name": "case", "type": "categorical", "choices": ["a", "b"] }
        ] },
        "objective": { "command": ["sh", "-c", format!("{PREAMBLE}{script}"), "sh"] },
    }))
}

pub(crate) fn a() -> Value {
    json!({ "case": "a" })
}

/// The folder of a configuration that its programs may use.
pub(crate) fn checkpoints(search: &Search, job: JobId) -> std::path::PathBuf {
    let promotion = search.directory.search().promotion;
    let layout = search.directory.layout();
    layout.program_checkpoints(job, promotion)
}

/// A number that a program has written.
pub(crate) fn number(path: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(path).ok()?;
    text.strip_suffix('\n')?.parse().ok()
}

#[test]
fn a_program_is_given_its_job_and_gives_its_result() {
    let search = scripted(
        r#"
        [ "$1" = "$TANDEM_JOB" ] || exit 9
        cp "$1" "$checkpoints/job.json"
        echo "hello from $case"
        echo "and to stderr" >&2
        cat > "$result" <<END
        {"loss": 0.25, "measures": {"speed": 7.5},
         "curve": [{"spent": 1, "loss": 0.5}, {"spent": 3, "training_loss": 0.125, "loss": 0.25}]}
END
        "#,
    );
    let job = search.offer(7, 1, &a());
    search.work();
    let result = search.result(job);
    assert_eq!(result.outcome, Outcome::Evaluated { loss: 0.25 });
    assert_eq!(result.measures, [("speed".to_owned(), 7.5)].into());
    let curve: Vec<_> = result
        .curve
        .iter()
        .map(|point| (point.spent, point.training_loss, point.loss))
        .collect();
    assert_eq!(
        curve,
        [(1.0, None, Some(0.5)), (3.0, Some(0.125), Some(0.25))]
    );
    assert_eq!(search.log(job), "hello from a\nand to stderr\n");

    let folder = checkpoints(&search, job);
    let given: Value =
        serde_json::from_slice(&fs::read(&folder.join("job.json")).unwrap()).unwrap();
    assert_eq!(given["job"], "c000007-r1");
    assert_eq!(given["configuration"], a());
    assert_eq!(given["budget"], json!({"amount": 3.0, "unit": "epochs"}));
    assert_eq!(given["earlier_budgets"], json!([]));
    assert_eq!(given["checkpoints"], json!(folder));
    // The same at every rung, another for every configuration.
    let seed_of = |search: &Search, id, rung| {
        let job = search.offer(id, rung, &a());
        search.work();
        let bytes = fs::read(&checkpoints(search, job).join("job.json")).unwrap();
        serde_json::from_slice::<Value>(&bytes).unwrap()["seed"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(seed_of(&search, 7, 2), given["seed"].as_u64().unwrap());
    assert_ne!(seed_of(&search, 8, 1), given["seed"].as_u64().unwrap());
}

/// What a program does; what the message of the outcome `crashed` must say.
const CRASHES: &[(&str, &str)] = &[
    ("exit 3", "exit status: 3"),
    (
        "echo out of luck >&2; echo; exit 1",
        "the last it said: out of luck",
    ),
    ("kill -9 $$", "signal: 9"),
    ("true", "no readable result file"),
    ("mkdir \"$result\"", "no regular file"),
    ("mkfifo \"$result\"", "no regular file"),
    ("ln -s /dev/zero \"$result\"", "no regular file"),
    (
        "head -c 5000000 /dev/zero > \"$result\"",
        "larger than 4194304 bytes",
    ),
    (": > \"$result\"", "EOF"),
    (
        "head -c 1000 /dev/urandom > \"$result\"",
        "result file is wrong",
    ),
    ("echo '{\"loss\": 0.5' > \"$result\"", "EOF"),
    ("echo '[0.5]' > \"$result\"", "result file is wrong"),
    ("echo '{}' > \"$result\"", "no `loss`"),
    ("echo '{\"loss\": null}' > \"$result\"", "no `loss`"),
    (
        "echo '{\"loss\": NaN}' > \"$result\"",
        "write `diverged` instead",
    ),
    (
        "echo '{\"loss\": Infinity}' > \"$result\"",
        "write `diverged` instead",
    ),
    ("echo '{\"loss\": 1e999}' > \"$result\"", "no finite number"),
    (
        "echo '{\"loss\": \"low\"}' > \"$result\"",
        "no number: \"low\"",
    ),
    (
        "echo '{\"loss\": 1}' > \"$result\"; exit 1",
        "exit status: 1",
    ),
    (
        "echo '{\"crashed\": \"no such layer\"}' > \"$result\"",
        "no such layer",
    ),
];

#[test]
fn every_end_of_a_program_has_its_outcome() {
    let others = [
        (
            "echo '{\"loss\": -1.5e-3}' > \"$result\"",
            Outcome::Evaluated { loss: -0.0015 },
        ),
        (
            "echo '{\"diverged\": \"loss is inf\"}' > \"$result\"",
            Outcome::Diverged {
                spent: 1.0,
                message: "loss is inf".into(),
            },
        ),
        (
            "echo 0.25 > \"$progress\"; echo '{\"diverged\": \"NaN\"}' > \"$result\"",
            Outcome::Diverged {
                spent: 0.25,
                message: "NaN".into(),
            },
        ),
    ];
    let cases: Vec<&str> = CRASHES
        .iter()
        .map(|(script, _)| *script)
        .chain(others.iter().map(|(script, _)| *script))
        .collect();
    let mut script = "case $(basename \"$(dirname \"$checkpoints\")\") in\n".to_owned();
    for (index, case) in cases.iter().enumerate() {
        writeln!(script, "c{index:06}) {case} ;;").unwrap();
    }
    script.push_str("*) exit 99 ;;\nesac\n");
    let search = scripted(&script);
    let jobs: Vec<JobId> = (0..)
        .take(cases.len())
        .map(|id| search.offer(id, 0, &a()))
        .collect();
    search.work();
    for ((script, expected), job) in CRASHES.iter().zip(&jobs) {
        let message = search.message(*job);
        assert!(message.contains(expected), "`{script}` gave: {message}");
    }
    for ((script, expected), job) in others.iter().zip(&jobs[CRASHES.len()..]) {
        assert_eq!(search.result(*job).outcome, *expected, "`{script}`");
    }
}

#[test]
fn words_without_end_are_cut() {
    let search = scripted(
        r#"printf '{"crashed": "' > "$result"; head -c 100000 /dev/zero | tr '\0' x >> "$result"; echo '"}' >> "$result""#,
    );
    let job = search.offer(0, 0, &a());
    search.work();
    let message = search.message(job);
    assert!(
        message.len() < 1100 && message.ends_with("xxx…"),
        "{message}"
    );
}

#[test]
fn a_program_that_cannot_be_started_is_this_machines_fault() {
    let folder = tempfile::tempdir().unwrap();
    let not_executable = folder.path().join("program");
    fs::replace(&not_executable, b"#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&not_executable, std::fs::Permissions::from_mode(0o644)).unwrap();
    let search = |program: &str| Search::new(&json!({ "objective": { "command": [program] } }));
    let values = json!({ "learning_rate": 0.1 });

    // One job: left to other machines.
    let not_executable = not_executable.to_str().unwrap();
    let other = search(not_executable);
    let job = other.offer(0, 0, &values);
    check_refused(&other);
    let end = other.check_given_back(job, Fate::InputOutput);
    assert!(end.message.contains(not_executable), "{}", end.message);

    // Several: one is enough to see that, and no other loses an attempt.
    let missing = search("/nowhere/program");
    let jobs: Vec<JobId> = (0..6).map(|id| missing.offer(id, 0, &values)).collect();
    check_refused(&missing);
    let end = missing.only_end(jobs[0]);
    assert_eq!(end.fate, Fate::InputOutput);
    assert!(end.message.contains("/nowhere/program"), "{}", end.message);
    let open: Vec<_> = (0..6)
        .map(|index| jobs[index].attempt(if index == 0 { 2 } else { 1 }))
        .collect();
    assert_eq!(missing.directory.open_jobs().unwrap(), open);
}

/// Checks that a trainer leaves because its machine failed.
fn check_refused(search: &Search) {
    let output = search.trainer_run().output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert!(
        said(&output).contains("failures of this machine"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_program_may_say_that_it_is_the_machines_fault() {
    let search = scripted("echo the GPU is busy; exit 75");
    let job = search.offer(0, 0, &a());
    check_refused(&search);
    let end = search.check_given_back(job, Fate::InputOutput);
    assert!(end.message.contains("the GPU is busy"), "{}", end.message);
}

/// Counts up to 40, a step a moment, from where an earlier attempt was; 40 is the loss. A first attempt waits at 20 until it is
/// told to stop.
const COUNTING: &str = r#"
n=$(cat "$checkpoints/saved" 2>/dev/null || echo 0)
first=$n
trap 'echo "$n" > "$checkpoints/saved"; exit 1' TERM
while [ "$n" -lt 40 ]; do
    n=$((n + 1))
    echo "$n" > "$progress"
    echo "$n" > "$checkpoints/counted"
    [ "$first" != 0 ] || [ "$n" != 20 ] || while true; do sleep 0.05; done
    sleep 0.05
done
echo "{\"loss\": $n, \"measures\": {\"first\": $first}}" > "$result"
"#;

#[test]
fn a_warned_program_saves_and_goes_on_later() {
    let search = scripted(COUNTING);
    let job = search.offer(0, 0, &a());
    let running = search.start();
    let counted = checkpoints(&search, job).join("counted");
    wait_until("five steps", || number(&counted).filter(|n| *n >= 5));
    let (code, seconds, log) = running.terminate();
    assert_eq!(code, Some(75), "{log}");
    assert!(seconds < 60.0, "{seconds} s");
    let saved = number(&checkpoints(&search, job).join("saved")).unwrap();
    assert!((5..40).contains(&saved), "{saved}");
    // It got on, so it is never given up however often it is interrupted.
    let end = search.check_given_back(job, Fate::Preempted);
    assert!(
        (end.spent - f64::from(saved)).abs() < 1.5,
        "{end:?}, saved {saved}"
    );

    search.work();
    let result = search.result(job);
    assert_eq!(result.outcome, Outcome::Evaluated { loss: 40.0 });
    assert_eq!(result.measures["first"], f64::from(saved));
}

/// What a trainer says whose SLURM job ends after so many seconds.
fn work_in_a_slurm_job(search: &Search, seconds: f64) -> std::process::Output {
    let end = clock::unix_s() + seconds;
    search
        .trainer_run()
        .env(shared::env::SLURM_JOB_ID.name(), "1")
        .env(shared::env::SLURM_JOB_END_TIME.name(), format!("{end:.0}"))
        .output()
        .unwrap()
}

#[test]
fn the_end_of_the_slurm_job_is_a_warning_too() {
    let search = scripted(&COUNTING.replace("40", "4000"));
    let job = search.offer(0, 0, &a());
    let output = work_in_a_slurm_job(&search, 70.0); // a minute is kept for saving
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    search.check_given_back(job, Fate::TimeLimit);
    assert!(number(&checkpoints(&search, job).join("saved")).is_some());
}

#[test]
fn squeue_is_asked_without_the_users_filters_and_a_slurm_job_too_short_for_any_says_so() {
    let search = scripted(COUNTING);
    let bin = tempfile::tempdir().unwrap();
    let squeue = bin.path().join("squeue");
    let text = "#!/bin/sh\n[ -n \"$SQUEUE_PARTITION$SLURM_CLUSTERS\" ] || [ -z \"$SLURM_CONF\" ] || echo 30\n";
    fs::replace(&squeue, text.as_bytes()).unwrap();
    std::fs::set_permissions(&squeue, std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = search
        .trainer_run()
        .env("PATH", format!("{}:/usr/bin:/bin", bin.path().display()))
        .env(shared::env::SLURM_JOB_ID.name(), "1")
        .env("SQUEUE_PARTITION", "urgent")
        .env("SLURM_CLUSTERS", "other")
        .env("SLURM_CONF", "/etc/slurm.conf")
        .output()
        .unwrap();
    let log = said(&output);
    assert_eq!(output.status.code(), Some(75), "{log}");
    assert!(log.contains("SLURM job 1 has 30 s left"), "{log}");
    assert!(log.contains("too short for a job"), "{log}");
}

#[test]
fn no_job_is_taken_that_can_neither_end_before_the_slurm_job_nor_go_on_later() {
    let search = Search::new(&json!({
        "space": { "hyperparameters": [
            { "name": "case", "type": "categorical", "choices": ["a", "b"] }
        ] },
        "objective": { "command": ["sh", "-c", format!("{PREAMBLE}echo '{{\"loss\": 1}}' > \"$result\""), "sh"] },
        "budget": { "unit": "seconds", "min": 10, "max": 1000, "eta": 10 },
    }));
    let jobs = [0, 1, 2].map(|rung| search.offer(u32::from(rung), rung, &a()));
    // A minute is kept for saving: that leaves time for 10 s and for 100 s, not for 1000 s.
    let output = work_in_a_slurm_job(&search, 600.0);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let complaint = "job=c000002-r2-a1 needs 1060 s and this SLURM job has";
    assert_eq!(said(&output).matches(complaint).count(), 1);
    assert_eq!(search.directory.open_jobs().unwrap(), [jobs[2].attempt(1)]);
    assert_eq!((search.loss(jobs[0]), search.loss(jobs[1])), (1.0, 1.0));
    // Where nothing ends, everything is taken.
    search.work();
    assert_eq!(search.loss(jobs[2]), 1.0);
}

#[test]
fn stopping_the_search_warns_the_program() {
    let search = scripted(COUNTING);
    let job = search.offer(0, 0, &a());
    let running = search.start();
    let counted = checkpoints(&search, job).join("counted");
    wait_until("a step", || number(&counted));
    search.directory.stop("enough").unwrap();
    let output = running.wait();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    search.check_given_back(job, Fate::Stopped);
}

#[test]
fn a_program_that_the_warning_kills_first_is_given_back() {
    // As where SLURM sends its signal to all processes at once.
    let search = scripted("kill -TERM $PPID; kill -TERM $$");
    let job = search.offer(0, 0, &a());
    let output = search.trainer_run().output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", said(&output));
    search.check_given_back(job, Fate::Preempted);
}

#[test]
fn a_warned_program_may_end_well_with_a_result_or_without() {
    let search = scripted(
        r#"
        trap '[ "$case" = a ] && echo "{\"loss\": 3}" > "$result"; exit 0' TERM
        echo 1 > "$checkpoints/counted"
        while true; do sleep 0.05; done
        "#,
    );
    for case in ["a", "b"] {
        let job = search.offer(u32::from(case == "b"), 0, &json!({ "case": case }));
        let running = search.start();
        let counted = checkpoints(&search, job).join("counted");
        wait_until("a step", || number(&counted));
        let (code, _, log) = running.terminate();
        assert_eq!(code, Some(75), "{log}");
        if case == "a" {
            assert_eq!(search.loss(job), 3.0);
        } else {
            search.check_given_back(job, Fate::Preempted);
        }
    }
}

#[test]
fn what_a_program_leaves_running_is_ended_with_it() {
    let search = scripted(
        r#"
        sleep 300 & echo $! > "$checkpoints/helper"
        echo '{"loss": 1}' > "$result"
        "#,
    );
    let job = search.offer(0, 0, &a());
    search.work();
    assert_eq!(search.loss(job), 1.0);
    let helper = number(&checkpoints(&search, job).join("helper")).unwrap();
    wait_for_the_end_of(helper);
}

/// The ids of the helper and of the leader, which the program has written down.
fn helper_and_leader(search: &Search, job: JobId) -> [u32; 2] {
    ["helper", "leader"].map(|name| {
        let path = checkpoints(search, job).join(name);
        wait_until(name, || number(&path))
    })
}

fn wait_for_the_end_of(process: u32) {
    wait_until("it has ended", || (!is_alive(process)).then_some(()));
}

#[test]
fn a_program_that_does_not_heed_the_warning_is_killed_with_all_it_started() {
    let search = scripted(
        r#"
        trap '' TERM
        sleep 300 & echo $! > "$checkpoints/helper"
        echo $$ > "$checkpoints/leader"
        while true; do sleep 1; done
        "#,
    );
    let job = search.offer(0, 0, &a());
    let running = search.start();
    let processes = helper_and_leader(&search, job);
    let (code, seconds, log) = running.terminate();
    assert_eq!(code, Some(75), "{log}");
    assert!((19.0..60.0).contains(&seconds), "{seconds} s");
    for process in processes {
        wait_for_the_end_of(process);
    }
    search.check_given_back(job, Fate::Preempted);
}

/// Waits until the trainer has read from its program that it has spent 0.5.
fn wait_for_half(search: &Search) {
    wait_until("a heartbeat that says 0.5", || {
        let heartbeats = search.directory.heartbeats().unwrap();
        heartbeats
            .values()
            .any(|heartbeat| {
                matches!(&heartbeat.state, shared::record::TrainerState::Working { spent, .. } if *spent == 0.5)
            })
            .then_some(())
    });
}

#[test]
fn a_program_does_not_outlive_a_trainer_that_is_killed() {
    let search = scripted(
        r#"
        trap '' TERM HUP INT
        sleep 300 & echo $! > "$checkpoints/helper"
        echo $$ > "$checkpoints/leader"
        echo 0.5 > "$progress"
        while true; do sleep 1; done
        "#,
    );
    let job = search.offer(0, 0, &a());
    let running = search.start();
    let processes = helper_and_leader(&search, job);
    // By then the trainer has done all that it does at a start.
    wait_for_half(&search);
    rustix::process::kill_process(running.pid(), rustix::process::Signal::KILL).unwrap();
    for process in processes {
        wait_for_the_end_of(process);
    }
}

/// Processes whose command line holds a text.
fn processes_with(text: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(text)
    })
    .filter(|pid| is_alive(*pid))
    .collect()
}

#[test]
fn a_trainer_that_is_killed_while_it_starts_a_program_leaves_nothing_behind() {
    let marker = format!("300.{}", std::process::id());
    for turn in 0..20 {
        let search = Search::new(&json!({
            "space": { "hyperparameters": [
                { "name": "case", "type": "categorical", "choices": ["a", "b"] }
            ] },
            "objective": { "command": ["sh", "-c", format!("exec sleep {marker}")] },
        }));
        search.offer(0, 0, &a());
        let running = search.start();
        // The program's log is opened just before the program is started.
        let logs = search.directory.layout().path(shared::layout::LOGS);
        wait_until("the log", || {
            (!fs::list(&logs).unwrap().is_empty()).then_some(())
        });
        let spins = turn * 20_000;
        (0..spins).for_each(|_| std::hint::spin_loop());
        rustix::process::kill_process(running.pid(), rustix::process::Signal::KILL).unwrap();
        // What the kernel was just starting may appear a moment later, and ends then.
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            wait_until("nothing is left", || {
                processes_with(&marker).is_empty().then_some(())
            });
        }
    }
}

#[test]
fn progress_is_in_the_heartbeat_and_nonsense_is_not() {
    let search = scripted(
        r#"
        echo 0.5 > "$progress"
        while [ ! -e "$checkpoints/go" ]; do sleep 0.02; done
        for nonsense in '' soon -1 NaN inf; do echo "$nonsense" > "$progress"; sleep 0.05; done
        head -c 1000000 /dev/zero > "$progress"; sleep 0.05
        echo '{"loss": 1}' > "$result"
        "#,
    );
    let job = search.offer(0, 0, &a());
    let running = search.start();
    wait_for_half(&search);
    fs::replace(&checkpoints(&search, job).join("go"), b"").unwrap();
    let output = running.wait();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(search.loss(job), 1.0);
}

/// A Python that has scikit-learn, if there is one.
fn python() -> Option<&'static str> {
    let has_it = |program: &&str| {
        let import = Command::new(program)
            .args(["-c", "import sklearn"])
            .output();
        import.is_ok_and(|output| output.status.success())
    };
    ["python3", "/usr/bin/python3"].into_iter().find(has_it)
}

/// A file of the documentation.
pub(crate) fn document(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name)
}

#[test]
fn the_example_in_the_documentation_is_the_file_beside_it() {
    let text = String::from_utf8(fs::read(&document("any-trainer.md")).unwrap()).unwrap();
    let printed: Vec<&str> = text
        .split("```python\n")
        .skip(1)
        .map(|rest| rest.split_once("```").unwrap().0)
        .collect();
    let file = fs::read(&document("any-trainer/train.py")).unwrap();
    assert_eq!(printed, [String::from_utf8(file).unwrap()]);
}

#[test]
fn the_example_in_the_documentation_learns_the_digits() {
    let Some(python) = python() else {
        shared::cli::report("skipped: there is no python3 with scikit-learn");
        return;
    };
    let search = Search::new(&json!({
        "space": { "hyperparameters": [
            { "name": "alpha", "type": "float", "lower": 1e-6, "upper": 1e-1, "log": true },
            { "name": "rate", "type": "float", "lower": 1e-4, "upper": 1, "log": true },
        ] },
        "objective": { "command": [python, document("any-trainer/train.py")] },
    }));
    let job = search.offer(0, 2, &json!({ "alpha": 1e-4, "rate": 0.01 }));
    let start = Instant::now();
    search.work();
    let result = search.result(job);
    let loss = result.outcome.loss();
    assert!(
        loss.is_some_and(|loss| loss < 0.1),
        "{:?}\n{}",
        result.outcome,
        search.log(job)
    );
    assert_eq!(result.curve.len(), 9);
    assert_eq!(result.curve[8].loss, loss);
    // The trainer's own clock, not the program's.
    assert!(result.elapsed_s > 0.0 && result.elapsed_s <= start.elapsed().as_secs_f64());
}
