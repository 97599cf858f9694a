//! Removes what processes that died have left behind.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tracing::info;

use crate::clock;
use crate::error::Result;
use crate::fs;

/// Removes drafts that a crash left: those that this sweeper has seen unchanged for an hour of its own clock.
#[derive(Debug, Default)]
pub struct Sweeper {
    seen: BTreeMap<PathBuf, clock::Silence<u64>>,
}

impl Sweeper {
    /// How long a draft must have been unchanged. No publication takes that long.
    pub(crate) const AGE: Duration = Duration::from_hours(1);

    /// Looks at the folders once; call it now and then.
    pub fn sweep(&mut self, folders: &[PathBuf], now: Instant) -> Result<()> {
        let mut still = BTreeMap::new();
        for folder in folders {
            for (path, size) in fs::drafts(folder)? {
                let mut silence = self
                    .seen
                    .remove(&path)
                    .unwrap_or_else(|| clock::Silence::new(size, now));
                silence.see(size, now);
                if silence.lasted(now) >= Self::AGE {
                    info!(
                        "removing the draft `{}` of a process that died",
                        path.display()
                    );
                    fs::remove(&path)?;
                } else {
                    still.insert(path, silence);
                }
            }
        }
        self.seen = still;
        Ok(())
    }
}
