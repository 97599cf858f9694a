//! Starting, watching and killing the four programs on a search directory of their own.
//!
//! A test says what it waits for, with a deadline; when that is over it gets the last state and the programs' logs.

pub mod cluster;
pub mod faults;
pub mod nfs;
pub mod repeated;
pub mod scale;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use shared::record::JobResult;
use shared::{ConfigurationId, Directory, JobId, Outcome, fs, layout};

/// How long anything may take before a test fails.
pub const DEADLINE: Duration = Duration::from_mins(10);

/// A search directory in a temporary folder, and the programs running on it.
pub struct TestSearch {
    folder: tempfile::TempDir,
    running: Vec<Running>,
    started: usize,
}

/// A program that was started.
pub struct Running {
    /// `scheduler`, `sampler` or `trainer`.
    pub program: &'static str,
    /// The process.
    pub child: Child,
    log: PathBuf,
}

/// The path of one of the programs, built beside the test.
///
/// # Panics
/// If it is not built.
pub fn program(name: &str) -> PathBuf {
    let exe = std::env::current_exe().expect("a running test has a path");
    // target/PROFILE/deps/system-… or target/PROFILE/faults → target/PROFILE/NAME
    let folder = exe.parent().expect("a program lies in a folder");
    let folder = match folder.file_name() {
        Some(deps) if deps == "deps" => {
            folder.parent().expect("a test lies in target/PROFILE/deps")
        }
        _ => folder,
    };
    let path = folder.join(name);
    assert!(
        path.exists(),
        "`{}` is not built; run the tests with --workspace, which builds all programs",
        path.display()
    );
    path
}

/// Says that a test is skipped, and why, whatever the runner does with it.
pub fn skip(why: &str) {
    shared::cli::report(&format!("skipped: {why}"));
}

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A search of the counting-ones benchmark with short heartbeats, to be changed by the test.
///
/// # Panics
/// If the repository lacks its space.
pub fn counting_ones(method: &str, brackets: u32) -> serde_json::Value {
    let space: serde_json::Value = serde_json::from_slice(
        &std::fs::read(repository("data/spaces/counting-ones-8.json")).expect("a space file"),
    )
    .expect("valid JSON");
    serde_json::json!({
        "format": "search",
        "version": [1, 0],
        "name": "test",
        "space": { "hyperparameters": space["hyperparameters"] },
        "objective": { "benchmark": "counting-ones" },
        "budget": { "unit": "steps", "min": 1, "max": 27, "eta": 3 },
        "limit": { "brackets": brackets },
        "method": method,
        "seed": 7,
        "trainers": { "heartbeat_s": 0.2, "lease_s": 2.0, "max_attempts": 1000 },
    })
}

impl TestSearch {
    /// Writes the search file and runs `scheduler init`.
    ///
    /// # Errors
    /// `init` fails; its words are in the message.
    pub fn new(search: &serde_json::Value) -> Result<Self> {
        Self::in_folder(tempfile::tempdir()?, search)
    }

    /// As [`new`](Self::new), in a temporary folder inside `parent`.
    ///
    /// # Errors
    /// As there.
    pub fn within(parent: &Path, search: &serde_json::Value) -> Result<Self> {
        Self::in_folder(tempfile::tempdir_in(parent)?, search)
    }

    fn in_folder(folder: tempfile::TempDir, search: &serde_json::Value) -> Result<Self> {
        let file = folder.path().join("search.json");
        fs::replace(&file, &serde_json::to_vec_pretty(search)?)?;
        let this = Self::found(folder);
        let output = this.output(
            "scheduler",
            &[
                "init",
                &file.to_string_lossy(),
                &this.root().to_string_lossy(),
            ],
        )?;
        ensure!(
            output.status.success(),
            "init failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(this)
    }

    /// A search that others have run, in `directory` in the folder.
    pub fn found(folder: tempfile::TempDir) -> Self {
        Self {
            folder,
            running: Vec::new(),
            started: 0,
        }
    }

    /// The search directory.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("directory")
    }

    /// The search directory, opened.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn directory(&self) -> Result<Directory> {
        Ok(Directory::open(&self.root())?)
    }

    /// A path beside the search directory, for logs and other things of the test.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn output(&self, name: &str, arguments: &[&str]) -> Result<Output> {
        command(name)
            .args(arguments)
            .output()
            .with_context(|| format!("cannot run {name}"))
    }

    /// Runs a program on the search directory to its end: `NAME COMMAND DIR ARGUMENTS…`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn on(&self, name: &str, verb: &str, arguments: &[&str]) -> Result<Output> {
        let root = self.root();
        let root = root.to_string_lossy();
        self.output(name, &[&[verb, &root], arguments].concat())
    }

    /// The same, which must succeed; what it prints.
    ///
    /// # Errors
    /// It cannot be started, or fails.
    pub fn printed(&self, name: &str, verb: &str, arguments: &[&str]) -> Result<String> {
        let output = self.on(name, verb, arguments)?;
        ensure!(output.status.success(), "{name} {verb}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Starts `NAME run DIR` in the background, with faults if `faults` says so; its place among the running ones.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&mut self, name: &'static str, faults: Option<&str>) -> Result<usize> {
        self.start_as(name, with_faults(name, faults))
    }

    /// Starts `NAME run DIR` in the background on a host whose clock is wrong, by `offset` such as `+1h`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_with_clock(&mut self, name: &'static str, offset: &str) -> Result<usize> {
        self.start_as(name, with_clock(name, offset))
    }

    /// What `scheduler status DIR` says, as JSON, on a host whose clock is wrong by `offset`.
    ///
    /// # Errors
    /// It fails.
    pub fn status_with_clock(&self, offset: &str) -> Result<serde_json::Value> {
        let output = with_clock("scheduler", offset)
            .arg("status")
            .arg(self.root())
            .args(["--format", "json"])
            .output()?;
        ensure!(output.status.success(), "{output:?}");
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn start_as(&mut self, name: &'static str, command: Command) -> Result<usize> {
        self.running.push(self.spawn(name, command)?);
        self.started += 1;
        Ok(self.running.len() - 1)
    }

    /// Starts a program again that has ended or was killed.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn restart(&mut self, index: usize, faults: Option<&str>) -> Result<()> {
        let name = self.running[index].program;
        self.running[index] = self.spawn(name, with_faults(name, faults))?;
        self.started += 1;
        Ok(())
    }

    fn spawn(&self, name: &'static str, mut command: Command) -> Result<Running> {
        let log = self.beside(&format!("{name}.log"));
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)?;
        command
            .arg("run")
            .arg(self.root())
            .args(["--poll-s", "0.5"]);
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        Ok(Running {
            program: name,
            child,
            log,
        })
    }

    /// The programs that were started.
    pub fn running(&mut self) -> &mut [Running] {
        &mut self.running
    }

    /// Takes a program that has ended out of the list.
    pub fn forget(&mut self, index: usize) {
        self.running.remove(index);
    }

    /// kill -9.
    ///
    /// # Errors
    /// The process cannot be waited for.
    pub fn kill(&mut self, index: usize) -> Result<()> {
        let child = &mut self.running[index].child;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Waits until all programs have ended by themselves, and checks that each ended well.
    ///
    /// # Errors
    /// The deadline is over, or a program ended otherwise.
    pub fn wait_for_all(&mut self) -> Result<()> {
        let start = Instant::now();
        for running in &mut self.running {
            loop {
                if let Some(status) = running.child.try_wait()? {
                    ensure!(
                        status.success(),
                        "{} ended with {status}:\n{}",
                        running.program,
                        tail(&running.log)
                    );
                    break;
                }
                ensure!(
                    start.elapsed() < DEADLINE,
                    "{} has not ended after {DEADLINE:?}:\n{}",
                    running.program,
                    tail(&running.log)
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// Waits for a state of the directory.
    ///
    /// # Errors
    /// The deadline is over; the message has `what`.
    pub fn wait_until(
        &self,
        what: &str,
        is_so: impl FnMut(&Directory) -> Result<bool>,
    ) -> Result<()> {
        self.wait_at_most(DEADLINE, what, is_so)
    }

    /// As [`wait_until`](Self::wait_until), with a deadline of its own.
    ///
    /// # Errors
    /// As there.
    pub fn wait_at_most(
        &self,
        deadline: Duration,
        what: &str,
        mut is_so: impl FnMut(&Directory) -> Result<bool>,
    ) -> Result<()> {
        let directory = self.directory()?;
        let start = Instant::now();
        while !is_so(&directory)? {
            ensure!(
                start.elapsed() < deadline,
                "after {deadline:?} still not: {what}\n{}",
                self.logs()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// The ends of all logs.
    pub fn logs(&self) -> String {
        let mut logs: Vec<&PathBuf> = self.running.iter().map(|running| &running.log).collect();
        logs.dedup();
        let logs: Vec<String> = logs
            .iter()
            .map(|log| {
                format!(
                    "--- {}
{}",
                    log.display(),
                    tail(log)
                )
            })
            .collect();
        logs.join(
            "
",
        )
    }

    /// All that the programs have printed.
    ///
    /// # Errors
    /// A log cannot be read.
    pub fn all_logs(&self) -> Result<String> {
        let mut logs: Vec<&PathBuf> = self.running.iter().map(|running| &running.log).collect();
        logs.sort();
        logs.dedup();
        let mut text = String::new();
        for log in logs {
            text += &std::fs::read_to_string(log)?;
        }
        Ok(text)
    }

    /// Leaves the directory behind, to be looked at: where it is.
    pub fn keep(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.root()
    }

    /// Runs the search to its end with one scheduler, one sampler and some trainers.
    ///
    /// # Errors
    /// A program fails, or the deadline is over.
    pub fn run_to_end(&mut self, trainers: usize) -> Result<()> {
        self.start("scheduler", None)?;
        self.start("sampler", None)?;
        for _ in 0..trainers {
            self.start("trainer", None)?;
        }
        self.wait_for_all()
    }

    /// The results that there are, by job.
    ///
    /// # Errors
    /// One cannot be read, or two are of one job.
    pub fn results(&self) -> Result<BTreeMap<JobId, JobResult>> {
        let mut results = BTreeMap::new();
        for result in self.directory()?.all_results()? {
            // One file a job is what the file name gives; the content must be that job's.
            ensure!(
                results.insert(result.job(), result).is_none(),
                "two results of one job"
            );
        }
        Ok(results)
    }

    /// What must hold of every finished search, however it came about; the results, by job.
    ///
    /// # Errors
    /// It does not hold.
    pub fn check_finished(&self) -> Result<BTreeMap<JobId, JobResult>> {
        let directory = self.directory()?;
        ensure!(
            directory.flags()?.is_finished,
            "the search is not finished\n{}",
            self.logs()
        );
        let view = directory.jobs()?;
        ensure!(view.open.is_empty(), "open jobs are left: {:?}", view.open);
        ensure!(
            view.claimed.is_empty(),
            "claims are left: {:?}",
            view.claimed
        );
        let results = self.results()?;
        for (job, result) in &results {
            ensure!(
                !matches!(result.outcome, Outcome::Lost { .. }),
                "{job} was lost"
            );
        }
        check_brackets(&directory, &results)?;
        Ok(results)
    }
}

impl Drop for TestSearch {
    fn drop(&mut self) {
        for running in &mut self.running {
            // Ended already, most often.
            let _ended = running.child.kill();
            let _reaped = running.child.wait();
        }
    }
}

/// The first jobs of the configurations that somebody gave, which are in no bracket, and of all others.
fn requested(directory: &Directory) -> Result<(Vec<JobId>, Vec<JobId>)> {
    let (mut given, mut others) = (Vec::new(), Vec::new());
    let requests = (0..).map_while(|id| directory.read_request(ConfigurationId(id)).transpose());
    for request in requests {
        let request = request?;
        let list = if request.given.is_some() {
            &mut given
        } else {
            &mut others
        };
        list.push(request.configuration.job(request.rung));
    }
    Ok((given, others))
}

/// Every bracket has the sizes it must have, and promoted the best of each rung.
fn check_brackets(directory: &Directory, results: &BTreeMap<JobId, JobResult>) -> Result<()> {
    let search = directory.search();
    let shared::search::Limit::Brackets(num_brackets) = search.limit else {
        return Ok(());
    };
    if search.scheduling != shared::search::Scheduling::Synchronous {
        return Ok(());
    }
    let (given, all) = requested(directory)?;
    for job in &given {
        ensure!(
            results.contains_key(job),
            "{job} was given and has no result"
        );
    }
    let mut first = 0;
    let mut num_jobs = given.len();
    for bracket in 0..num_brackets {
        let sizes = search.bracket_sizes(bracket);
        let num_rungs = u8::try_from(sizes.len())?;
        let last = first + usize::try_from(sizes[0])?;
        let of_bracket = all
            .get(first..last)
            .context("a bracket was not requested")?;
        let mut members: Vec<ConfigurationId> =
            of_bracket.iter().map(|job| job.configuration).collect();
        for (step, size) in sizes.iter().enumerate() {
            let rung = search.ladder.original().num_levels() - num_rungs + u8::try_from(step)?;
            // What failed, or breaks a constraint, is never promoted.
            ensure!(
                step > 0 || members.len() == usize::try_from(*size)?,
                "bracket {bracket} has {} at rung {rung}",
                members.len()
            );
            let mut losses = Vec::new();
            for id in &members {
                let result = results
                    .get(&id.job(rung))
                    .with_context(|| format!("{} has no result", id.job(rung)))?;
                ensure!(
                    result.bracket == bracket,
                    "{} is of bracket {}",
                    id.job(rung),
                    result.bracket
                );
                losses.extend(result.outcome.loss().map(|loss| (loss, *id)));
                num_jobs += 1;
            }
            losses.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let next = sizes.get(step + 1).copied().unwrap_or(0);
            members = losses
                .iter()
                .take(usize::try_from(next)?)
                .map(|(_, id)| *id)
                .collect();
        }
        first = last;
    }
    ensure!(
        num_jobs == results.len(),
        "{} results, {num_jobs} jobs in the brackets",
        results.len()
    );
    Ok(())
}

/// Loss by job: what two searches must agree on.
pub fn losses(results: &BTreeMap<JobId, JobResult>) -> BTreeMap<JobId, Option<f64>> {
    results
        .iter()
        .map(|(job, result)| (*job, result.outcome.loss()))
        .collect()
}

/// Every file of one kind below a search directory, by relative path: bytes to be compared between two searches.
///
/// # Errors
/// A file cannot be read.
pub fn files(root: &Path, kind: &str) -> Result<BTreeMap<String, Vec<u8>>> {
    let layout = layout::Layout::new(root);
    let mut files = BTreeMap::new();
    for shard in fs::list(&layout.path(kind))? {
        let folder = layout.path(kind).join(&shard);
        for name in fs::list(&folder)? {
            files.insert(
                format!("{kind}/{shard}/{name}"),
                fs::read(&folder.join(&name))?,
            );
        }
    }
    Ok(files)
}

/// Reads a search file of the repository with its space put in place, to be changed by the test.
///
/// # Errors
/// A file cannot be read.
pub fn repository_search(name: &str) -> Result<serde_json::Value> {
    let path = repository("data/searches").join(name);
    let mut search: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    let space_file = search["space_file"]
        .as_str()
        .context("a search of the repository names its space")?;
    let space_path = path
        .parent()
        .context("a file lies in a folder")?
        .join(space_file);
    let space: serde_json::Value = serde_json::from_slice(&std::fs::read(space_path)?)?;
    let fields = search.as_object_mut().context("a search is an object")?;
    fields.remove("space_file");
    fields.insert(
        "space".to_owned(),
        serde_json::json!({ "hyperparameters": space["hyperparameters"] }),
    );
    Ok(search)
}

/// A program of this build, with faults of the filesystem if `faults` says so.
pub fn with_faults(name: &str, faults: Option<&str>) -> Command {
    let mut command = command(name);
    if let Some(faults) = faults {
        command.env(shared::env::FAULTS.name(), faults);
    }
    command
}

fn with_clock(name: &str, offset: &str) -> Command {
    let mut command = command(name);
    // The program `faketime` would be a process in between. `$LIB` is for the dynamic linker.
    command.env("LD_PRELOAD", "/usr/$LIB/faketime/libfaketimeMT.so.1");
    command.env("FAKETIME", offset);
    // As on a real host: the stop-watch runs as ever, and files are stamped by others.
    command.env("DONT_FAKE_MONOTONIC", "1");
    command.env("NO_FAKE_STAT", "1");
    command
}

fn command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    // A test must not depend on what the person who runs it has set, least of all on a SLURM job around it.
    for variable in shared::env::ALL {
        if variable.name() != shared::env::HOME.name() {
            command.env_remove(variable.name());
        }
    }
    command
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}
