//! Sites let SLURM's commands print more than SLURM does, and controllers that are slow let them say that they failed.

use std::process::Stdio;

use crate::fake::wait_until;
use crate::log_file;
use crate::login_node::LoginNode;

const BANNER: &str = "\u{1b}[1;33m*** 2 nodes are down until 2026-12-01 ***\u{1b}[0m\r\nquota | 10 | of 20 | GB | x\r\n\n\
                      sbatch: lua: 3 rules\n17 %\r18 %\r\n";

#[test]
fn banners_of_all_commands_change_nothing() {
    for name in ["sbatch", "squeue", "scontrol"] {
        let node = LoginNode::new();
        node.disturb(name, BANNER);
        let said = node.slurm(&["--trainers=5"]);
        assert!(!said.err.contains("not understood"), "{name}: {}", said.err);
        let said = said.well();
        for part in [
            "1 coordinator as SLURM job 1",
            "4 trainers as SLURM job 2",
            "1 trainer as SLURM job 3",
        ] {
            assert!(said.contains(part), "{name}: {said}");
        }
        let again = node.slurm(&["--trainers=5"]).well();
        assert!(again.contains("nothing to submit"), "{name}: {again}");
        assert_eq!(node.pending(), (5, 1), "{name}");
        let status = node.scheduler("status", &[]).well();
        assert!(status.contains("5 trainers PENDING"), "{name}: {status}");
    }
}

#[test]
fn an_answer_that_is_none_is_looked_for_in_the_queue() {
    for answer in [
        "",
        "echo",
        "echo Submitted batch job 7",
        "echo ';cluster'",
        "echo 7x",
        // Two numbers, one of which is the banner's.
        "echo 2026; tail -n 1 <<<\"$said\"",
    ] {
        let node = LoginNode::new();
        node.disturb("sbatch", "");
        node.program("sbatch", &format!("said=$(quiet-sbatch \"$@\")\n{answer}"));
        let said = node.slurm(&["--trainers=2"]).well();
        assert!(
            said.contains("1 coordinator as SLURM job 1"),
            "{answer}: {said}"
        );
        assert!(
            said.contains("2 trainers as SLURM job 2"),
            "{answer}: {said}"
        );
        let again = node.slurm(&["--trainers=2"]).well();
        assert!(again.contains("nothing to submit"), "{answer}: {again}");
    }
}

#[test]
fn a_submission_that_is_said_to_have_failed_may_have_come_about() {
    let node = LoginNode::new();
    node.disturb("sbatch", "");
    node.program(
        "sbatch",
        "quiet-sbatch \"$@\" >&2; echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1",
    );
    let said = node.slurm(&["--trainers=2"]);
    assert!(said.err.contains("but it was submitted"), "{}", said.err);
    let said = said.well();
    assert!(said.contains("2 trainers as SLURM job 2"), "{said}");
    assert_eq!(node.pending(), (2, 1));
}

#[test]
fn a_submission_that_slurm_refuses_leaves_nothing_that_others_would_wait_for() {
    let node = LoginNode::new();
    // As SLURM does where no node can have what is asked for: the job is shown, as one that has failed.
    node.disturb("sbatch", "");
    let refuse = format!(
        "quiet-sbatch \"$@\" >&2; sed -i 's/PENDING/FAILED/; s/Priority/BadConstraints/' '{}'\n\
         echo 7; echo 'invalid partition' >&2; exit 1",
        node.file("queue").display()
    );
    node.program("sbatch", &refuse);
    let said = node.slurm(&["--trainers=2"]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("invalid partition"), "{}", said.err);
    assert_eq!(node.records(), [""; 0]);
}

#[test]
fn what_is_no_id_and_not_in_the_queue_is_recorded_as_unknown() {
    let node = LoginNode::new();
    node.program("sbatch", "echo Hello");
    let said = node.slurm(&["--trainers=2"]);
    assert_eq!(said.code, 1, "{}", said.err);
    for part in [
        "it is not known whether",
        "0001-coordinator.sh` was submitted",
        "`sbatch` said `Hello`, which is no id",
        "the queue shows no new one",
    ] {
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
    let record = std::fs::read_to_string(node.root().join("slurm/0001-coordinator.json")).unwrap();
    assert!(record.contains("\"slurm_job\": \"unknown\""), "{record}");
    // It was not, so the next command does.
    node.program("sbatch", "for last; do :; done; echo ${last//[^1-9]/}");
    let said = node.slurm(&["--trainers=2"]).well();
    assert!(said.contains("submitted: 1 coordinator"), "{said}");
}

#[test]
fn keeping_trainers_ends_where_nobody_knows_what_was_submitted() {
    let node = LoginNode::new();
    // Submitted, not said, and never to be seen.
    node.disturb("sbatch", "");
    node.program("sbatch", "quiet-sbatch \"$@\" >&2; echo Welcome");
    node.program("squeue", "echo Welcome to squeue");
    let log = node.file("log");
    let mut keeper = node
        .slurm_command(&[
            "--trainers=2",
            "--keep",
            "--poll-s",
            "0.01",
            "--coordinator-args=--hold",
        ])
        .stdout(Stdio::null())
        .stderr(log_file(&log))
        .spawn()
        .unwrap();
    let said = || std::fs::read_to_string(&log).unwrap();
    let count = |kind: &str| {
        let submissions = node.submissions();
        submissions
            .iter()
            .filter(|line| line.contains(kind))
            .count()
    };
    wait_until("a submission", || count("-coordinator") >= 3);
    wait_until("the end of it", || said().contains("no more are submitted"));
    let (submitted, trainers) = (node.submissions().len(), count("-trainers"));
    assert!(trainers <= 3, "{}", said());
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(node.submissions().len(), submitted);
    node.directory.stop("enough").unwrap();
    assert!(keeper.wait().unwrap().success());
}
