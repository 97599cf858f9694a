//! What somebody wishes beyond the search file: retries, extensions, and configurations of one's own.

use shared::error::Result;
use shared::{AttemptId, layout};
use tracing::info;

use super::Scanner;
use crate::blame::Again;
use crate::state::State;

impl Scanner {
    /// Reads what somebody wishes beyond the search file.
    pub(crate) fn see_wishes(&mut self, state: &mut State) -> Result<()> {
        self.see_extensions(state)?;
        self.see_given(state)?;
        self.see_retries(state)
    }

    pub(super) fn see_extensions(&mut self, state: &mut State) -> Result<()> {
        for (id, extension) in self.directory.extensions()? {
            if self.extensions.insert(id)
                && let Err(invalid) = state.extend(self.directory.search(), &extension)
            {
                let path = self.directory.layout().extension(id);
                self.directory.quarantine(&path, &invalid)?;
            }
        }
        if state.table().num_rungs() > self.directory.search().ladder.num_levels() {
            self.directory.see_extensions()?;
        }
        Ok(())
    }

    /// Reads the configurations that somebody wants to be tried.
    pub(super) fn see_given(&mut self, state: &mut State) -> Result<()> {
        for number in self.directory.given()? {
            if !self.given.contains(&number)
                && let Some(given) = self.directory.read_given(number)?
                && given.rung < state.table().num_rungs()
            {
                self.given.insert(number);
                state.see_given(number, given.rung, given.configuration);
            }
        }
        Ok(())
    }

    /// Reads what was said of outcomes that no longer count.
    pub(super) fn see_retries(&mut self, state: &mut State) -> Result<()> {
        for shard in self.directory.shards(layout::RETRIES)? {
            let listed: Vec<AttemptId> = self.directory.list_shard(layout::RETRIES, shard)?;
            for superseded in listed {
                if self.retries.contains(&superseded) {
                    continue;
                }
                if let Some(retry) = self.directory.read_retry(superseded)? {
                    self.retries.insert(superseded);
                    state.see_retry(Again::from(retry));
                }
            }
        }
        state.num_retries = self.retries.len() as u64;
        Ok(())
    }

    /// Takes back that the search is finished, where there is more to do; whether it did.
    pub fn reopen(&self, state: &State) -> Result<bool> {
        let is_reopened = !self.directory.is_observer() && self.directory.reopen(state.total())?;
        if is_reopened {
            info!("the search was finished; it goes on, since there is more to do");
        }
        Ok(is_reopened)
    }
}
