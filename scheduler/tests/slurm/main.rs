//! `scheduler slurm` as people see it, on a login node whose SLURM is made of scripts.
#![expect(
    clippy::unwrap_used,
    clippy::format_push_string,
    reason = "all of this file is tests and what they share"
)]

#[cfg(test)]
#[path = "../fake/mod.rs"]
mod fake;
#[cfg(test)]
mod login_node;
#[cfg(test)]
mod noise;
#[cfg(test)]
mod scripts;

use std::process::Stdio;

use fake::wait_until;
use login_node::{LoginNode, Said};
use serde_json::json;
use shared::fs;

#[test]
fn slurm_gets_what_is_missing_and_never_twice_the_array() {
    let node = LoginNode::new();
    let mut said = String::new();
    for arguments in [
        &["--trainers", "9", "--", "--account=me"][..],
        &["--trainers", "9"],
        &["--trainers", "11"],
    ] {
        said += &format!("{}:\n{}", arguments.join(" "), node.slurm(arguments).well());
    }
    // A node fails, and its task is not queued again.
    node.happens(
        "-trainers|PENDING|2|Priority|",
        "-trainers|NODE_FAIL|2|None|node1",
    );
    said += &format!("a task lost:\n{}", node.slurm(&["--trainers", "11"]).well());
    insta::assert_snapshot!(said);
    let submissions = node.submissions();
    assert!(
        submissions[0].starts_with("--parsable --account=me --job-name=tandem-dir-"),
        "{submissions:?}"
    );
    assert!(!submissions[0].contains("--array"), "{submissions:?}");
    assert!(
        submissions[1].contains("-trainers --array=0-3 /"),
        "{submissions:?}"
    );
    assert!(
        submissions[3].contains("-trainers --array=0-0 /"),
        "{submissions:?}"
    );
    assert_eq!(
        node.records()[..2],
        ["0001-coordinator.json", "0001-coordinator.sh"]
    );
    let status = node.scheduler("status", &[]).well();
    assert!(status.contains("trainers PENDING (Priority)"), "{status}");
}

#[test]
fn groups_of_trainers_have_options_of_their_own_and_are_filled_each() {
    let node = LoginNode::new();
    let groups = [
        "--trainers",
        "large=2 --partition=a100 --gres=gpu:a100:1",
        "--trainers",
        "small=3 --mem=8G",
        "--trainer-args=--tmp=1G",
    ];
    let said = node.slurm(&groups).well();
    assert!(
        said.contains("submitted: 2 trainers of group large as SLURM job 2"),
        "{said}"
    );
    assert!(
        said.contains("submitted: 3 trainers of group small as SLURM job 3"),
        "{said}"
    );
    let submissions = node.submissions();
    assert!(
        submissions[0].starts_with("--parsable --job-name"),
        "{submissions:?}"
    );
    let large = "--parsable --tmp=1G --partition=a100 --gres=gpu:a100:1 --job-name=";
    assert!(submissions[1].starts_with(large), "{submissions:?}");
    assert!(
        submissions[2].starts_with("--parsable --tmp=1G --mem=8G --job-name="),
        "{submissions:?}"
    );
    // One of the small ones has ended: it is replaced by its like.
    node.happens("small|PENDING|3|Priority", "small|CANCELLED|3|None");
    let said = node.slurm(&groups).well();
    assert!(
        said.contains("submitted: 1 trainer of group small as SLURM job 4"),
        "{said}"
    );
    assert_eq!(node.submissions().len(), 4);
    let said = node.slurm(&groups).well();
    assert!(said.contains("nothing to submit"), "{said}");
    let status = node.scheduler("status", &["--format", "json"]).well();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let groups: Vec<_> = status["slurm"]
        .as_array()
        .unwrap()
        .iter()
        .map(|queued| &queued["group"])
        .collect();
    assert!(
        groups.contains(&&json!("large")) && groups.contains(&&json!("small")),
        "{status}"
    );
}

#[test]
fn the_coordinator_is_not_charged_like_a_trainer() {
    let node = LoginNode::new();
    let arguments = [
        "--trainers=2",
        "--gpus-per-trainer=a100:2",
        "--trainer-args",
        "--cpus-per-task=8",
        "--coordinator-args=--mem=2G",
        "--",
        "--mem",
        "64G",
        "--account",
        "me",
        "-G1",
        "--constraint=a100",
    ];
    let dry = node
        .slurm(&[&["--dry-run"], &arguments[..]].concat())
        .well();
    let (coordinator, trainers) = dry.split_once("# ---- trainers ----").unwrap();
    let coordinator_command =
        "# 'sbatch' '--parsable' '--account=me' '--mem=2G' '--job-name=tandem-dir-";
    assert!(coordinator.contains(coordinator_command), "{coordinator}");
    assert!(!coordinator.contains("gres"), "{coordinator}");
    let command = "# 'sbatch' '--parsable' '--mem=64G' '--account=me' '-G1' '--constraint=a100' '--cpus-per-task=8' '--job-name=";
    assert!(trainers.contains(command), "{trainers}");
    assert!(
        trainers.contains("#SBATCH --gres=gpu:a100:2\n"),
        "{trainers}"
    );
    assert_eq!(node.records(), [""; 0]);
    // What is shown is what is done.
    node.slurm(&arguments).well();
    for (submission, shown) in node.submissions().iter().zip([coordinator, trainers]) {
        let shown = shown
            .lines()
            .find_map(|line| line.strip_prefix("# 'sbatch' "))
            .unwrap();
        assert_eq!(shown.replace('\'', ""), *submission);
    }
}

#[test]
fn slurms_commands_hear_no_variables_that_stand_for_options_and_make_nothing_for_everybody_to_write()
 {
    let node = LoginNode::new();
    let submit = || -> Said {
        node.command("/bin/sh")
            .args(["-c", "umask 000; exec \"$0\" \"$@\""])
            .arg(node.file("bin/scheduler"))
            .arg("slurm")
            .arg(node.root())
            .args(["--trainers", "2"])
            .env("SLURM_CONF", "/etc/slurm.conf")
            .env("SLURM_JWT", "token")
            .env("SLURM_CLUSTERS", "other")
            .env("SBATCH_ACCOUNT", "physics")
            .env("SBATCH_JOB_NAME", "mine")
            .env("SBATCH_ARRAY_INX", "0-7")
            .env("SQUEUE_PARTITION", "urgent")
            .env("SCONTROL_FEDERATION", "1")
            .env("SACCT_FEDERATION", "1")
            .env("SCANCEL_NAME", "mine")
            .output()
            .unwrap()
            .into()
    };
    let first = submit();
    // Who relies on them is told.
    for name in ["SBATCH_ARRAY_INX", "SBATCH_JOB_NAME"] {
        assert!(first.err.contains(name), "{}", first.err);
    }
    let said = first.well();
    assert!(said.contains("submitted: 2 trainers"), "{said}");
    let again = submit().well();
    assert!(again.contains("nothing to submit"), "{again}");
    let read = |name: &str| std::fs::read_to_string(node.file(name)).unwrap();
    let heard = read("queue.heard");
    let stays = ["SLURM_CONF=", "SLURM_JWT=", "SBATCH_ACCOUNT="];
    let has_stayed = |line: &str| stays.iter().any(|name| line.contains(name));
    assert!(heard.lines().all(has_stayed), "{heard}");
    // squeue, scontrol, sbatch twice, squeue.
    assert_eq!(heard.lines().count(), 15, "{heard}");
    assert_eq!(read("queue.umask"), "0002\n".repeat(5));
}

#[test]
fn arguments_that_hide_what_was_submitted_are_refused_and_so_are_bad_time_limits() {
    let node = LoginNode::new();
    for (arguments, complaint) in [
        (
            &["--", "--job-name=mine"][..],
            "`--job-name=mine` cannot be handed to sbatch",
        ),
        (&["--", "-Jmine"], "-J (--job-name)"),
        (&["--", "--arr=0-1"], "--array"),
        (&["--", "--test-only"], "--dry-run"),
        (&["--", "mine.sh"], "in place of the script"),
        (&["--", "--time=2"], "at least 5 minutes"),
        (&["--time=2"], "at least 5 minutes"),
        (&["--time=4h"], "days-hours:minutes:seconds"),
        (&["--keep=3"], "different numbers"),
        (&["--trainer-args=-Jmine"], "-J (--job-name)"),
        (&["--coordinator-args=--wrap=x"], "--wrap"),
        (&["--trainers=3"], "need names"),
        (&["--gpus-per-trainer=many"], "a100:1"),
        (&["--prelude=/no/such/file"], "/no/such/file"),
    ] {
        for more in [&["--dry-run"][..], &[]] {
            let said = node.slurm(&[&["--trainers", "2"], more, arguments].concat());
            let expected = if arguments[0].starts_with("--prelude") {
                3
            } else {
                2
            };
            assert_eq!(said.code, expected, "{arguments:?}: {}", said.err);
            assert!(said.err.contains(complaint), "{arguments:?}: {}", said.err);
        }
    }
    assert_eq!(node.queue(), "");
}

#[test]
fn directories_that_no_batch_script_can_name_are_refused() {
    let node = LoginNode::new();
    for name in ["a\"b", "a\\b", "a\nb", "a\tb", "a\u{85}b"] {
        let root = node.file(name);
        fake::create(&root, json!({}));
        for more in [&["--dry-run"][..], &[]] {
            let mut command = node.command(node.file("bin/scheduler"));
            command
                .arg("slurm")
                .arg(&root)
                .args(["--trainers", "2"])
                .args(more);
            let said = Said::from(command.output().unwrap());
            assert_eq!(said.code, 2, "{name:?}: {}", said.err);
            assert!(
                said.err.contains("cannot be used with SLURM"),
                "{name:?}: {}",
                said.err
            );
            assert_eq!(said.out, "");
        }
    }
}

#[test]
fn the_number_of_trainers_may_stand_after_keep() {
    let node = LoginNode::new();
    for (arguments, tasks) in [
        (&["--keep=3"][..], Some("0-2")),
        (&["--keep=3", "--trainers", "3"], Some("0-2")),
        (&["--trainers=2", "--keep"], Some("0-1")),
        (&["--keep"], None),
        (&["--keep=0"], None),
        (&[], None),
    ] {
        let said = node.slurm(&[&["--dry-run"], arguments].concat());
        match tasks {
            Some(tasks) => {
                let said = said.well();
                assert!(
                    said.contains(&format!("--array={tasks}\n")),
                    "{arguments:?}: {said}"
                );
                assert!(
                    said.contains("'--keep' '--trainers="),
                    "{arguments:?}: {said}"
                );
            }
            None => assert_eq!(said.code, 2, "{arguments:?}: {}", said.err),
        }
    }
}

#[test]
fn two_commands_at_the_same_time_do_not_double_the_array() {
    for delay_ms in [0, 150, 450, 900] {
        let node = LoginNode::new();
        // SLURM takes its time.
        let bin = node.file("bin");
        fs::move_to(&bin.join("sbatch"), &bin.join("sbatch-at-once")).unwrap();
        node.program("sbatch", "sleep 0.3; exec sbatch-at-once \"$@\"");
        let submit = || {
            let mut command = node.slurm_command(&["--trainers", "6"]);
            command.stdout(Stdio::null()).stderr(Stdio::piped());
            command.spawn().unwrap()
        };
        let first = submit();
        std::thread::sleep(std::time::Duration::from_millis(delay_ms));
        for child in [first, submit()] {
            let said = Said::from(child.wait_with_output().unwrap());
            let is_refused = said.err.contains("another `scheduler slurm` is submitting");
            assert!(said.code == 0 || is_refused, "{}", said.err);
        }
        assert!(submit().wait().unwrap().success());
        assert_eq!(
            node.pending(),
            (6, 1),
            "after {delay_ms} ms: {}",
            node.queue()
        );
    }
}

#[test]
fn trainers_that_do_not_start_are_not_asked_for_for_ever() {
    let node = LoginNode::new();
    // Whatever is submitted is over at once.
    node.program("squeue", "exit 0");
    let log = node.file("log");
    let mut keeper = node
        .slurm_command(&["--trainers=2", "--keep", "--poll-s", "0.05"])
        .stdout(Stdio::null())
        .stderr(log_file(&log))
        .spawn()
        .unwrap();
    let said = || std::fs::read_to_string(&log).unwrap();
    let arrays = || {
        let records = node.records();
        let is_array = |name: &&String| name.ends_with("-trainers.json");
        records.iter().filter(is_array).count()
    };
    wait_until("the breaker", || said().contains("no more are submitted"));
    assert_eq!(arrays(), 3);
    // By hand it still goes; that came to nothing too, so it stays open.
    node.slurm(&["--trainers=2"]).well();
    assert_eq!(arrays(), 4);
    node.directory.stop("enough").unwrap();
    assert!(keeper.wait().unwrap().success());
    assert_eq!(arrays(), 4);
    assert_eq!(
        said().matches("no more are submitted").count(),
        1,
        "{}",
        said()
    );
}

/// A log that a child process writes to.
fn log_file(path: &std::path::Path) -> std::fs::File {
    let mut options = fs_err::File::options();
    options.create(true).append(true);
    options.open(path).unwrap().into_parts().0
}

#[test]
fn a_node_whose_trainers_fail_while_others_run_is_left_out() {
    let node = LoginNode::new();
    let log = node.file("log");
    let mut keeper = node
        .slurm_command(&[
            "--trainers=3",
            "--keep",
            "--poll-s",
            "0.05",
            "--",
            "-xnode9",
        ])
        .stdout(Stdio::null())
        .stderr(log_file(&log))
        .spawn()
        .unwrap();
    wait_until("an array", || node.submissions().len() == 2);
    wait_until("its tasks", || node.pending() == (3, 1));
    // One file a time: the keeper reads it whenever it likes.
    let queue = node.queue();
    let becomes =
        |queue: String, state: &str| queue.replacen("-trainers|PENDING|2|Priority|", state, 1);
    let queue = becomes(queue, "-trainers|RUNNING|2|None|node1");
    let queue = becomes(queue, "-trainers|RUNNING|2|None|node2");
    let queue = becomes(queue, "-trainers|FAILED|2|NonZeroExitCode|node3");
    fs::replace(&node.file("queue"), queue.as_bytes()).unwrap();
    wait_until("the one in its place", || node.submissions().len() == 3);
    let last = node.submissions().pop().unwrap();
    assert!(
        last.contains(" -xnode9 --exclude=node9,node3 --job-name="),
        "{last}"
    );
    // SLURM forgets what has ended; the search does not.
    wait_until("its task", || node.pending() == (1, 1));
    node.happens("-trainers|FAILED|2|NonZeroExitCode|node3\n", "");
    node.happens(
        "-trainers|RUNNING|2|None|node1",
        "-trainers|CANCELLED|2|None|node1",
    );
    wait_until("another one", || node.submissions().len() == 4);
    let last = node.submissions().pop().unwrap();
    assert!(last.contains(" --exclude=node9,node3 "), "{last}");
    // By hand nothing is left out but what the user says.
    node.directory.stop("enough").unwrap();
    assert!(keeper.wait().unwrap().success());
    node.slurm(&["--trainers=5"]).well();
    let last = node.submissions().pop().unwrap();
    assert!(!last.contains("--exclude"), "{last}");
    let log = std::fs::read_to_string(&log).unwrap();
    assert_eq!(
        log.matches("trainers have failed on node3 while others run")
            .count(),
        1,
        "{log}"
    );
}

#[test]
fn cancelling_takes_what_lives_out_of_the_queue_and_nothing_else() {
    let node = LoginNode::new();
    let said = node.slurm(&["--cancel"]).well();
    assert!(said.contains("nothing to cancel"), "{said}");
    node.slurm(&["--trainers", "large=2", "--trainers=3"])
        .well();
    node.happens(
        "-trainers|PENDING|3|Priority|",
        "-trainers|COMPLETED|3|None|node1",
    );
    let foreign = "other-trainers|PENDING|99|Priority|\n";
    fs::replace(&node.file("queue"), (node.queue() + foreign).as_bytes()).unwrap();
    let said = node.slurm(&["--cancel"]).well();
    for line in [
        "cancelled: 1 coordinator PENDING",
        "cancelled: 2 trainers PENDING",
        "cancelled: 2 trainers of group large PENDING",
    ] {
        assert!(said.contains(line), "{said}");
    }
    assert!(node.queue().contains(foreign), "{}", node.queue());
    assert_eq!(node.pending(), (1, 0));
    assert_eq!(node.slurm(&["--cancel", "--dry-run"]).code, 2);
}

#[test]
fn without_slurm_its_command_says_so_but_still_shows_the_scripts() {
    let node = LoginNode::new();
    for name in ["sbatch", "squeue", "scontrol"] {
        fs::remove(&node.file("bin").join(name)).unwrap();
    }
    // This machine may have SLURM's commands in a usual place.
    let nowhere = |arguments: &[&str]| -> Said {
        let mut command = node.slurm_command(arguments);
        command.env("PATH", node.file("bin"));
        command.output().unwrap().into()
    };
    let said = nowhere(&["--trainers", "2"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("cannot run `squeue`"), "{}", said.err);
    let said = nowhere(&["--trainers", "2", "--dry-run", "--", "--qos=a"]).well();
    for part in ["--array=0-1", "# 'sbatch' '--parsable' '--qos=a' "] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(node.records(), [""; 0]);
}

#[test]
fn what_cannot_work_is_said_at_once() {
    let with = |unit: &str| {
        LoginNode::with(json!({
            "objective": {"command": ["./train.sh"]},
            "budget": {"unit": unit, "min": 3600, "max": 10_800},
        }))
    };
    let node = with("seconds");
    let refused = node.slurm(&["--trainers=2", "--time=30"]);
    assert_eq!(refused.code, 2, "{}", refused.err);
    for part in ["30 min", "3600 s", "--time=182 or more", "--force"] {
        assert!(refused.err.contains(part), "{part}: {}", refused.err);
    }
    // The program is nowhere to be seen from here.
    assert!(
        refused
            .err
            .contains("train.sh` of the command is not there"),
        "{}",
        refused.err
    );
    assert_eq!(node.queue(), "");
    let some = node.slurm(&["--trainers=2", "--time=30", "--", "--time=2:00:00"]);
    assert!(
        some.err.contains("rung 1 (10800 s) cannot be trained"),
        "{}",
        some.err
    );
    some.well();
    node.slurm(&["--trainers=2", "--time=30", "--force"]).well();
    with("epochs").slurm(&["--trainers=2", "--time=30"]).well();

    fs::remove(&node.file("bin/analyzer")).unwrap();
    let said = node.slurm(&["--trainers=4"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(
        said.err
            .contains("analyzer` is missing: build all programs"),
        "{}",
        said.err
    );
}
