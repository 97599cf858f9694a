//! What `scheduler slurm` makes of SLURM's queue: tasks in every state that this cluster can be brought to, and trainers
//! that cannot start.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::cluster::{Cluster, Filesystem};
use harness::{TestSearch, counting_ones, program};
use serde_json::json;
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

/// SLURM jobs that SLURM takes for trainers of the search.
struct Jobs<'a> {
    cluster: &'a Cluster,
    test: &'a TestSearch,
    name: String,
}

impl Jobs<'_> {
    /// Submits one with these words and this script: its id.
    fn submit(&self, more: &str, script: &str) -> Result<String> {
        self.submit_as(&self.name, more, &["--wrap", script])
    }

    fn submit_as(&self, name: &str, more: &str, script: &[&str]) -> Result<String> {
        let mut arguments = vec!["--parsable", "-J", name, "-o", "/dev/null"];
        arguments.extend(more.split_whitespace());
        arguments.extend(script);
        let id = self.cluster.run(Path::new("sbatch"), &arguments)?;
        Ok(id.trim().to_owned())
    }

    /// Submits one and waits until it runs: its id and its node.
    fn running(&self, more: &str) -> Result<(String, String)> {
        let id = self.submit(more, "sleep 600")?;
        let node = self.wait_for(&id, "RUNNING")?;
        Ok((id, node))
    }

    /// Waits for a state: the node it is on then.
    fn wait_for(&self, id: &str, state: &str) -> Result<String> {
        let what = format!("SLURM job {id} is {state}");
        let queue = wait_for_queue(self.cluster, self.test, &what, |queue| {
            let mut tasks = queue.iter();
            tasks.any(|task| task.id == id && task.state == state)
        })?;
        let task = queue.into_iter().find(|task| task.id == id);
        Ok(task.context("it was there")?.node)
    }

    fn scontrol(&self, words: &str) -> Result<()> {
        let words: Vec<&str> = words.split(' ').collect();
        let said = self.cluster.run(Path::new("scontrol"), &words);
        said.map(|_said| ())
    }

    /// Sends a job a signal that stops it until SLURM says so: the first may come before there is a process to stop.
    fn stop(&self, id: &str) -> Result<()> {
        let what = format!("SLURM job {id} is STOPPED");
        wait_for_queue(self.cluster, self.test, &what, |queue| {
            let mut tasks = queue.iter();
            let is_stopped = tasks.any(|task| task.id == id && task.state == "STOPPED");
            if !is_stopped {
                let words = ["-b", "-s", "STOP", id];
                let _asked_again = self.cluster.run(Path::new("scancel"), &words);
            }
            is_stopped
        })
        .map(|_queue| ())
    }

    /// One for each state in which a job is over.
    fn end_in_all_ways(&self, all: bool) -> Result<()> {
        // A node of its own, so that nothing else is lost with it.
        let (_id, node) = self.running("--no-requeue --exclusive")?;
        self.scontrol(&format!("update nodename={node} state=down reason=test"))?;
        // In front of an urgent job.
        let (preempted, node) = self.running("--no-requeue --exclusive")?;
        let urgent = format!("-p urgent --exclusive -w {node}");
        self.submit_as("urgent", &urgent, &["--wrap", "true"])?;
        self.wait_for(&preempted, "PREEMPTED")?;
        let (late, _) = self.running("--time 10")?;
        self.scontrol(&format!("update jobid={late} endtime=now+2"))?;
        if all {
            let (not_booted, _) = self.running("--no-requeue")?;
            self.fail_to_boot(&not_booted)?;
            if self.cluster.limits_memory() {
                self.submit("--mem 20", "exec tail /dev/zero")?;
            }
        }
        let cancelled = self.submit("--hold", "true")?;
        self.cluster.run(Path::new("scancel"), &[&cancelled])?;
        self.submit("", "true")?;
        self.submit("", "exit 1")?;
        Ok(())
    }

    /// What SLURM's own program says of a job whose nodes could not be made ready. That program is for Cray's nodes only.
    fn fail_to_boot(&self, id: &str) -> Result<()> {
        let reconfig_fail = 1 << 17;
        let say = format!(
            "import ctypes, glob\n\
             paths = [glob.glob(f'/usr/lib*/{{between}}slurm*/libslurmfull.so') for between in ('', '*/')]\n\
             slurm = ctypes.CDLL(sum(paths, [])[0], mode=ctypes.RTLD_GLOBAL)\n\
             slurm.slurm_init(None)\n\
             slurm.slurm_requeue({id}, {reconfig_fail})"
        );
        let python = Path::new("/usr/bin/python3");
        self.cluster.run(python, &["-c", &say])?;
        self.wait_for(id, "BOOT_FAIL").map(|_node| ())
    }

    /// One for each state in which a job still is, or will be, a place for a trainer, and one whose deadline cannot be met.
    fn live_in_all_ways(&self, all: bool) -> Result<()> {
        if all {
            let reservation = "create reservation reservationname=short starttime=now endtime=now+30 users=root \
                               flags=maint,ignore_jobs nodes=tandem1";
            self.scontrol(reservation)?;
            self.submit("--reservation=short --begin now+1hour", "true")?;
            // Root may not move files out.
            let script = self.test.beside("moves-files-out");
            write_script(&script, "#BB_LUA")?;
            let script = script.to_string_lossy();
            self.submit_as(&self.name, "--uid nobody --chdir /", &[&script])?;
        }
        let (suspended, _) = self.running("")?;
        self.scontrol(&format!("suspend {suspended}"))?;
        let (stopped, node) = self.running("")?;
        self.stop(&stopped)?;
        let deadline = format!("--exclusive --time 1 --deadline now+62 -w {node}");
        self.submit(&deadline, "true")?;
        let (held, _) = self.running("--requeue")?;
        self.scontrol(&format!("requeuehold {held}"))?;
        let (special, _) = self.running("--requeue")?;
        self.scontrol(&format!("requeuehold State=SpecialExit {special}"))?;
        self.running("").map(|_job| ())
    }

    /// One whose node is being made ready, and two on nodes that do not answer. Nothing can be submitted after them.
    fn wait_for_nodes_that_do_not_answer(&self) -> Result<()> {
        // SLURM waits for an answer for a minute, and looks at limits of time now and then.
        for state in ["DEADLINE", "RESV_DEL_HOLD", "TIMEOUT"] {
            wait_for_queue(self.cluster, self.test, state, |queue| {
                queue.iter().any(|task| task.state == state)
            })?;
        }
        let (signalled, frozen) = self.running("")?;
        let (completing, frozen_too) = self.running("")?;
        self.cluster.hold_in_configuring()?;
        let configuring = self.submit(&format!("-x {frozen},{frozen_too}"), "true")?;
        self.wait_for(&configuring, "CONFIGURING")?;
        self.cluster.event("freeze", &frozen)?;
        if frozen_too != frozen {
            self.cluster.event("freeze", &frozen_too)?;
        }
        // SLURM waits for the node's answer, and `scancel` for SLURM.
        let stop = ["2", "scancel", "-b", "-s", "STOP", &signalled];
        let _ended_by_timeout = self.cluster.run(Path::new("timeout"), &stop);
        self.cluster.run(Path::new("scancel"), &[&completing])?;
        Ok(())
    }
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

/// Brings tasks to many states, or to all that this cluster can show, and asks for two trainers more than live.
fn count_states(cluster: &Cluster, all: bool) -> Result<()> {
    let test = TestSearch::within(&cluster.shared(), &counting_ones("bohb", 1))?;
    let root = test.root();
    let root = root.to_string_lossy();
    let submit = |trainers: &str| {
        let arguments = ["slurm", &*root, "--trainers", trainers, "--", "--hold"];
        cluster.run(&program("scheduler"), &arguments)
    };
    // The one that stays pending.
    submit("1")?;
    let jobs = Jobs {
        cluster,
        test: &test,
        name: name_of_trainers(cluster, &test)?,
    };
    jobs.live_in_all_ways(all)?;
    jobs.end_in_all_ways(all)?;
    let live = ["RUNNING", "SPECIAL_EXIT", "STOPPED", "SUSPENDED"];
    let over = [
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "PREEMPTED",
        "TIMEOUT",
    ];
    // One of them is `requeuehold`, of which SLURM shows the reason only.
    let mut expected: BTreeMap<&str, u64> = [("PENDING", 2)].into();
    expected.extend(live.iter().chain(&over).map(|state| (*state, 1)));
    let mut num_live = 6;
    if all {
        jobs.wait_for_nodes_that_do_not_answer()?;
        let live = [
            "COMPLETING",
            "CONFIGURING",
            "RESV_DEL_HOLD",
            "SIGNALING",
            "STAGE_OUT",
        ];
        num_live += live.len();
        expected.extend(live.map(|state| (state, 1)));
        expected.insert("BOOT_FAIL", 1);
        if cluster.limits_memory() {
            expected.insert("OUT_OF_MEMORY", 1);
        }
    }
    let what = "a task in each state";
    wait_for_queue(cluster, &test, what, |_queue| {
        shown(cluster, &test).is_ok_and(|shown| {
            let shown = shown.iter().map(|(state, tasks)| (&**state, *tasks));
            shown.eq(expected.clone())
        })
    })
    .with_context(|| format!("{:?}", shown(cluster, &test)))?;
    // Who lives still, or will, keeps a place; the others are to be replaced.
    let said = submit(&(num_live + 2).to_string())?;
    ensure!(
        said.contains("submitted: 2 trainers as SLURM job"),
        "{said}"
    );
    check_fates(&said, &expected)
}

/// Whether it is said whose fault it was that trainers in these states are over.
fn check_fates(said: &str, expected: &BTreeMap<&str, u64>) -> Result<()> {
    // SLURM does not always give a reason.
    let fates = [
        ("BOOT_FAIL", "node_lost"),
        ("DEADLINE", "time_limit"),
        ("NODE_FAIL", "node_lost"),
        ("OUT_OF_MEMORY", "node_lost"),
        ("PREEMPTED", "preempted"),
        ("TIMEOUT", "time_limit"),
    ];
    for (state, fate) in fates
        .iter()
        .filter(|(state, _)| expected.contains_key(state))
    {
        let mut lines = said.lines();
        let is_said = lines.any(|line| {
            line.contains(&format!("1 trainer {state}")) && line.contains(&format!("over ({fate})"))
        });
        ensure!(is_said, "{said}");
    }
    Ok(())
}

#[test]
fn slurm_tasks_in_many_states_count_as_live_or_over() -> Result<()> {
    match Cluster::start(Filesystem::Local)? {
        Some(cluster) => count_states(&cluster, false),
        None => Ok(()),
    }
}

#[test]
#[ignore = "minutes, with nodes that do not answer: all states that this cluster can show"]
fn slurm_tasks_in_every_state_that_can_be_made_here_count_as_live_or_over() -> Result<()> {
    match Cluster::start_with_extras()? {
        Some(cluster) => count_states(&cluster, true),
        None => Ok(()),
    }
}

/// A folder with the programs of which the trainer is `trainer`, a script.
fn programs_with(test: &TestSearch, trainer: &str) -> Result<PathBuf> {
    let folder = test.beside("programs");
    fs::make_folder(&folder)?;
    for name in ["scheduler", "sampler", "analyzer"] {
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

#[test]
fn slurm_leaves_out_a_node_whose_trainers_fail_while_others_run() -> Result<()> {
    let Some(cluster) = Cluster::start(Filesystem::Local)? else {
        return Ok(());
    };
    let mut search = counting_ones("bohb", 3);
    search["objective"]["seconds_per_unit"] = 0.1.into();
    let test = TestSearch::within(&cluster.shared(), &search)?;
    // A module is missing on one node of four.
    let trainer = format!(
        "[ \"$(uname -n)\" != tandem1 ] || {{ echo no module here >&2; exit 5; }}; exec '{}' \"$@\"",
        program("trainer").display()
    );
    let programs = programs_with(&test, &trainer)?;
    let (scheduler, root) = (programs.join("scheduler"), test.root());
    let (scheduler, root) = (scheduler.to_string_lossy(), root.to_string_lossy());
    let mut arguments = vec!["-s", "TERM", "3", &*scheduler, "slurm", &*root];
    arguments.extend(["--trainers=3", "--time=20", "--keep", "--poll-s=1"]);
    // By hand, but not for long: the coordinator does the same.
    let _ended_by_the_signal = cluster.run(Path::new("timeout"), &arguments);
    wait_for_end(&test)?;
    test.check_finished()?;
    let folder = test.root().join("slurm");
    let mut excluded = Vec::new();
    for name in fs::list(&folder)? {
        if name.ends_with("-trainers.json") {
            let record: serde_json::Value =
                serde_json::from_slice(&std::fs::read(folder.join(name))?)?;
            excluded.push(record["excluded"].clone());
        }
    }
    // The first array knew of nothing, and perhaps the second, which was submitted when no other trainer ran yet.
    ensure!(
        (2..=4).contains(&excluded.len()) && excluded[0].is_null(),
        "{excluded:?}\n{}",
        logs(&test)
    );
    assert_eq!(
        excluded.last(),
        Some(&json!(["tandem1"])),
        "{}",
        logs(&test)
    );
    let num_failed = logs(&test).matches("no module here").count();
    assert!(
        (1..=2).contains(&num_failed),
        "{excluded:?}\n{}",
        logs(&test)
    );
    Ok(())
}

/// A program that lacks a module on one node of four, and takes a moment on the others.
const WITHOUT_A_MODULE: &str = r#"
if [ "$(uname -n)" = tandem1 ]; then
    echo "Traceback (most recent call last):" >&2
    echo "ModuleNotFoundError: No module named 'torch'" >&2
    exit 1
fi
result=$(sed -n 's/.*"result": *"\([^"]*\)".*/\1/p' "$1")
sleep 0.2
echo '{"loss": 0.5}' > "$result"
"#;

#[test]
fn slurm_finishes_a_search_without_a_failure_though_programs_cannot_run_on_one_node() -> Result<()>
{
    let Some(cluster) = Cluster::start(Filesystem::Local)? else {
        return Ok(());
    };
    let script = cluster.shared().join("train");
    write_script(&script, WITHOUT_A_MODULE)?;
    let mut search = counting_ones("bohb", 3);
    search["objective"] = json!({ "command": [script] });
    let test = TestSearch::within(&cluster.shared(), &search)?;
    super::submit(&cluster, &test, 3)?;
    wait_for_end(&test)?;
    let results = test.directory()?.all_results()?;
    ensure!(!results.is_empty());
    for result in &results {
        ensure!(
            result.outcome.loss().is_some(),
            "{result:?}\n{}",
            logs(&test)
        );
    }
    let said = logs(&test);
    for words in [
        "ModuleNotFoundError",
        "on another host than tandem1",
        "something is wrong with this host",
    ] {
        ensure!(said.contains(words), "no `{words}` in {said}");
    }
    Ok(())
}

#[test]
fn slurm_jobs_are_recognised_whatever_the_callers_variables_and_umask_say() -> Result<()> {
    let Some(cluster) = Cluster::start(Filesystem::Local)? else {
        return Ok(());
    };
    let mut search = counting_ones("bohb", 2);
    search["objective"]["seconds_per_unit"] = 0.04.into();
    let test = TestSearch::within(&cluster.shared(), &search)?;
    let (scheduler, root) = (program("scheduler"), test.root());
    let (scheduler, root) = (scheduler.to_string_lossy(), root.to_string_lossy());
    let mut arguments = vec![
        "SBATCH_JOB_NAME=mine",
        "SBATCH_ARRAY_INX=0-3",
        "SBATCH_TIMELIMIT=1",
        "SBATCH_OUTPUT=/dev/null",
        "SBATCH_SIGNAL=B:CONT@1",
        "SQUEUE_PARTITION=urgent",
        "SQUEUE_USERS=nobody",
        "SQUEUE_ACCOUNT=foo",
        "SQUEUE_QOS=hi",
        "SQUEUE_LICENSES=x",
        "SQUEUE_STATES=FAILED",
        "sh",
        "-c",
        "umask 000; exec \"$0\" \"$@\"",
        &*scheduler,
    ];
    arguments.extend(["slurm", &*root, "--trainers", "2", "--time", "20"]);
    // Late enough to ask again while they wait.
    arguments.extend(["--", "--comment=mine", "--begin=now+5"]);
    let submit = || cluster.run(Path::new("env"), &arguments);
    let said = submit()?;
    ensure!(said.contains("submitted: 2 trainers"), "{said}");
    for _again in 0..2 {
        let said = submit()?;
        ensure!(said.contains("nothing to submit"), "{said}");
    }
    let queue = cluster.queue()?;
    ensure!(queue.len() == 3, "{queue:?}");
    wait_for_end(&test)?;
    test.check_finished()?;
    let folder = test.root().join("slurm");
    let names = fs::list(&folder)?;
    let logs = names
        .iter()
        .filter(|name| Path::new(name).extension() == Some("log".as_ref()));
    let modes: Vec<u32> = logs
        .map(|name| Ok(std::fs::metadata(folder.join(name))?.permissions().mode() & 0o777))
        .collect::<Result<_>>()?;
    assert_eq!(modes, [0o664; 3], "{names:?}");
    Ok(())
}
