//! Commands that start something of their own: several processes, as `torchrun` does, or a container.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use harness::{program, repository, skip};
use serde_json::{Value, json};
use shared::{Directory, fs};

/// Puts scripts into a folder, and a search whose command starts them.
fn search_with(folder: &Path, scripts: &[(&str, &str)], command: &[&str]) -> Result<()> {
    for (name, text) in scripts {
        fs::replace(&folder.join(name), text.as_bytes())?;
    }
    let space: Value = serde_json::from_slice(&std::fs::read(repository(
        "data/spaces/counting-ones-8.json",
    ))?)?;
    let search = json!({
        "format": "search", "version": [1, 0], "name": "launched",
        "space": { "hyperparameters": space["hyperparameters"] },
        "objective": { "command": command },
        "budget": { "unit": "epochs", "min": 1, "max": 3 },
        "limit": { "brackets": 2 },
        "method": "random",
        "trainers": { "heartbeat_s": 0.2, "lease_s": 5.0 }
    });
    fs::replace(&folder.join("search.json"), search.to_string().as_bytes())?;
    Ok(())
}

/// `scheduler local` from that folder, with relative paths: the results.
fn run(folder: &Path, more: &[&str], set_up: impl FnOnce(&mut Command)) -> Result<Directory> {
    let mut command = Command::new(program("scheduler"));
    command.args(["local", "search.json", "dir", "--trainers", "2"]);
    command.args(more).current_dir(folder);
    set_up(&mut command);
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    Ok(Directory::open(&folder.join("dir"))?)
}

/// Starts a process for each of two devices, hands on a signal to end, and fails if one fails.
const LAUNCHER: &str = r#"
children=()
trap 'kill -s TERM "${children[@]}"' TERM
for rank in 0 1; do
  RANK=$rank LOCAL_RANK=$rank WORLD_SIZE=2 bash "$@" &
  children+=($!)
done
code=0
for child in "${children[@]}"; do wait "$child" || code=1; done
exit "$code"
"#;

/// Each process uses a device of its own; the first one waits for the second and writes the result.
const TRAINING: &str = r#"
set -euo pipefail
field() { sed -n "s/^ *\"$1\": \"\(.*\)\",\{0,1\}$/\1/p" "$TANDEM_JOB"; }
[ "$1" = "$TANDEM_JOB" ]
checkpoints=$(field checkpoints)
case $checkpoints in /*) ;; *) echo "$checkpoints is relative" >&2; exit 1 ;; esac
IFS=, read -ra devices <<< "$CUDA_VISIBLE_DEVICES"
[ "${#devices[@]}" = "$WORLD_SIZE" ]
echo "${devices[$LOCAL_RANK]}" > "$checkpoints/device-$RANK"
if [ "$RANK" = 0 ]; then
  until [ -s "$checkpoints/device-1" ]; do sleep 0.01; done
  echo "{\"loss\": 0.5, \"measures\": {\"first\": $(cat "$checkpoints/device-0"), \"second\": $(cat "$checkpoints/device-1"), \"worker\": $TANDEM_WORKER}}" > "$(field result)"
fi
"#;

#[test]
fn a_trial_of_two_processes_has_two_devices_of_its_own() -> Result<()> {
    let command = ["bash", "launch.sh", "train.sh"];
    let scripts = [("launch.sh", LAUNCHER), ("train.sh", TRAINING)];
    let folder = tempfile::tempdir()?;
    search_with(folder.path(), &scripts, &command)?;
    let directory = run(folder.path(), &["--gpus-per-trainer", "2"], |command| {
        command.env("CUDA_VISIBLE_DEVICES", "4,5,6,7");
    })?;
    let results = directory.all_results()?;
    ensure!(!results.is_empty(), "no results");
    for result in results {
        ensure!(result.outcome.loss().is_some(), "{:?}", result.outcome);
        let measure = |name: &str| result.measures.get(name).copied().context("no measure");
        let devices = (measure("worker")?, measure("first")?, measure("second")?);
        let expected = [(0.0, 4.0, 5.0), (1.0, 6.0, 7.0)];
        ensure!(expected.contains(&devices), "{devices:?}");
    }
    Ok(())
}

/// A container of the poorest kind: its own `/tmp`, and all else of the machine.
const CONTAINER: &str = r#"
exec unshare --mount bash -c 'mount -t tmpfs none /tmp; exec "$@"' container "$@"
"#;

#[test]
fn a_containers_own_temporary_folder_does_not_hide_the_job_file() -> Result<()> {
    let is_allowed = Command::new("unshare").args(["--mount", "true"]).output();
    if !is_allowed.is_ok_and(|output| output.status.success()) {
        skip("no right to make mount namespaces");
        return Ok(());
    }
    let training = r#"
[ -z "$(ls /tmp)" ] || exit 1
result=$(sed -n 's/^ *"result": "\(.*\)",\{0,1\}$/\1/p' "$1")
echo '{"loss": 0.25}' > "$result"
"#;
    let scripts = [("container.sh", CONTAINER), ("train.sh", training)];
    let command = ["bash", "container.sh", "bash", "train.sh"];
    // Not in `/tmp`, as a search on a cluster.
    let folder = tempfile::tempdir_in(program("scheduler").parent().context("no folder")?)?;
    if folder.path().starts_with("/tmp") {
        skip("this build is in `/tmp`, which the container hides");
        return Ok(());
    }
    search_with(folder.path(), &scripts, &command)?;
    let bound = folder.path().join("temporary");
    fs::make_folder(&bound)?;
    let directory = run(folder.path(), &[], |command| {
        command.env("TMPDIR", &bound);
    })?;
    let results = directory.all_results()?;
    ensure!(!results.is_empty(), "no results");
    for result in results {
        ensure!(result.outcome.loss() == Some(0.25), "{:?}", result.outcome);
    }
    Ok(())
}
