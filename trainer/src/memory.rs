//! How much memory a training needs, and how much there is: told before the first weight is allocated.

use std::path::{Path, PathBuf};

use crate::hyperparameters::{Rule, TrainingConfig};
use crate::network::{Layer, Summary};

/// Bytes of a single-precision number.
const NUMBER: u64 = 4;
/// Tensors of the largest layer's size that are alive at once beside those that are kept: values and gradients on both
/// sides of an operation, and sums of gradients.
const TRANSIENT: u64 = 4;
/// What a program of this kind occupies without any network.
const BASE: u64 = 10 << 20;

/// The memory that a training needs at its peak, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footprint {
    /// Weights.
    pub(crate) weights: u64,
    /// What the optimizer remembers: velocities, squares, averages.
    pub(crate) optimizer: u64,
    /// Gradients while training; while a checkpoint is made, its copies of the two above, which are never alive at the
    /// same time and are larger.
    pub(crate) gradients: u64,
    /// Outputs of layers: those kept for the backward pass and those being worked on.
    pub(crate) activations: u64,
}

impl Footprint {
    /// Adds up what a network needs for training with batches of `batch` images and for evaluation with batches of
    /// `evaluation_batch`.
    pub(crate) fn new(
        summary: &Summary,
        config: &TrainingConfig,
        batch: usize,
        evaluation_batch: usize,
    ) -> Self {
        let parameters = summary.parameters() * NUMBER;
        let remembered =
            1 + u64::from(config.rule == Rule::AdamW) + u64::from(config.weight_average > 0.0);
        let kept: u64 = summary
            .layers
            .iter()
            .filter(|layer| layer.is_kept)
            .map(Layer::activations)
            .sum();
        let largest = summary
            .layers
            .iter()
            .map(Layer::activations)
            .max()
            .unwrap_or(0);
        let training = (kept + TRANSIENT * largest) * batch as u64;
        let evaluation = TRANSIENT * largest * evaluation_batch as u64;
        Self {
            weights: parameters,
            optimizer: remembered * parameters,
            // Arrays and then bytes of weights and of what the optimizer remembers.
            gradients: 2 * (1 + remembered) * parameters,
            activations: training.max(evaluation) * NUMBER,
        }
    }

    /// All of it, with the program itself.
    pub(crate) fn total(&self) -> u64 {
        self.weights + self.optimizer + self.gradients + self.activations + BASE
    }
}

/// Bytes as MiB.
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Bytes that this process may still allocate: what the system has available, and what its control groups allow.
/// `None` where the system does not say.
pub(crate) fn available() -> Option<u64> {
    available_under(Path::new("/"))
}

/// Bytes that this process could have if nobody else had any: what the system has, and what its control groups allow.
/// `None` where the system does not say.
pub(crate) fn total() -> Option<u64> {
    total_under(Path::new("/"))
}

/// How many processes of this one's control group the kernel has killed for lack of memory; of the whole system where
/// groups do not count them. `None` where nobody does.
pub(crate) fn oom_kills() -> Option<u64> {
    oom_kills_under(Path::new("/"))
}

/// The largest amount of memory that a process has had at once, in bytes; `None` once it is gone.
pub(crate) fn peak_of(process: u32) -> Option<u64> {
    let text = read(PathBuf::from(format!("/proc/{process}/status")))?;
    kib(&text, "VmHWM:")
}

fn read(path: PathBuf) -> Option<String> {
    fs_err::read_to_string(path).ok() // not there: no such limit, no such process
}

fn groups_under(root: &Path) -> Vec<PathBuf> {
    let groups = read(root.join("proc/self/cgroup")).unwrap_or_default();
    groups
        .lines()
        .flat_map(|line| group_folders(root, line))
        .collect()
}

fn oom_kills_under(root: &Path) -> Option<u64> {
    let count = |path: PathBuf| {
        let text = read(path)?;
        let number = text
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "))?;
        number.trim().parse::<u64>().ok()
    };
    let of_group = |group: &PathBuf| {
        count(group.join("memory.events")).or_else(|| count(group.join("memory.oom_control")))
    };
    // The nearest group that counts: those above count for others as well.
    let groups = groups_under(root);
    groups
        .iter()
        .find_map(of_group)
        .or_else(|| count(root.join("proc/vmstat")))
}

/// The limit of a control group, in bytes.
fn limit_of(group: &Path) -> Option<u64> {
    number_in(group, "memory.max").or_else(|| number_in(group, "memory.limit_in_bytes"))
}

fn number_in(group: &Path, name: &str) -> Option<u64> {
    read(group.join(name)).and_then(|text| text.trim().parse().ok())
}

fn total_under(root: &Path) -> Option<u64> {
    let system = read(root.join("proc/meminfo")).and_then(|text| kib(&text, "MemTotal:"));
    let limits = groups_under(root)
        .into_iter()
        .filter_map(|group| limit_of(&group));
    system.into_iter().chain(limits).min()
}

/// [`available`] for the system whose files are below `root`.
fn available_under(root: &Path) -> Option<u64> {
    let system = read(root.join("proc/meminfo")).and_then(|text| kib(&text, "MemAvailable:"));
    let limits = groups_under(root).into_iter().filter_map(|group| {
        let number = |name| number_in(&group, name);
        let limit = limit_of(&group)?;
        let used = number("memory.current").or_else(|| number("memory.usage_in_bytes"))?;
        // Cached files count as used, but are given up on demand.
        let cached = read(group.join("memory.stat")).and_then(|text| inactive_files(&text));
        Some(limit.saturating_sub(used.saturating_sub(cached.unwrap_or(0))))
    });
    system.into_iter().chain(limits).min()
}

/// The bytes that a line such as `MemAvailable:   5000 kB` names.
fn kib(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value
        .trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

fn inactive_files(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| {
            line.strip_prefix("total_inactive_file ")
                .or(line.strip_prefix("inactive_file "))
        })
        .and_then(|value| value.trim().parse().ok())
}

/// The folders of a control group and all above it: a line of `/proc/self/cgroup` is `id:controllers:path`, where
/// version 2 names no controllers.
fn group_folders(root: &Path, line: &str) -> Vec<PathBuf> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
        return Vec::new();
    };
    let base = match controllers {
        "" => root.join("sys/fs/cgroup"),
        _ if controllers.split(',').any(|name| name == "memory") => {
            root.join("sys/fs/cgroup/memory")
        }
        _ => return Vec::new(),
    };
    Path::new(path.trim_start_matches('/'))
        .ancestors()
        .map(|group| base.join(group))
        .collect()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files of a made-up system")]
mod tests {
    use super::*;

    /// A made-up `/` with the given files.
    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    const MEMINFO: (&str, &str) = (
        "proc/meminfo",
        "MemTotal:  8000 kB\nMemFree: 1 kB\nMemAvailable:    5000 kB\n",
    );

    #[test]
    fn without_groups_the_system_decides() {
        assert_eq!(
            available_under(system(&[MEMINFO]).path()),
            Some(5000 * 1024)
        );
        assert_eq!(available_under(system(&[]).path()), None);
    }

    #[test]
    fn kills_for_lack_of_memory_are_counted_by_the_nearest_group_or_the_system() {
        let vmstat = ("proc/vmstat", "pgfault 3\noom_kill 7\n");
        assert_eq!(oom_kills_under(system(&[vmstat]).path()), Some(7));
        assert_eq!(oom_kills_under(system(&[]).path()), None);
        let version_2 = system(&[
            vmstat,
            ("proc/self/cgroup", "0::/slurm/job_7/step_0\n"),
            (
                "sys/fs/cgroup/slurm/job_7/memory.events",
                "low 0\noom 4\noom_kill 2\noom_group_kill 0\n",
            ),
            ("sys/fs/cgroup/slurm/memory.events", "oom_kill 5\n"),
        ]);
        assert_eq!(oom_kills_under(version_2.path()), Some(2));
        let version_1 = system(&[
            ("proc/self/cgroup", "4:memory:/job\n"),
            (
                "sys/fs/cgroup/memory/job/memory.oom_control",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
            ),
        ]);
        assert_eq!(oom_kills_under(version_1.path()), Some(1));
    }

    #[test]
    fn the_total_is_the_systems_or_the_tightest_groups() {
        assert_eq!(total_under(system(&[MEMINFO]).path()), Some(8000 * 1024));
        let root = system(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/job\n"),
            ("sys/fs/cgroup/job/memory.max", "4096000\n"),
        ]);
        assert_eq!(total_under(root.path()), Some(4_096_000));
    }

    #[test]
    fn a_group_above_may_be_the_tightest() {
        let root = system(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/slurm/job_7/step_0\n"),
            ("sys/fs/cgroup/slurm/job_7/step_0/memory.max", "max\n"),
            ("sys/fs/cgroup/slurm/job_7/step_0/memory.current", "100\n"),
            ("sys/fs/cgroup/slurm/job_7/memory.max", "1000000\n"),
            ("sys/fs/cgroup/slurm/job_7/memory.current", "600000\n"),
            (
                "sys/fs/cgroup/slurm/job_7/memory.stat",
                "anon 5\ninactive_file 50000\n",
            ),
        ]);
        assert_eq!(available_under(root.path()), Some(450_000));
    }

    #[test]
    fn groups_of_version_1_are_understood() {
        let root = system(&[
            MEMINFO,
            ("proc/self/cgroup", "3:cpuset:/x\n2:memory,hugetlb:/job\n"),
            (
                "sys/fs/cgroup/memory/job/memory.limit_in_bytes",
                "2000000\n",
            ),
            (
                "sys/fs/cgroup/memory/job/memory.usage_in_bytes",
                "3000000\n",
            ),
        ]);
        assert_eq!(available_under(root.path()), Some(0));
    }

    #[test]
    fn this_machine_says_what_it_has() {
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
    }
}
