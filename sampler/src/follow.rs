//! Following a search directory request by request: the edge between files and the pure [`Proposer`].

use std::collections::BTreeSet;

use shared::record::{JobResult, Proposal, Request};
use shared::{ConfigurationId, Directory, Result, ResultId, layout};

use crate::proposer::Proposer;

/// A place in the row of requests, with everything known up to there.
#[derive(Debug)]
pub struct Follower {
    directory: Directory,
    proposer: Proposer,
    next: ConfigurationId,
    /// The rung of its first job, once it is asked for.
    rung: u8,
    /// Proposals seen in the directory, from the shard of `next` on.
    answered: BTreeSet<ConfigurationId>,
    /// The shard whose proposals were listed, while nothing shows that others write there too.
    listed: Option<u32>,
    /// Results of the next request that were read already, while others were awaited.
    read: Vec<JobResult>,
    /// Results of the next request that are gone.
    missed: BTreeSet<ResultId>,
    /// The request whose results are learnt.
    learnt: Option<ConfigurationId>,
}

/// What is to be done at the next request.
#[derive(Debug)]
pub enum Next {
    /// There is no such request (yet).
    NoRequest,
    /// It names a result that cannot be seen (yet).
    NoResult(ResultId),
    /// A configuration under way has no values to be seen (yet).
    NoProposal(ConfigurationId),
    /// It has an answer in the directory.
    Answered(Request),
    /// It can be answered.
    Open(Request),
}

impl Follower {
    /// Before the first request.
    ///
    /// # Errors
    /// What the search learns from is not there as it was.
    pub fn new(directory: &Directory) -> Result<Self> {
        let evidence = directory.evidence()?;
        Ok(Self {
            directory: directory.clone(),
            proposer: Proposer::with_evidence(directory.search(), &evidence),
            next: ConfigurationId(0),
            rung: 0,
            answered: BTreeSet::new(),
            listed: None,
            read: Vec::new(),
            missed: BTreeSet::new(),
            learnt: None,
        })
    }

    /// The id whose turn it is.
    pub fn next(&self) -> ConfigurationId {
        self.next
    }

    /// The core.
    pub fn proposer(&self) -> &Proposer {
        &self.proposer
    }

    /// The core, to be asked beyond what the directory holds.
    pub(crate) fn into_proposer(self) -> Proposer {
        self.proposer
    }

    /// Looks at the next request. Nothing is lost if the answer is not yet possible: look again.
    pub fn look(&mut self) -> Result<Next> {
        let Some(request) = self.request()? else {
            return Ok(Next::NoRequest);
        };
        if let Some(missing) = self.read_results(&request)? {
            return Ok(Next::NoResult(missing));
        }
        self.proposer.learn(&std::mem::take(&mut self.read));
        self.learnt = Some(request.configuration);
        self.proposer.see(&request);
        self.rung = request.rung;
        if self.is_answered(request.configuration)? {
            return Ok(Next::Answered(request));
        }
        match self.know_those_under_way(request.configuration)? {
            Some(unknown) => Ok(Next::NoProposal(unknown)),
            None => Ok(Next::Open(request)),
        }
    }

    /// Goes on although a result that the next request names is not there.
    pub(crate) fn go_on_without(&mut self, result: ResultId) {
        self.missed.insert(result);
        self.proposer.miss(result);
    }

    /// Computes the answer to an open request, or again the answer to an answered one.
    pub fn propose(&mut self, request: &Request) -> Proposal {
        self.proposer.propose(request)
    }

    /// Reads the values of all configurations under way; the first one that has none is returned.
    pub(crate) fn know_those_under_way(
        &mut self,
        before: ConfigurationId,
    ) -> Result<Option<ConfigurationId>> {
        for id in self.proposer.history().unknown(before) {
            match self.read_proposal(id)? {
                Some(proposal) => self.proposer.know(id, &proposal.values),
                None => return Ok(Some(id)),
            }
        }
        Ok(None)
    }

    /// Goes on from the request that was looked at to the next one; `values` are this one's, if they are at hand, so that
    /// nobody else wrote them.
    pub fn advance(&mut self, values: Option<&Proposal>) {
        self.proposer.ask(self.next.job(self.rung));
        if let Some(proposal) = values {
            self.proposer.know(self.next, &proposal.values);
        }
        if !self.answered.remove(&self.next) && values.is_none() {
            // Another sampler is at work, and may be further.
            self.listed = None;
        }
        self.next = ConfigurationId(self.next.0 + 1);
        self.missed.clear();
    }

    /// Configurations asked for, without result, whose proposal is no longer in the directory: set aside as corrupt,
    /// or removed by hand. They have to be proposed again, from the start.
    pub fn vanished(&self) -> Result<Vec<ConfigurationId>> {
        let outstanding = self.proposer.history().outstanding();
        let there = self.directory.list_proposals(outstanding.iter().copied())?;
        Ok(outstanding
            .iter()
            .filter(|id| !there.contains(id))
            .copied()
            .collect())
    }

    /// A proposal in the directory. The folder is listed if it cannot be opened: on a network filesystem a name that
    /// was missing a moment ago is believed to be missing until then.
    pub fn read_proposal(&self, id: ConfigurationId) -> Result<Option<Proposal>> {
        if let Some(proposal) = self.directory.read_proposal(id)? {
            return Ok(Some(proposal));
        }
        self.directory
            .list_shard::<ConfigurationId>(layout::CONFIGURATIONS, id.shard())?;
        self.directory.read_proposal(id)
    }

    fn request(&self) -> Result<Option<Request>> {
        let request = self.directory.read_request(self.next)?;
        if request.is_some() || !self.directory.is_network() {
            return Ok(request);
        }
        let listed: Vec<ConfigurationId> = self
            .directory
            .list_shard(layout::REQUESTS, self.next.shard())?;
        if listed.binary_search(&self.next).is_err() {
            return Ok(None);
        }
        self.directory.read_request(self.next)
    }

    /// Reads what is not read yet of the results that a request names; the first one missing is returned.
    fn read_results(&mut self, request: &Request) -> Result<Option<ResultId>> {
        if self.learnt == Some(request.configuration) {
            return Ok(None);
        }
        let named = self.proposer.history().named();
        let first = request.finished.iter().filter(|job| !named.contains(job));
        let first = first.map(|job| ResultId::from(*job));
        let mut wanted: Vec<ResultId> = first.chain(request.superseding.iter().copied()).collect();
        let have: BTreeSet<ResultId> = self.read.iter().map(JobResult::id).collect();
        wanted.retain(|id| !have.contains(id) && !self.missed.contains(id));
        for id in wanted {
            let mut result = self.directory.read_result(id)?;
            if result.is_none() {
                self.directory
                    .list_shard::<ResultId>(layout::RESULTS, id.job.configuration.shard())?;
                result = self.directory.read_result(id)?;
            }
            match result {
                Some(result) => self.read.push(result),
                None => return Ok(Some(id)),
            }
        }
        Ok(None)
    }

    fn is_answered(&mut self, id: ConfigurationId) -> Result<bool> {
        if !self.answered.contains(&id) && self.listed != Some(id.shard()) {
            let listed = self
                .directory
                .list_shard(layout::CONFIGURATIONS, id.shard())?;
            self.answered = listed.into_iter().filter(|other| *other >= id).collect();
            self.listed = Some(id.shard());
        }
        Ok(self.answered.contains(&id))
    }
}
