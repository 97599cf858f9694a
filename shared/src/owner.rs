//! Who this process is: its host, its SLURM job, and the name under which it owns claims.

use crate::env;
use crate::fs;
use crate::id::OwnerId;

/// Makes this process's owner name: host, process id, SLURM job and restart, and chance.
pub fn new_owner() -> OwnerId {
    let host = host_name();
    let pid = std::process::id().to_string();
    let mut parts = vec![host, pid];
    if let Some(slurm_job) = slurm_job() {
        parts.push(format!("s{slurm_job}"));
        parts.push(format!(
            "r{}",
            env::SLURM_RESTART_COUNT.get().unwrap_or_else(|| "0".into())
        ));
    }
    parts.push(fs::unique_text());
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    OwnerId::from_parts(&parts)
}

/// The SLURM job this process runs in, as SLURM writes it: `123` or `123_4`.
pub fn slurm_job() -> Option<String> {
    match (
        env::SLURM_ARRAY_JOB_ID.get(),
        env::SLURM_ARRAY_TASK_ID.get(),
    ) {
        (Some(array), Some(task)) => Some(format!("{array}_{task}")),
        _ => env::SLURM_JOB_ID.get(),
    }
}

/// This machine's name.
pub fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}
