//! Workers that hang, crash, run out of memory or poison their device: the trainer lives, and says whose fault it was.

use std::path::PathBuf;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use shared::owner::new_owner;
use shared::record::{Fate, Heartbeat, JobResult, TrainerState};
use shared::{JobId, Outcome, clock, fs};

use crate::command::{PREAMBLE, a, number};
use crate::{Search, said, wait_until};

/// A search whose objective is a shell script that reads jobs for as long as it lives, with changes to the search file.
fn kept_alive(script: &str, changes: &Value) -> Search {
    let read = format!(
        "while read -r path; do set -- \"$path\"\n{PREAMBLE}\n{script}\necho \"$path\"; done"
    );
    with_command(
        &["sh", "-c", &read],
        &json!({ "keep_alive": true }),
        changes,
    )
}

/// A search whose objective is a shell script that does one job, with changes to the search file.
fn scripted(script: &str, changes: &Value) -> Search {
    with_command(
        &["sh", "-c", &format!("{PREAMBLE}{script}"), "sh"],
        &json!({}),
        changes,
    )
}

fn with_command(command: &[&str], objective: &Value, changes: &Value) -> Search {
    let mut file = json!({
        "space": { "hyperparameters": [{ "name": "case", "type": "categorical", "choices": ["a", "b"] }] },
        "objective": { "command": command },
    });
    for (name, value) in objective.as_object().unwrap() {
        file["objective"][name] = value.clone();
    }
    for (name, value) in changes.as_object().unwrap() {
        file[name] = value.clone();
    }
    Search::new(&file)
}

fn offered(search: &Search, number: u32) -> Vec<JobId> {
    (0..number).map(|id| search.offer(id, 0, &a())).collect()
}

#[test]
fn a_program_that_is_kept_alive_is_started_once_and_its_prints_are_each_jobs_own() {
    let script = r#"echo "hello from $(basename "$path") $$"; echo "{\"loss\": 1, \"measures\": {\"pid\": $$}}" > "$result""#;
    let search = kept_alive(script, &json!({}));
    let jobs = offered(&search, 5);
    search.work();
    let processes: Vec<f64> = jobs
        .iter()
        .map(|job| search.result(*job).measures["pid"])
        .collect();
    assert!(
        processes.iter().all(|process| *process == processes[0]),
        "{processes:?}"
    );
    for job in jobs {
        assert_eq!(
            search.log(job),
            format!("hello from job.json {}\n", processes[0])
        );
    }
}

#[test]
fn a_kept_program_that_dies_costs_its_job_an_outcome_and_the_next_job_gets_a_new_one() {
    let script = r#"
        case "$result" in *c000001-*) kill -9 $$ ;; *c000002-*) echo "ValueError: no" >&2; exit 1 ;; esac
        echo "{\"loss\": 1, \"measures\": {\"pid\": $$}}" > "$result"
    "#;
    let search = kept_alive(script, &json!({}));
    let jobs = offered(&search, 4);
    search.work();
    assert_eq!(search.loss(jobs[0]), 1.0);
    assert!(
        search.message(jobs[1]).contains("signal: 9"),
        "{}",
        search.message(jobs[1])
    );
    assert!(
        search.message(jobs[2]).contains("ValueError: no"),
        "{}",
        search.message(jobs[2])
    );
    assert_ne!(
        search.result(jobs[0]).measures["pid"],
        search.result(jobs[3]).measures["pid"]
    );
}

#[test]
fn a_kept_program_that_ends_between_two_jobs_is_started_again() {
    // It answers behind dots without an end of line, and is gone a moment later, when it has been given the next job.
    let read = format!(
        "read -r path; set -- \"$path\"\n{PREAMBLE}\necho '{{\"loss\": 1}}' > \"$result\"; printf ...; echo \"$path\"; sleep 0.3"
    );
    let search = with_command(
        &["sh", "-c", &read],
        &json!({ "keep_alive": true }),
        &json!({}),
    );
    let jobs = offered(&search, 3);
    search.work();
    for job in jobs {
        assert_eq!(search.loss(job), 1.0);
        assert_eq!(search.log(job), "...");
    }
}

#[test]
fn a_kept_program_is_warned_like_any_other() {
    let script = r#"
        trap 'echo 3 > "$checkpoints/saved"; exit 75' TERM
        echo 0.5 > "$progress"
        echo 1 > "$checkpoints/counted"
        while true; do sleep 0.05; done
    "#;
    let search = kept_alive(script, &json!({}));
    let job = search.offer(0, 0, &a());
    let running = search.start();
    let counted = crate::command::checkpoints(&search, job).join("counted");
    wait_until("a step", || number(&counted));
    let (code, seconds, log) = running.terminate();
    assert_eq!(code, Some(75), "{log}");
    assert!(seconds < 60.0, "{seconds} s");
    assert_eq!(search.check_given_back(job, Fate::Preempted).spent, 0.5);
}

#[test]
fn a_program_that_hangs_or_takes_too_long_is_ended_and_the_trainer_goes_on() {
    for (limit, script) in [
        ("silence_limit_s", "echo 0.25 > \"$progress\"; sleep 300"),
        (
            "job_limit_s",
            "n=0; while true; do n=$((n + 1)); echo $n > \"$progress\"; sleep 0.1; done",
        ),
    ] {
        let script = format!(
            "[ \"$case\" = b ] && {{ echo '{{\"loss\": 1}}' > \"$result\"; exit; }}\n{script}"
        );
        let changes = json!({ "trainers": { "heartbeat_s": 0.1, limit: 6.0 } });
        let search = scripted(&script, &changes);
        let hanging = search.offer(0, 0, &a());
        let other = search.offer(1, 0, &json!({ "case": "b" }));
        let log = search.work();
        let Outcome::Crashed {
            message,
            progressed,
            ..
        } = search.result(hanging).outcome
        else {
            panic!("{:?}", search.result(hanging).outcome)
        };
        assert!(message.contains(limit), "{message}");
        assert_eq!(progressed, Some(true), "{log}");
        assert_eq!(search.loss(other), 1.0);
    }
}

#[test]
fn a_gigabyte_of_output_is_cut_in_the_middle_and_the_exception_is_told() {
    let script = r#"
        echo the beginning
        head -c 1000000000 /dev/zero | tr '\0' x
        echo; echo 'Traceback (most recent call last):' >&2; echo '  File "train.py", line 1' >&2
        echo 'ValueError: the width is odd' >&2; echo 'cleaning up'; exit 1
    "#;
    let search = scripted(
        script,
        &json!({ "trainers": { "heartbeat_s": 0.1, "output_kib": 64 } }),
    );
    let job = search.offer(0, 0, &a());
    search.work();
    let text = search.log(job);
    assert!(text.starts_with("the beginning\nxxx") && text.ends_with("cleaning up\n"));
    assert!(
        text.len() < 200_000 && text.contains("bytes are left out here"),
        "{}",
        text.len()
    );
    let Outcome::Crashed {
        message,
        log,
        progressed,
    } = search.result(job).outcome
    else {
        panic!("{:?}", search.result(job).outcome)
    };
    assert!(
        message.ends_with("the last it said: ValueError: the width is odd"),
        "{message}"
    );
    assert_eq!(progressed, Some(false));
    let log = search.directory.layout().path(&log.unwrap());
    assert!(log.is_file(), "{}", log.display());
}

/// A control group that allows so many MiB, removed when dropped; `None` where there can be none.
struct Group(PathBuf);

impl Group {
    fn new(mib: u64) -> Option<Self> {
        let name = format!("tandem-test-{}", std::process::id());
        let (version_1, version_2) = ("/sys/fs/cgroup/memory", "/sys/fs/cgroup");
        let folder = [version_1, version_2]
            .into_iter()
            .map(|root| PathBuf::from(root).join(&name))
            .find(|folder| {
                let is_made = std::fs::create_dir(folder).is_ok();
                let limits = ["memory.limit_in_bytes", "memory.max"].map(|file| folder.join(file));
                let is_limited = limits
                    .iter()
                    .any(|file| put(file, &(mib << 20).to_string()));
                if is_made && !is_limited {
                    let _left = std::fs::remove_dir(folder);
                }
                is_limited
            })?;
        Some(Self(folder))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Nobody is in it any more, or the test has failed.
        let _left = std::fs::remove_dir(&self.0);
    }
}

fn put(file: &std::path::Path, text: &str) -> bool {
    use std::io::Write as _;
    std::fs::OpenOptions::new()
        .write(true)
        .open(file)
        .is_ok_and(|mut file| file.write_all(text.as_bytes()).is_ok())
}

#[test]
fn a_program_that_the_kernel_kills_for_lack_of_memory_is_out_of_memory() {
    let Some(group) = Group::new(100) else {
        shared::cli::report("skipped: no control group with a limit of memory can be made");
        return;
    };
    // What tail has not seen the end of it keeps.
    let script =
        "[ \"$case\" = b ] && { echo '{\"loss\": 1}' > \"$result\"; exit; }\nexec tail /dev/zero";
    let search = scripted(script, &json!({}));
    let large = search.offer(0, 0, &a());
    let small = search.offer(1, 0, &json!({ "case": "b" }));
    let run = search.trainer_run();
    let mut limited = std::process::Command::new("sh");
    limited
        .args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""])
        .arg(&group.0)
        .arg(run.get_program())
        .args(run.get_args());
    let output = limited.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let Outcome::OutOfMemory { available_mib, .. } = search.result(large).outcome else {
        panic!("{:?}", search.result(large).outcome)
    };
    assert!(
        available_mib > 20.0 && available_mib <= 100.0,
        "{available_mib}"
    );
    assert_eq!(search.loss(small), 1.0, "the trainer lives");
}

#[test]
fn a_failed_device_is_tried_elsewhere_once_and_then_counts() {
    let script = "printf 'Traceback (most recent call last):\n  File \"train.py\", line 1\nRuntimeError: CUDA error: an illegal memory access was encountered\n' >&2; exit 1";
    let search = scripted(script, &json!({}));
    let job = search.offer(0, 0, &a());
    let output = search.trainer_run().output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    let end = search.check_given_back(job, Fate::DeviceFailed);
    assert!(
        end.message.contains("illegal memory access"),
        "{}",
        end.message
    );
    search.work();
    assert!(search.message(job).contains("illegal memory access"));
}

#[test]
fn a_training_whose_process_somebody_kills_is_given_back_and_the_trainer_goes_on() {
    let search = Search::new(&json!({}));
    let small = json!({ "initial_filters": 8, "nr_residual_blocks_1": 1, "learning_rate": 0.05, "batch_size": 32 });
    let job = search.offer(0, 2, &small);
    let mut run = search.trainer("run");
    run.args(["--poll-s", "0.1", "--device", "cpu"]);
    run.stderr(std::process::Stdio::piped());
    let running = crate::Running(Some(run.spawn().unwrap()));
    wait_until("a step", || {
        let heartbeats = search.directory.heartbeats().unwrap();
        heartbeats
            .values()
            .any(|heartbeat| matches!(heartbeat.state, TrainerState::Working { spent, .. } if spent > 0.0))
            .then_some(())
    });
    let supervisor = running.pid().as_raw_nonzero().get();
    let worker = children(supervisor, "worker").remove(0);
    kill_process(Pid::from_raw(worker).unwrap(), Signal::KILL).unwrap();
    wait_until("the job is given back", || {
        (!search.directory.attempt_ends(job).unwrap().is_empty()).then_some(())
    });
    assert_eq!(search.only_end(job).fate, Fate::InputOutput);
    // The same trainer does the next job with a new process.
    let other = search.offer(1, 0, &small);
    wait_until("the next job's result", || {
        search.directory.has_result(other).unwrap().then_some(())
    });
    assert!(search.loss(other) < 1.0);
    let (code, _, log) = running.terminate();
    assert_eq!(code, Some(75), "{log}");
}

/// The processes that a process has started and whose command line has a word.
fn children(parent: i32, word: &str) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let mut fields = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace();
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        fields.nth(1) == Some(&parent.to_string()) && line.split('\0').any(|part| part == word)
    })
    .collect()
}

#[test]
fn under_scratch_each_rung_has_a_folder_and_where_promotions_continue_all_share_one() {
    let script = r#"
        n=$(cat "$checkpoints/epochs" 2>/dev/null || echo 0)
        echo $((n + 1)) > "$checkpoints/epochs"
        earlier=$(tr -d ' \n' < "$1" | sed 's/.*"earlier_budgets":\[\([^]]*\)\].*/\1/')
        printf '{"loss": 1, "measures": {"before": %s, "continued": %s}}' "$n" "$([ -z "$earlier" ]; echo $?)" > "$result"
    "#;
    for (promotion, expected) in [("scratch", [0.0, 0.0]), ("continue", [1.0, 1.0])] {
        let search = scripted(
            script,
            &json!({ "promotion": promotion, "method": "hyperband" }),
        );
        search.offer(0, 0, &a());
        search.work();
        let continues = promotion == "continue";
        let higher = search.offer_job(0, 1, &a(), continues);
        search.work();
        let measures = search.result(higher).measures;
        assert_eq!(
            [measures["before"], measures["continued"]],
            expected,
            "{promotion}"
        );
        // What a rung is done with goes; what a later one shares stays.
        search
            .directory
            .drop_checkpoints(higher.configuration, Some(1))
            .unwrap();
        assert!(crate::command::checkpoints(&search, higher).exists());
        let lower = crate::command::checkpoints(&search, higher.configuration.job(0));
        assert_eq!(lower.exists(), continues);
    }
}

#[test]
fn paths_that_programs_are_given_hold_wherever_they_run() {
    let script = "cd / && echo kept > \"$checkpoints/here\" && echo '{\"loss\": 1}' > \"$result\"";
    let search = scripted(script, &json!({}));
    let job = search.offer(0, 0, &a());
    let mut run = search.trainer_run();
    run.current_dir(search.folder.path());
    let mut relative = std::process::Command::new(run.get_program());
    relative.current_dir(search.folder.path()).args([
        "run",
        "directory",
        "--once",
        "--device",
        "cpu",
    ]);
    let output = relative.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(search.loss(job), 1.0);
    assert!(
        crate::command::checkpoints(&search, job)
            .join("here")
            .is_file()
    );
}

#[test]
fn a_loss_counts_although_a_measure_beside_it_cannot_be_read() {
    let script =
        r#"echo '{"loss": 0.5, "measures": {"auc": NaN, "f1": 1}, "acc": null}' > "$result""#;
    let search = scripted(script, &json!({}));
    let job = search.offer(0, 0, &a());
    search.work();
    let result = search.result(job);
    assert_eq!(result.outcome, Outcome::Evaluated { loss: 0.5 });
    assert_eq!(result.measures, [("f1".to_owned(), 1.0)].into());
    assert!(
        result.notes["left_out"].contains("measures.auc"),
        "{:?}",
        result.notes
    );
}

/// The heartbeat of another trainer that lives.
fn other_trainer(search: &Search, host: &str, memory_mib: f64) -> Heartbeat {
    let heartbeat = Heartbeat {
        owner: new_owner(),
        beat: 1,
        state: TrainerState::Waiting,
        host: host.to_owned(),
        pid: 1,
        device: "cpu".to_owned(),
        slurm_job: None,
        memory_mib: Some(memory_mib),
        device_memory_mib: None,
        at: clock::now(),
        program: "test".to_owned(),
        time_left_s: None,
    };
    search.directory.beat(&heartbeat).unwrap();
    heartbeat
}

#[test]
fn a_network_too_large_for_this_host_is_left_to_a_larger_trainer_while_one_lives() {
    let changes = json!({ "trainers": { "heartbeat_s": 1, "lease_s": 600 } });
    let search = Search::new(&changes);
    let job = search.offer(0, 0, &json!({
        "nr_residual_blocks_1": 16, "nr_residual_blocks_2": 16, "nr_residual_blocks_3": 16,
        "initial_filters": 32, "widen_factor_1": 8.0, "widen_factor_2": 4.0, "widen_factor_3": 4.0,
        "res_branches_1": 5, "res_branches_2": 5, "res_branches_3": 5, "learning_rate": 0.1, "batch_size": 64,
    }));
    let mut larger = other_trainer(&search, "large", 1e9);
    let log = search.work();
    assert!(log.contains("left to other trainers"), "{log}");
    assert_eq!(search.directory.open_jobs().unwrap(), [job.attempt(1)]);
    // The largest that is left has the last word.
    larger.state = TrainerState::Gone;
    larger.beat += 1;
    search.directory.beat(&larger).unwrap();
    other_trainer(&search, "small", 1.0);
    search.work();
    assert!(matches!(
        search.result(job).outcome,
        Outcome::OutOfMemory { .. }
    ));
}

#[test]
fn a_trainer_whose_jobs_all_crash_while_others_succeed_leaves_and_says_why() {
    let search = scripted(
        "echo \"ModuleNotFoundError: No module named 'torch'\" >&2; exit 1",
        &json!({}),
    );
    let jobs = offered(&search, 6);
    // Somebody else's job went well.
    let template = {
        let other = scripted("echo '{\"loss\": 1}' > \"$result\"", &json!({}));
        let job = other.offer(9, 0, &a());
        other.work();
        other.result(job)
    };
    search.directory.publish_result(&template).unwrap();
    let output = search.trainer_run().output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert!(
        said(&output).contains("while others' succeed"),
        "{}",
        said(&output)
    );
    let results: Vec<Option<JobResult>> = jobs
        .iter()
        .map(|job| search.directory.read_result(*job).unwrap())
        .collect();
    assert_eq!(results.iter().flatten().count(), 3);
    assert!(search.message(jobs[0]).contains("No module named 'torch'"));
    // Where nobody's succeed it goes on: then it may be the program that is wrong.
    let alone = scripted("exit 1", &json!({}));
    let jobs = offered(&alone, 6);
    alone.work();
    assert!(
        jobs.iter()
            .all(|job| alone.directory.has_result(*job).unwrap())
    );
}

#[test]
fn nothing_is_left_behind_in_the_temporary_folder() {
    let temporary = tempfile::tempdir().unwrap();
    let search = scripted("echo '{\"loss\": 1}' > \"$result\"", &json!({}));
    let jobs = offered(&search, 20);
    let output = search
        .trainer_run()
        .env("TMPDIR", temporary.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(jobs.iter().all(|job| search.loss(*job) == 1.0));
    assert_eq!(fs::list(temporary.path()).unwrap(), Vec::<String>::new());
}
