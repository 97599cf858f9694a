//! What `scheduler slurm` makes of SLURM's queue: tasks in every state that this cluster can be brought to, and trainers
//! that cannot start.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::cluster::{Cluster, Filesystem};
use harness::{TestSearch, counting_ones, program};
use shared::fs;

use super::{logs, wait_for_end, wait_for_queue};

/// The name that SLURM knows the search's trainers by.
fn name_of_trainers(cluster: &Cluster, test: &TestSearch) -> Result<String> {
    let root = test.root();
    let root = root.to_string_lossy();
    let arguments = ["slurm", &*root, "--trainers", "1", "--dry-run"];
    let scripts = cluster.run(&program("scheduler"), &arguments)?;
    let mut names = scripts
        .lines()
        .filter_map(|line| line.strip_prefix("#SBATCH --job-name="));
    let name = names.find(|name| name.ends_with("-trainers"));
    Ok(name.context("no script for trainers")?.to_owned())
}

/// Submits a job of that name: its id.
fn sbatch(cluster: &Cluster, name: &str, more: &[&str], script: &str) -> Result<String> {
    let arguments = [
        &["--parsable", "-J", name, "-o", "/dev/null"],
        more,
        &["--wrap", script],
    ]
    .concat();
    Ok(cluster
        .run(Path::new("sbatch"), &arguments)?
        .trim()
        .to_owned())
}

fn wait_for_state(cluster: &Cluster, test: &TestSearch, id: &str, state: &str) -> Result<String> {
    let what = format!("SLURM job {id} is {state}");
    let queue = wait_for_queue(cluster, test, &what, |queue| {
        queue
            .iter()
            .any(|task| task.id == id && task.state == state)
    })?;
    let task = queue.into_iter().find(|task| task.id == id);
    Ok(task.context("it was there")?.node)
}

/// Brings one job to each of these states, of which the first few still are, or will be, a place for a trainer.
fn bring_to_all_states(cluster: &Cluster, test: &TestSearch, name: &str) -> Result<()> {
    let running = |more: &[&str]| -> Result<(String, String)> {
        let id = sbatch(cluster, name, more, "sleep 600")?;
        let node = wait_for_state(cluster, test, &id, "RUNNING")?;
        Ok((id, node))
    };
    let scontrol = |words: &str| {
        let words: Vec<&str> = words.split(' ').collect();
        cluster.run(Path::new("scontrol"), &words)
    };
    // A node of its own, so that nothing else is lost with it.
    let (_id, node) = running(&["--no-requeue", "--exclusive"])?;
    scontrol(&format!("update nodename={node} state=down reason=test"))?;
    // In front of an urgent job.
    let (preempted, node) = running(&["--no-requeue", "--exclusive"])?;
    let urgent = ["-p", "urgent", "--exclusive", "-w", &node];
    sbatch(cluster, "urgent", &urgent, "true")?;
    wait_for_state(cluster, test, &preempted, "PREEMPTED")?;

    let (suspended, _) = running(&[])?;
    scontrol(&format!("suspend {suspended}"))?;
    let (stopped, node) = running(&[])?;
    cluster.run(Path::new("scancel"), &["-b", "-s", "STOP", &stopped])?;
    let deadline = "--exclusive --time 1 --deadline now+62 -w";
    let mut deadline: Vec<&str> = deadline.split(' ').collect();
    deadline.push(&node);
    sbatch(cluster, name, &deadline, "true")?;
    let (held, _) = running(&["--requeue"])?;
    scontrol(&format!("requeuehold {held}"))?;
    let (special, _) = running(&["--requeue"])?;
    scontrol(&format!("requeuehold State=SpecialExit {special}"))?;
    running(&[])?;
    let cancelled = sbatch(cluster, name, &["--hold"], "true")?;
    cluster.run(Path::new("scancel"), &[&cancelled])?;
    sbatch(cluster, name, &[], "true")?;
    sbatch(cluster, name, &[], "exit 1")?;
    Ok(())
}

/// Tasks by state, as `scheduler status` shows them.
fn shown(cluster: &Cluster, test: &TestSearch) -> Result<BTreeMap<String, u64>> {
    let root = test.root();
    let arguments = ["status", &*root.to_string_lossy(), "--format", "json"];
    let status = cluster.run(&program("scheduler"), &arguments)?;
    let status: serde_json::Value = serde_json::from_str(&status)?;
    let mut tasks = BTreeMap::new();
    for queued in status["slurm"].as_array().context("a list")? {
        if queued["kind"] == "trainers" {
            let state = queued["state"].as_str().context("a state")?;
            *tasks.entry(state.to_owned()).or_default() +=
                queued["tasks"].as_u64().context("a number")?;
        }
    }
    Ok(tasks)
}

#[test]
fn slurm_tasks_in_every_state_that_can_be_made_here_count_as_live_or_over() -> Result<()> {
    let Some(cluster) = Cluster::start_with(Filesystem::Local, Duration::from_mins(10))? else {
        return Ok(());
    };
    let test = TestSearch::within(&cluster.shared(), &counting_ones("bohb", 1))?;
    let root = test.root();
    let root = root.to_string_lossy();
    let submit = |trainers: &str| {
        let arguments = ["slurm", &*root, "--trainers", trainers, "--", "--hold"];
        cluster.run(&program("scheduler"), &arguments)
    };
    // The one that stays pending.
    submit("1")?;
    bring_to_all_states(&cluster, &test, &name_of_trainers(&cluster, &test)?)?;
    let expected = [
        ("CANCELLED", 1),
        ("COMPLETED", 1),
        ("DEADLINE", 1),
        ("FAILED", 1),
        ("NODE_FAIL", 1),
        // One of them is `requeuehold`, of which SLURM shows the reason only.
        ("PENDING", 2),
        ("PREEMPTED", 1),
        ("RUNNING", 1),
        ("SPECIAL_EXIT", 1),
        ("STOPPED", 1),
        ("SUSPENDED", 1),
    ];
    let expected: BTreeMap<String, u64> = expected
        .map(|(state, tasks)| (state.to_owned(), tasks))
        .into();
    let what = "a task in each state";
    wait_for_queue(&cluster, &test, what, |_queue| {
        shown(&cluster, &test).is_ok_and(|shown| shown == expected)
    })
    .with_context(|| format!("{:?}", shown(&cluster, &test)))?;
    // Six of them are trainers still, or will be; the others are to be replaced.
    let said = submit("8")?;
    ensure!(
        said.contains("submitted: 2 trainers as SLURM job"),
        "{said}"
    );
    // SLURM does not always give a reason.
    for (state, fate) in [("NODE_FAIL", "node_lost"), ("PREEMPTED", "preempted")] {
        let mut lines = said.lines();
        let is_said = lines.any(|line| {
            line.contains(&format!("1 trainer {state}")) && line.contains(&format!("over ({fate})"))
        });
        ensure!(is_said, "{said}");
    }
    Ok(())
}

/// A folder with the programs of which the trainer is `trainer`, a script.
fn programs_with(test: &TestSearch, trainer: &str) -> Result<PathBuf> {
    let folder = test.beside("programs");
    fs::make_folder(&folder)?;
    for name in ["scheduler", "sampler"] {
        std::fs::copy(program(name), folder.join(name))?;
    }
    write_script(&folder.join("trainer"), trainer)?;
    Ok(folder)
}

fn write_script(path: &Path, text: &str) -> Result<()> {
    fs::replace(path, format!("#!/bin/bash\n{text}\n").as_bytes())?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

#[test]
fn slurm_is_not_asked_for_ever_when_trainers_cannot_start_and_goes_on_when_they_can() -> Result<()>
{
    let Some(cluster) = Cluster::start(Filesystem::Local)? else {
        return Ok(());
    };
    let test = TestSearch::within(&cluster.shared(), &counting_ones("bohb", 2))?;
    let programs = programs_with(&test, "echo no libcuda here >&2; exit 1")?;
    let scheduler = programs.join("scheduler");
    let root = test.root();
    let root = root.to_string_lossy();
    let arguments = [
        "slurm",
        &*root,
        "--trainers",
        "2",
        "--time",
        "20",
        "--poll-s",
        "1",
    ];
    // By hand, but not for long: the coordinator does the same.
    let path = scheduler.to_string_lossy();
    let keeping = [&["-s", "TERM", "3", &*path], &arguments[..], &["--keep"]].concat();
    let _ended_by_the_signal = cluster.run(Path::new("timeout"), &keeping);
    let complaint = "no more are submitted";
    test.wait_until("the coordinator asks for no more", |_directory| {
        Ok(logs(&test).contains(complaint))
    })
    .with_context(|| logs(&test))?;
    let arrays = || -> Result<usize> {
        let names = fs::list(&test.root().join("slurm"))?;
        Ok(names
            .iter()
            .filter(|name| name.ends_with("-trainers.json"))
            .count())
    };
    // One more for each time that a part of an array had ended; and from now on none.
    let asked = arrays()?;
    assert!((3..10).contains(&asked), "{asked}: {}", logs(&test));
    assert!(logs(&test).contains("no libcuda here"));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(arrays()?, asked, "{}", logs(&test));

    // The cause is gone, and somebody submits by hand once.
    let trainer = format!("exec '{}' \"$@\"", program("trainer").display());
    write_script(&programs.join("trainer"), &trainer)?;
    let said = cluster.run(&scheduler, &arguments)?;
    ensure!(said.contains("submitted: 2 trainers"), "{said}");
    wait_for_end(&test)?;
    test.check_finished()?;
    assert_eq!(arrays()?, asked + 1, "{}", logs(&test));
    Ok(())
}
