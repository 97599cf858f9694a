//! Corrupt and foreign files are moved to `aside/`, so that what they stand for is made again. Nothing is ever deleted.

use std::path::{Path, PathBuf};

use tracing::warn;

use crate::directory::Directory;
use crate::error::{Result, chain};
use crate::format::{self, Record};
use crate::fs::{self, Moved};
use crate::layout;

impl Directory {
    /// Moves a corrupt or foreign file to `aside/`, with a line in the log. Nothing is ever deleted.
    pub fn quarantine(&self, path: &Path, why: &dyn std::fmt::Display) -> Result<()> {
        if self.is_observer {
            warn!("cannot use `{}`: {why}", path.display());
            return Ok(());
        }
        let name = self.quarantined_name(path);
        let to = self
            .layout
            .path(layout::ASIDE)
            .join(format!("{name}.{}", unique_suffix()));
        fs::make_folder(&self.layout.path(layout::ASIDE))?;
        if fs::move_to(path, &to)? == Moved::Done {
            warn!(
                "set aside `{}` as `{}`: {why}",
                path.display(),
                to.display()
            );
        }
        Ok(())
    }

    /// What a file's name in `aside/` begins with.
    pub(super) fn quarantined_name(&self, path: &Path) -> String {
        let relative = path.strip_prefix(self.layout.root()).unwrap_or(path);
        // Short enough for what is put behind it: names end at 255 bytes.
        let name = relative.to_string_lossy().replace('/', "__");
        name.chars().take(50).collect()
    }

    /// As [`quarantine`](Self::quarantine); a file that cannot be moved stays, since the rest must go on.
    fn try_quarantine(&self, path: &Path, why: &dyn std::fmt::Display) {
        if let Err(error) = self.quarantine(path, why) {
            warn!(
                "cannot set aside `{}` ({why}): {}",
                path.display(),
                chain(&error)
            );
        }
    }

    /// Ids in a folder's file names, ascending; files with other names are set aside.
    pub(super) fn list_ids<T: std::str::FromStr + Ord>(&self, folder: &Path) -> Result<Vec<T>> {
        let mut ids = Vec::new();
        self.inside(folder.join("any"))?;
        for name in fs::list(folder)? {
            match layout::id_in(&name) {
                Some(id) => ids.push(id),
                None => {
                    self.try_quarantine(
                        &folder.join(&name),
                        &"its name is not one of this folder's",
                    );
                }
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }

    pub(super) fn read_or_quarantine<R: Record>(
        &self,
        path: PathBuf,
        belongs_here: impl FnOnce(&R) -> bool,
    ) -> Result<Option<R>> {
        let path = &self.inside(path)?;
        let bytes = match fs::read_if_there(path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(error) if error.is_bad_file() => {
                self.quarantine(path, &chain(&error))?;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        match format::from_bytes::<R>(path, &bytes) {
            Ok(record) if belongs_here(&record) => Ok(Some(record)),
            Ok(_) => {
                self.quarantine(path, &"its content belongs to another name or search")?;
                Ok(None)
            }
            Err(error) if error.is_bad_file() => {
                self.quarantine(path, &chain(&error))?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

fn unique_suffix() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!(
        "{}-{}",
        fs::unique_text(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}
