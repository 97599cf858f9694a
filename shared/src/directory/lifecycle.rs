//! The whole search: stopped, finished, extended.

use std::collections::BTreeMap;

use crate::directory::{Directory, Flags};
use crate::error::Result;
use crate::fs::{self, Published};
use crate::id::{AttemptId, ExtensionId, GivenId};
use crate::layout;
use crate::record::{Extension, Finished, Given};

impl Directory {
    /// Asks all programs to leave.
    pub fn stop(&self, reason: &str) -> Result<Published> {
        fs::publish_new(
            &self.layout.path(layout::STOP),
            format!("{reason}\n").as_bytes(),
        )
    }

    /// Takes the wish to stop back, so that the search can go on; whether there was one.
    pub fn unstop(&self) -> Result<bool> {
        fs::remove(&self.layout.path(layout::STOP))
    }

    /// What the top folder says: whether the search is to stop, and whether it is finished. One listing.
    pub fn flags(&self) -> Result<Flags> {
        let names = fs::list_named(self.layout.root())?;
        let has = |name: &str| names.iter().any(|n| n == name);
        Ok(Flags {
            is_stopped: has(layout::STOP),
            is_finished: has(layout::FINISHED),
        })
    }

    /// What was said when the search was finished, if it is.
    pub fn read_finished(&self) -> Result<Option<Finished>> {
        self.read_or_quarantine(self.layout.path(layout::FINISHED), |_: &Finished| true)
    }

    /// Takes back that the search is finished where its last word takes no account of a retry, or of as many
    /// configurations as there are to be; whether it did.
    ///
    /// That word alone tells: what a program knows of the search itself may be older.
    pub fn reopen(&self, configurations: u32) -> Result<bool> {
        let Some(finished) = self.read_finished()? else {
            return Ok(false);
        };
        let mut retries = 0;
        for shard in self.shards(layout::RETRIES)? {
            let listed: Vec<AttemptId> = self.list_shard(layout::RETRIES, shard)?;
            retries += listed.len() as u64;
        }
        let is_all =
            finished.retries >= retries && finished.configurations >= u64::from(configurations);
        if is_all {
            return Ok(false);
        }
        fs::remove(&self.layout.path(layout::FINISHED))
    }

    /// Adds to the limit of the search, whoever else does so at the same time.
    pub fn extend(&self, extension: &Extension) -> Result<ExtensionId> {
        let listed: Vec<ExtensionId> = self.list_ids(&self.layout.path(layout::EXTENSIONS))?;
        let mut id = ExtensionId(listed.last().map_or(1, |last| last.0 + 1));
        loop {
            let path = self.inside(self.layout.extension(id))?;
            if fs::publish_record(&path, extension)? == Published::New {
                return Ok(id);
            }
            id.0 += 1;
        }
    }

    /// What was added to the limit of the search, by number. A corrupt record is set aside.
    pub fn extensions(&self) -> Result<BTreeMap<ExtensionId, Extension>> {
        let mut extensions = BTreeMap::new();
        for id in self.list_ids::<ExtensionId>(&self.layout.path(layout::EXTENSIONS))? {
            let read = self.read_or_quarantine(self.layout.extension(id), |_: &Extension| true)?;
            extensions.extend(read.map(|extension| (id, extension)));
        }
        Ok(extensions)
    }

    /// Wants a configuration to be tried, whoever else does so at the same time.
    pub fn give(&self, given: &Given) -> Result<GivenId> {
        let listed: Vec<GivenId> = self.list_ids(&self.layout.path(layout::GIVEN))?;
        let mut id = GivenId(listed.last().map_or(1, |last| last.0 + 1));
        loop {
            let path = self.inside(self.layout.given(id))?;
            if fs::publish_record(&path, given)? == Published::New {
                return Ok(id);
            }
            id.0 += 1;
        }
    }

    /// The numbers of the configurations that somebody wants to be tried, ascending.
    pub fn given(&self) -> Result<Vec<GivenId>> {
        self.list_ids(&self.layout.path(layout::GIVEN))
    }

    /// A configuration that somebody wants to be tried. One that is corrupt or not of this search is set aside.
    pub fn read_given(&self, id: GivenId) -> Result<Option<Given>> {
        let space = &self.search.space;
        let top = self.search.ladder.top();
        self.read_or_quarantine(self.layout.given(id), |given: &Given| {
            let typed = space.check_configuration(&given.configuration);
            typed.as_ref() == Ok(&given.configuration) && given.rung <= top
        })
    }

    /// Says that the search is finished.
    pub fn finish_search(&self, finished: &Finished) -> Result<Published> {
        fs::publish_record(&self.layout.path(layout::FINISHED), finished)
    }
}
