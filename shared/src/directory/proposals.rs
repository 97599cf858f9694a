//! Requests for configurations, and the proposals that answer them.

use std::collections::BTreeSet;

use crate::directory::Directory;
use crate::error::{Error, Invalid, Result};
use crate::format::{self, Record as _};
use crate::fs::{self, Published};
use crate::id::ConfigurationId;
use crate::layout;
use crate::record::{Proposal, Request};

impl Directory {
    /// Asks for a configuration. [`Directory::sync_requests`] makes it last.
    pub fn request(&self, request: &Request) -> Result<Published> {
        let path = self.inside(self.layout.request(request.configuration))?;
        fs::show_new_record(&path, request)
    }

    /// Makes requests last.
    pub fn sync_requests(&self, ids: impl IntoIterator<Item = ConfigurationId>) -> Result<()> {
        self.sync_shards(layout::REQUESTS, ids)
    }

    /// Answers a request. Requests and results lead to the same answer again, should it be lost.
    ///
    /// # Errors
    /// Its values are none of the space, so that no program would read it.
    pub fn propose(&self, proposal: &Proposal) -> Result<Published> {
        let path = self.inside(self.layout.configuration(proposal.configuration))?;
        let unwritable = |invalid: Invalid| Error::Unwritable {
            path: path.clone(),
            format: Proposal::FORMAT,
            source: invalid.within("values").into(),
        };
        let space = &self.search.space;
        let typed = space.check_configuration(&proposal.values);
        let typed = typed.map_err(unwritable)?;
        if typed != proposal.values {
            let expected = "values of the types that the space has";
            return Err(unwritable(Invalid::new("", expected, "others")));
        }
        fs::show_new_record(&path, proposal)
    }

    /// All proposals in the folders of these configurations, by listing.
    pub fn list_proposals(
        &self,
        ids: impl IntoIterator<Item = ConfigurationId>,
    ) -> Result<BTreeSet<ConfigurationId>> {
        let shards: BTreeSet<u32> = ids.into_iter().map(ConfigurationId::shard).collect();
        let mut there = BTreeSet::new();
        for shard in shards {
            there.extend(self.list_shard::<ConfigurationId>(layout::CONFIGURATIONS, shard)?);
        }
        Ok(there)
    }

    /// How often this very answer has been set aside: a corrupt file is another one, so somebody refuses it as it is.
    pub fn times_quarantined(&self, proposal: &Proposal) -> Result<usize> {
        let path = self.layout.configuration(proposal.configuration);
        let name = self.quarantined_name(&path);
        let folder = self.layout.path(layout::ASIDE);
        let bytes = format::to_publish(&path, proposal)?;
        let mut times = 0;
        for other in fs::list(&folder)? {
            let is_named_so = other.rsplit_once('.').is_some_and(|(of, _)| of == name);
            // A pipe, or what is too large, is something else that stood in its place.
            let is_the_same = || {
                let read = fs::read_if_there(&folder.join(&other));
                read.is_ok_and(|read| read.as_ref() == Some(&bytes))
            };
            if is_named_so && is_the_same() {
                times += 1;
            }
        }
        Ok(times)
    }

    /// The request for a configuration, if there is one. A corrupt one is set aside, so that it is written again.
    pub fn read_request(&self, id: ConfigurationId) -> Result<Option<Request>> {
        self.read_or_quarantine(self.layout.request(id), |request: &Request| {
            request.configuration == id
        })
    }

    /// A configuration, if it is proposed. A corrupt one is set aside, so that it is proposed again.
    pub fn read_proposal(&self, id: ConfigurationId) -> Result<Option<Proposal>> {
        self.read_or_quarantine(self.layout.configuration(id), |proposal: &Proposal| {
            proposal.configuration == id
                && self
                    .search
                    .space
                    .check_configuration(&proposal.values)
                    .as_ref()
                    == Ok(&proposal.values)
        })
    }
}
