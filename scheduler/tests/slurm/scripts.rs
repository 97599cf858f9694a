//! The batch scripts, run by bash as SLURM would.

use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use shared::fs;

use crate::fake::{executable, wait_until};
use crate::login_node::{LoginNode, Said};

/// The scripts that would be submitted, as files: the coordinator's and the trainers'.
fn scripts(node: &LoginNode, arguments: &[&str]) -> [PathBuf; 2] {
    let said = node
        .slurm(&[&["--trainers=1", "--dry-run"], arguments].concat())
        .well();
    let (coordinator, trainers) = said.split_once("# ---- trainers ----").unwrap();
    [("coordinator.sh", coordinator), ("trainers.sh", trainers)]
        .map(|(name, text)| executable(&node.file("."), name, text))
}

#[test]
fn scripts_hand_signals_on_and_queue_themselves_again_after_a_warning() {
    let node = LoginNode::new();
    let [coordinator, _] = scripts(&node, &[]);
    let program = "trap 'exit 75' USR1; trap 'exit 75' TERM; touch \"$2/up-${0##*/}\"; while :; do sleep 0.01; done";
    node.program("scheduler", program);
    node.program("sampler", program);
    let requeued = node.file("requeued");
    node.program(
        "scontrol",
        &format!("echo \"$*\" >> '{}'", requeued.display()),
    );
    let run = || {
        let mut command = node.command("bash");
        command.arg(&coordinator).env("SLURM_JOB_ID", "17");
        command
    };
    for (signal, is_requeued) in [(Signal::TERM, false), (Signal::USR1, true)] {
        for name in ["up-scheduler", "up-sampler"] {
            fs::remove(&node.root().join(name)).unwrap();
        }
        let mut child = run().spawn().unwrap();
        wait_until("both programs", || {
            ["up-scheduler", "up-sampler"]
                .iter()
                .all(|name| node.root().join(name).exists())
        });
        let process = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(process, signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(75));
        let asked = std::fs::read_to_string(&requeued).unwrap_or_default();
        assert_eq!(asked, if is_requeued { "requeue 17\n" } else { "" });
    }
    // The scheduler is of no use without the sampler.
    // It fails once the scheduler heeds signals: before that a signal just ends it.
    fs::remove(&node.root().join("up-scheduler")).unwrap();
    node.program(
        "sampler",
        "until [ -e \"$2/up-scheduler\" ]; do sleep 0.01; done; exit 3",
    );
    assert_eq!(run().status().unwrap().code(), Some(75));
    assert_eq!(std::fs::read_to_string(&requeued).unwrap(), "requeue 17\n");
}

/// Runs a script: how it ends, and what it prints.
fn run(node: &LoginNode, script: &PathBuf, set_up: impl FnOnce(&mut Command)) -> Said {
    let mut command = node.command("bash");
    command.arg(script).current_dir("/");
    set_up(&mut command);
    command.output().unwrap().into()
}

#[test]
fn the_prelude_is_run_before_the_programs_and_kept_for_what_is_submitted_later() {
    let node = LoginNode::new();
    let prelude = node.file("prelude");
    let lines = "#SBATCH --mem=1\r\nset -euo pipefail\r\ntrap 'echo trapped' ERR\r\nmodule() { export MODULE=\"$2 it's\"; }\r\n\
                 module load cuda\r\nfalse || cd /tmp\r\n";
    fs::replace(&prelude, lines.as_bytes()).unwrap();
    let given = format!("--prelude={}", prelude.display());
    let warned = node.slurm(&["--trainers=1", "--dry-run", &given]);
    assert!(warned.err.contains("#SBATCH lines"), "{}", warned.err);
    // Looking keeps nothing.
    assert_eq!(node.records(), [""; 0]);
    node.slurm(&["--trainers=1", &given]).well();
    fs::remove(&prelude).unwrap();
    let [_, trainers] = scripts(&node, &[]);
    node.program(
        "trainer",
        "echo \"$MODULE in $PWD as $TANDEM_WORKER: $*\"; exit 3",
    );
    let said = run(&node, &trainers, |command| {
        command.env("SLURM_ARRAY_TASK_ID", "7");
    });
    let root = node.root().display().to_string();
    assert_eq!(
        said.out,
        format!("cuda it's in {root} as 7: run {root} --threads 1\n")
    );
    assert_eq!(said.code, 3);
    // What cannot be set up is no start.
    fs::replace(&prelude, b"set -e\nfalse\n").unwrap();
    let [_, trainers] = scripts(&node, &[&given]);
    let said = run(&node, &trainers, |_| {});
    assert_eq!((said.code, &*said.out), (1, ""));
    // An empty one takes it back.
    fs::replace(&prelude, b"\n").unwrap();
    node.slurm(&["--trainers=1", &given]).well();
    let said = node.slurm(&["--trainers=1", "--dry-run"]).well();
    assert!(!said.contains("prelude"), "{said}");
    // sbatch reads lines of a prelude no more than bash reads its own.
    let submitted = std::fs::read_to_string(node.root().join("slurm/0001-coordinator.sh")).unwrap();
    let (head, _) = submitted.split_once("\ncd ").unwrap();
    assert!(
        !head.contains("--mem=1") && submitted.contains("#SBATCH --mem=1\n"),
        "{submitted}"
    );
}

#[test]
fn a_prelude_that_is_no_text_is_refused() {
    let node = LoginNode::new();
    let prelude = node.file("prelude");
    let given = format!("--prelude={}", prelude.display());
    for (bytes, complaint) in [
        (b"\xff\xfe".to_vec(), "is not text in UTF-8"),
        (b"a\0b".to_vec(), "zero byte"),
        (vec![b'#'; 65 << 10], "64 KiB at most"),
    ] {
        fs::replace(&prelude, &bytes).unwrap();
        let said = node.slurm(&["--trainers=1", &given]);
        assert_eq!(said.code, 3, "{}", said.err);
        assert!(said.err.contains(complaint), "{}", said.err);
    }
    assert_eq!(node.queue(), "");
}

#[test]
fn a_working_directory_that_is_missing_on_a_node_is_named() {
    let node = LoginNode::new();
    let [_, trainers] = scripts(&node, &[]);
    fs::move_to(node.root(), &node.file("moved")).unwrap();
    let said = run(&node, &trainers, |_| {});
    assert_eq!(said.code, 5);
    let complaint = format!(
        "the working directory {} is missing on",
        node.root().display()
    );
    assert!(said.err.contains(&complaint), "{}", said.err);
}

#[test]
fn trainers_work_where_the_search_was_made_and_not_where_it_is_submitted() {
    let node = LoginNode::with(json!({
        "objective": {"command": ["./train.sh"]},
        "working_directory": env!("CARGO_MANIFEST_DIR"),
    }));
    node.program("trainer", "pwd");
    for submitted_from in ["/", "/tmp"] {
        let mut command = node.slurm_command(&["--trainers=1", "--dry-run"]);
        let said = Said::from(command.current_dir(submitted_from).output().unwrap()).well();
        let (_, trainers) = said.split_once("# ---- trainers ----").unwrap();
        let script = executable(&node.file("."), "trainers.sh", trainers);
        let said = run(&node, &script, |_| {}).well();
        assert_eq!(said, concat!(env!("CARGO_MANIFEST_DIR"), "\n"));
    }
    let node = LoginNode::with(json!({
        "objective": {"command": ["./train.sh"]},
        "working_directory": "/no/such/folder",
    }));
    let said = node.slurm(&["--trainers=1"]);
    assert_eq!(said.code, 3);
    assert!(
        said.err
            .contains("`/no/such/folder`, in which this search was made"),
        "{}",
        said.err
    );
}
