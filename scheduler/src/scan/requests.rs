//! Requests that schedulers have written, and the proposals that answer them.

use std::collections::BTreeMap;

use shared::error::Result;
use shared::fs::Published;
use shared::parallel::in_parallel;
use shared::record::{Gift, Request};
use shared::{ConfigurationId, layout};
use tracing::warn;

use super::Scanner;
use crate::state::State;

impl Scanner {
    pub(super) fn load_requests(&self, state: &mut State) -> Result<()> {
        let shards = self.directory.shards(layout::REQUESTS)?;
        let mut named = BTreeMap::new();
        for requests in in_parallel(&shards, |shard| self.requests_of(*shard))? {
            named.extend(requests);
        }
        let Some(last) = named.last_key_value().map(|(id, _)| *id) else {
            return Ok(());
        };
        while state.num_requested <= last.0 && state.num_requested < state.total() {
            let id = ConfigurationId(state.num_requested);
            match named.remove(&id).flatten() {
                Some(request) => state.see_request(&request),
                None => self.read_requests(state, id)?,
            }
        }
        Ok(())
    }

    /// The requests of a shard; none for a corrupt one.
    fn requests_of(&self, shard: u32) -> Result<Vec<(ConfigurationId, Option<Request>)>> {
        let ids: Vec<ConfigurationId> = self.directory.list_shard(layout::REQUESTS, shard)?;
        let read = |id| Ok((id, self.directory.read_request(id)?));
        ids.into_iter().map(read).collect()
    }

    /// Reads the requests up to one that is known to be there.
    fn read_requests(&self, state: &mut State, last: ConfigurationId) -> Result<()> {
        while state.num_requested <= last.0 && state.num_requested < state.total() {
            let id = ConfigurationId(state.num_requested);
            let request = match self.directory.read_request(id)? {
                Some(request) => request,
                None => self.replace_request(state, id)?,
            };
            state.see_request(&request);
        }
        Ok(())
    }

    /// Writes a request again that was corrupt. The results it named are named by the next one.
    fn replace_request(&self, state: &State, id: ConfigurationId) -> Result<Request> {
        let place = state.table().place(id);
        // Where it was answered with what somebody gave, it asked for that.
        let answer = self.directory.read_proposal(id)?;
        let mut waiting = state.waiting.iter();
        let gift = answer.and_then(|answer| waiting.find(|(_, gift)| gift.1 == answer.values));
        let request = Request {
            configuration: id,
            bracket: place.bracket,
            rung: gift.map_or(place.rung, |(_, gift)| gift.0),
            finished: Vec::new(),
            pending: Vec::new(),
            superseding: Vec::new(),
            given: gift.map(|(number, gift)| Gift {
                number: *number,
                values: gift.1.clone(),
            }),
            top: state.table().raised_top(),
        };
        warn!("request {id} is missing and is written again");
        if self.directory.is_observer() {
            return Ok(request);
        }
        let published = self.directory.request(&request)?;
        self.directory.sync_requests([id])?;
        if published == Published::New {
            return Ok(request);
        }
        // Another scheduler was faster.
        Ok(self.directory.read_request(id)?.unwrap_or(request))
    }

    pub(super) fn load_requests_up_to(
        &self,
        state: &mut State,
        newest: ConfigurationId,
    ) -> Result<()> {
        let ids: Vec<ConfigurationId> = self
            .directory
            .list_shard(layout::REQUESTS, newest.shard())?;
        match ids.iter().rev().find(|id| **id <= newest) {
            Some(last) => self.read_requests(state, *last),
            None => Ok(()),
        }
    }

    pub(super) fn see_proposals(&self, state: &mut State) -> Result<()> {
        let mut awaited: Vec<ConfigurationId> = state.awaited.iter().copied().collect();
        if self.directory.is_network() {
            let there = self.directory.list_proposals(awaited.iter().copied())?;
            awaited.retain(|id| there.contains(id));
        }
        for id in awaited {
            if let Some(proposal) = self.directory.read_proposal(id)? {
                state.see_proposal(id, proposal.values);
            }
        }
        Ok(())
    }
}
