//! The whole search: stopped, finished, extended.

use std::collections::BTreeMap;

use crate::budget::Ladder;
use crate::directory::{Directory, Flags};
use crate::error::Result;
use crate::fs::{self, Published};
use crate::id::{AttemptId, ExtensionId, GivenId};
use crate::layout;
use crate::record::{Extension, Finished, Given};
use crate::search::Search;

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

    /// Takes back that the search is finished where its last word takes no account of a retry, of as many
    /// configurations as there are to be, or of the largest budget; whether it did.
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
        let ladder = self.ladder()?;
        let top = finished.top.unwrap_or(ladder.original().top());
        let is_all = finished.retries >= retries
            && finished.configurations >= u64::from(configurations)
            && top >= ladder.top();
        if is_all {
            return Ok(false);
        }
        fs::remove(&self.layout.path(layout::FINISHED))
    }

    /// The rungs of the search file, with those that extensions have added on top.
    pub(super) fn ladder(&self) -> Result<Ladder> {
        let mut ladder = self.search.ladder;
        for extension in self.extensions()?.into_values() {
            let raised = extension.max_budget.map(|max| ladder.raised_to(max));
            // Only those that can be are read.
            if let Some(Ok(raised)) = raised
                && raised.top() > ladder.top()
            {
                ladder = raised;
            }
        }
        Ok(ladder)
    }

    /// Adds to the search, behind all that was added before, whoever else does so at the same time.
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

    /// What was added to the search, by number. A corrupt record is set aside.
    ///
    /// They mean something one after the other, and numbers are given without gaps: so those below the last are read also where
    /// a listing does not show them yet.
    pub fn extensions(&self) -> Result<BTreeMap<ExtensionId, Extension>> {
        let listed: Vec<ExtensionId> = self.list_ids(&self.layout.path(layout::EXTENSIONS))?;
        let mut extensions = BTreeMap::new();
        for id in (1..=listed.last().map_or(0, |last| last.0)).map(ExtensionId) {
            let is_possible = |extension: &Extension| {
                let raised = extension.max_budget.map(|max| self.search.ladder_to(max));
                raised.is_none_or(|raised| raised.is_ok())
            };
            let read = self.read_or_quarantine(self.layout.extension(id), is_possible)?;
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
        let Search { space, ladder, .. } = &self.search;
        self.read_or_quarantine(self.layout.given(id), |given: &Given| {
            let typed = space.check_configuration(&given.configuration);
            // The extension that adds its rung may show itself later.
            let has_rung = given.rung <= ladder.top() || ladder.up_to(given.rung).is_some();
            typed.as_ref() == Ok(&given.configuration) && has_rung
        })
    }

    /// Says that the search is finished.
    pub fn finish_search(&self, finished: &Finished) -> Result<Published> {
        fs::publish_record(&self.layout.path(layout::FINISHED), finished)
    }
}
