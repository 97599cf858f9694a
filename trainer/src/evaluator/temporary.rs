//! A trainer's folder on this machine's temporary storage, which does not outlive it for long: where the trainer was
//! killed, the next one on this host sweeps it away.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use shared::JobId;
use shared::exit::{Code, Failure};

/// How the folders' names begin.
const PREFIX: &str = "tandem-trainer-";
/// The file in it that its trainer holds a lock on.
const LOCK: &str = "lock";
/// A folder that is younger than this may have no lock yet.
const YOUNG: Duration = Duration::from_mins(1);

/// The folder of this process; removed with this.
#[derive(Debug)]
pub(crate) struct Folder {
    folder: tempfile::TempDir,
    // Held as long as this process lives.
    #[cfg_attr(not(test), expect(dead_code, reason = "it is held"))]
    lock: File,
}

impl Folder {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Self::within(&std::env::temp_dir())
    }

    fn within(parent: &Path) -> anyhow::Result<Self> {
        let make = || {
            let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
            let lock = OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(folder.path().join(LOCK))?;
            lock.try_lock()?;
            std::io::Result::Ok(Self { folder, lock })
        };
        make().map_err(|error| {
            let message = format!("cannot make a folder in `{}`", parent.display());
            Failure::because(Code::Directory, message, error).into()
        })
    }

    /// A new folder for the files of one job.
    pub(crate) fn job(&self, job: JobId) -> anyhow::Result<tempfile::TempDir> {
        tempfile::Builder::new()
            .prefix(&format!("{job}-"))
            .tempdir_in(self.folder.path())
            .context("cannot make a folder for a job")
    }
}

/// Removes what trainers that were killed have left on this host.
pub(crate) fn sweep() {
    sweep_in(&std::env::temp_dir(), YOUNG);
}

fn sweep_in(parent: &Path, young: Duration) {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    let folders: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path())) // gone, or not to be read
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()))
        })
        .collect();
    for folder in folders {
        if is_left_behind(&folder, young) {
            // What cannot be removed is somebody else's.
            let _left = shared::fs::remove_folder(&folder);
        }
    }
}

fn is_left_behind(folder: &Path, young: Duration) -> bool {
    let is_young = std::fs::symlink_metadata(folder)
        .and_then(|metadata| metadata.modified())
        .is_ok_and(|at| at.elapsed().is_ok_and(|age| age < young));
    // A lock that this process may not look at is another user's.
    let lock = OpenOptions::new().write(true).open(folder.join(LOCK));
    !is_young && lock.is_ok_and(|lock| lock.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_dead_left_is_swept_and_what_the_living_hold_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let living = Folder::within(parent.path()).unwrap();
        let dead = Folder::within(parent.path()).unwrap();
        let left = dead.folder.path().to_path_buf();
        let _job = living.job(shared::ConfigurationId(1).job(0)).unwrap();
        // As the kernel does with a process that was killed: the lock is gone, the folder is not.
        drop(dead.lock);
        std::mem::forget(dead.folder);
        let other = parent.path().join("tandem-trainer-notes");
        fs_err::create_dir(&other).unwrap();
        sweep_in(parent.path(), Duration::from_mins(1));
        assert!(left.exists(), "it may be about to take its lock");
        sweep_in(parent.path(), Duration::ZERO);
        assert!(!left.exists());
        assert!(living.folder.path().exists() && other.exists());
    }
}
