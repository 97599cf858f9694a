//! A throw-away SLURM cluster of four nodes on this machine: `tests/cluster/cluster`, from Rust.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use shared::cli::report;

use crate::repository;

/// One cluster at a time: two cores are busy enough with one.
static ONE: Mutex<()> = Mutex::new(());

/// How long a node may be silent before SLURM takes it for down: longer than any that is only slow.
const SILENCE: Duration = Duration::from_mins(30);
/// As well, for those who wait for SLURM to notice.
const SHORT_SILENCE: Duration = Duration::from_secs(6);
/// Programs that a cluster is made of.
const SLURM: [&str; 10] = [
    "slurmctld",
    "slurmd",
    "sbatch",
    "munged",
    "ip",
    "nsenter",
    "unshare",
    "setsid",
    "pgrep",
    "mountpoint",
];
/// Programs of the network filesystem.
const MOOSEFS: [&str; 3] = ["mfsmaster", "mfschunkserver", "mfsmount"];

/// Where the search directory lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filesystem {
    /// On this machine's disk, which all nodes see.
    Local,
    /// On a network filesystem, which every node and the login node mount with a client of their own.
    MooseFs,
}

/// A running cluster; dropped, it is gone.
#[derive(Debug)]
pub struct Cluster {
    folder: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

/// A task in SLURM's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// Its id, such as `2_0`.
    pub id: String,
    /// The node it is on; empty if it is on none.
    pub node: String,
    /// Its state, such as `RUNNING`.
    pub state: String,
    /// The name of its job.
    pub name: String,
}

impl Cluster {
    /// Starts a cluster, which has more patience with silent nodes than any test has; `None`, with the reason printed, where
    /// that cannot be.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(filesystem: Filesystem) -> Result<Option<Self>> {
        Self::start_as(filesystem, SILENCE, false)
    }

    /// As [`start`](Self::start), where SLURM soon takes a silent node for down and starts its jobs elsewhere: on a busy
    /// machine one that is only slow, too.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_impatient(filesystem: Filesystem) -> Result<Option<Self>> {
        Self::start_as(filesystem, SHORT_SILENCE, false)
    }

    /// As [`start`](Self::start), on the local disk, with limits of memory, files to be moved out and nodes to be made
    /// ready.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_with_extras() -> Result<Option<Self>> {
        Self::start_as(Filesystem::Local, SILENCE, true)
    }

    fn start_as(
        filesystem: Filesystem,
        silence: Duration,
        has_extras: bool,
    ) -> Result<Option<Self>> {
        let alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = obstacle(filesystem) {
            report(&format!(
                "SKIPPED: no SLURM cluster without {reason}; `.ci/install` installs all"
            ));
            return Ok(None);
        }
        let cluster = Self {
            folder: tempfile::Builder::new().prefix("tandem-").tempdir()?,
            _alone: alone,
        };
        let mut command = cluster.command("start");
        command.arg(std::process::id().to_string());
        command.env("SILENCE", silence.as_secs().to_string());
        if filesystem == Filesystem::MooseFs {
            command.env("FILESYSTEM", "moosefs");
        }
        if has_extras {
            command.env("EXTRAS", "yes");
        }
        finish(command)?;
        Ok(Some(cluster))
    }

    /// Whether SLURM lets the kernel limit the memory of jobs: with extras, where the kernel can.
    pub fn limits_memory(&self) -> bool {
        self.folder.path().join("cgroup.conf").exists()
    }

    /// With extras: lets no job that starts from now on get past CONFIGURING.
    ///
    /// # Errors
    /// The disk is full.
    pub fn hold_in_configuring(&self) -> Result<()> {
        shared::fs::replace(&self.folder.path().join("configuring"), b"")?;
        Ok(())
    }

    /// A folder that all nodes share.
    pub fn shared(&self) -> PathBuf {
        self.folder.path().join("shared")
    }

    /// Runs a command on the login node; what it prints.
    ///
    /// # Errors
    /// It fails.
    pub fn run(&self, program: &Path, arguments: &[&str]) -> Result<String> {
        let mut command = self.command("run");
        command.arg(program).args(arguments);
        finish(command)
    }

    /// Lets something happen to a node: `crash`, `boot`, `freeze`, `thaw`, `cut` or `mend`.
    ///
    /// # Errors
    /// It cannot be done.
    pub fn event(&self, event: &str, node: &str) -> Result<()> {
        let mut command = self.command(event);
        command.arg(node);
        finish(command).map(|_printed| ())
    }

    /// Runs a command on a node; what it prints.
    ///
    /// # Errors
    /// It fails.
    pub fn run_on(&self, node: &str, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = self.command("exec");
        command.args([node, program]).args(arguments);
        finish(command)
    }

    /// All tasks that SLURM knows, those that have ended too.
    ///
    /// # Errors
    /// SLURM does not answer.
    pub fn queue(&self) -> Result<Vec<Queued>> {
        let arguments = ["-h", "-r", "-t", "all", "-o", "%i|%N|%T|%j"];
        let text = self.run(Path::new("squeue"), &arguments)?;
        let lines = text.lines().map(|line| {
            let fields: Vec<&str> = line.trim().split('|').collect();
            let [id, node, state, name] = fields[..] else {
                anyhow::bail!("squeue says `{line}`");
            };
            Ok(Queued {
                id: id.to_owned(),
                node: node.to_owned(),
                state: state.to_owned(),
                name: name.to_owned(),
            })
        });
        lines.collect()
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::new(repository("tests/cluster/cluster"));
        command.arg(what).arg(self.folder.path());
        // Not the surroundings of a cluster that this test may itself run on.
        for variable in shared::env::ALL {
            if variable.name() != shared::env::HOME.name() {
                command.env_remove(variable.name());
            }
        }
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = finish(self.command("stop")) {
            report(&format!("the cluster is not gone: {error:#}"));
        }
    }
}

/// What stands in the way of a cluster on this machine.
fn obstacle(filesystem: Filesystem) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("root".to_owned());
    }
    let more = match filesystem {
        Filesystem::Local => &[][..],
        Filesystem::MooseFs => &MOOSEFS[..],
    };
    let missing = first_missing(&SLURM).or_else(|| first_missing(more));
    if missing.is_some() {
        return missing;
    }
    if filesystem == Filesystem::MooseFs && !Path::new("/dev/fuse").exists() {
        return Some("`/dev/fuse`".to_owned());
    }
    None
}

/// What of these programs is not there; else, the right to give hosts networks of their own.
pub(crate) fn first_missing(programs: &[&str]) -> Option<String> {
    let is_there = |name: &str| is_well(&["sh", "-c", &format!("command -v {name}")]);
    if let Some(name) = programs.iter().find(|name| !is_there(name)) {
        return Some(format!("`{name}`"));
    }
    let bridge = [
        "unshare", "--net", "ip", "link", "add", "x", "type", "bridge",
    ];
    (!is_well(&bridge)).then(|| "the right to make network namespaces".to_owned())
}

fn is_well(command: &[&str]) -> bool {
    let mut process = Command::new(command[0]);
    process
        .args(&command[1..])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    process.status().is_ok_and(|status| status.success())
}

/// Runs a command to its end: what it prints.
pub(crate) fn finish(mut command: Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} ended with {}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
