//! Every environment variable that any program reads, each with what it is for. Nothing else reads the environment.

use std::process::Command;

macro_rules! variables {
    ($($(#[$doc:meta])* $constant:ident = $name:literal;)*) => {
        $($(#[$doc])* pub const $constant: Variable = Variable($name);)*
        /// All of them, for documentation.
        pub const ALL: &[Variable] = &[$($constant),*];
    };
}

/// An environment variable that some program reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable(&'static str);

impl Variable {
    /// Its name.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// Its value, if it is set, not empty and Unicode.
    pub fn get(self) -> Option<String> {
        self.raw().filter(|value| !value.is_empty()) // empty: as if unset
    }

    /// Its value, if it is set and Unicode, where an empty one says something.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the environment"
    )]
    pub fn raw(self) -> Option<String> {
        std::env::var(self.0).ok() // unset or not Unicode: as if unset
    }
}

variables! {
    /// Which log lines are shown: `error`, `warn`, `info` (default), `debug`, `trace`, or per module.
    LOG = "TANDEM_LOG";
    /// Faults to inject into file operations, for tests; see [`crate::fault`].
    FAULTS = "TANDEM_FAULTS";
    /// The job file, for a command that is run as objective; `-` where it reads their paths from standard input.
    JOB = "TANDEM_JOB";
    /// Number of this trainer, from 0, among those that were started together: by `scheduler local`, or as one array.
    WORKER = "TANDEM_WORKER";
    /// Id of the SLURM job this process runs in.
    SLURM_JOB_ID = "SLURM_JOB_ID";
    /// Id of the SLURM job array this process runs in.
    SLURM_ARRAY_JOB_ID = "SLURM_ARRAY_JOB_ID";
    /// Number of this task in its SLURM job array.
    SLURM_ARRAY_TASK_ID = "SLURM_ARRAY_TASK_ID";
    /// How often SLURM has restarted this job.
    SLURM_RESTART_COUNT = "SLURM_RESTART_COUNT";
    /// When the SLURM job will be ended, in seconds since 1970 (SLURM 23.02 and later).
    SLURM_JOB_END_TIME = "SLURM_JOB_END_TIME";
    /// The GPUs this process may use.
    CUDA_VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES";
    /// Where the CUDA headers are.
    CUDA_PATH = "CUDA_PATH";
    /// Where trainers on GPUs keep compiled kernels: a folder on the node's own disk; empty: nowhere.
    KERNEL_CACHE = "TANDEM_KERNEL_CACHE";
    /// Where caches go; default `$HOME/.cache`.
    XDG_CACHE_HOME = "XDG_CACHE_HOME";
    /// The home folder.
    HOME = "HOME";

    /// What the terminal can do; `dumb`: nothing that a screen needs.
    TERM = "TERM";
    /// Set to anything: Python writes what it prints at once.
    PYTHONUNBUFFERED = "PYTHONUNBUFFERED";
    /// Set to anything: no colours.
    NO_COLOR = "NO_COLOR";
}

/// Variables of these prefixes are SLURM's.
const SLURMS: [&str; 6] = [
    "SLURM_",
    "SBATCH_",
    "SQUEUE_",
    "SCANCEL_",
    "SCONTROL_",
    "SACCT_",
];
/// Those which say what cluster this is, who asks, and on whose account: no line of a script says that.
const HEARD: [&str; 7] = [
    "SLURM_CONF",
    "SLURM_CONF_SERVER",
    "SLURM_JWT",
    "SBATCH_ACCOUNT",
    "SBATCH_CONSTRAINT",
    "SBATCH_QOS",
    "SBATCH_RESERVATION",
];

/// One of SLURM's commands, which hears few of the variables that stand for options of it.
///
/// They would beat the lines of a script, hide jobs that are in the queue, or be those of the SLURM job around this
/// process, which are not for the jobs that it submits.
pub fn slurm_command(program: &str) -> Command {
    let mut command = Command::new(program);
    for name in slurm_variables(&SLURMS) {
        command.env_remove(name);
    }
    command
}

/// The variables which users set for sbatch, and which [`slurm_command`] keeps from it.
pub fn unheard_by_sbatch() -> Vec<String> {
    slurm_variables(&["SBATCH_"])
}

fn slurm_variables(prefixes: &[&str]) -> Vec<String> {
    let names = std::env::vars_os().filter_map(|(name, _value)| name.into_string().ok()); // not Unicode: not SLURM's
    let is_meant = |name: &String| {
        prefixes.iter().any(|prefix| name.starts_with(prefix)) && !HEARD.contains(&name.as_str())
    };
    names.filter(is_meant).collect()
}

/// The folders in which programs are found by their names: those of PATH, then this program's own, for `tandem-run`.
#[expect(
    clippy::disallowed_methods,
    reason = "no variable of these programs, but every shell's"
)]
pub fn program_folders() -> Vec<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = std::env::current_exe().ok(); // its name cannot be told: then PATH alone
    let own = own.and_then(|program| program.parent().map(std::path::Path::to_path_buf));
    std::env::split_paths(&path).chain(own).collect()
}

/// Where caches of this user go: `$XDG_CACHE_HOME/tandem` or `$HOME/.cache/tandem`.
pub fn cache_folder() -> Option<std::path::PathBuf> {
    let base = XDG_CACHE_HOME
        .get()
        .map(std::path::PathBuf::from)
        .or_else(|| {
            HOME.get()
                .map(|home| std::path::Path::new(&home).join(".cache"))
        })?;
    Some(base.join("tandem"))
}
