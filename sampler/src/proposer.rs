//! The pure core: search, requests and results in, proposals out. No file is read or written here.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};
use shared::evidence::{EarlierResult, Evidence};
use shared::record::{JobResult, ModelUse, Origin, Outcome, Proposal, Request};
use shared::{Configuration, ConfigurationId, JobId, ResultId, Score, Search};
use tracing::warn;

use crate::history::{Earlier, EarlierSearch, History};
use crate::method::{self, Ask, Method, Suggestion};
use crate::scalarise::Scalarised;
use crate::stopping;
use crate::tried::Tried;

/// How often a method is asked again that suggests what has been tried.
const MOST_REPEATS: u32 = 5;

/// Answers the requests of a search one after the other.
pub struct Proposer {
    search: Search,
    history: History,
    method: Box<dyn Method>,
    /// Jobs under way, as far as requests tell.
    pending: BTreeSet<JobId>,
    /// What has been asked for; `None` where the same may be tried again.
    tried: Option<Tried>,
    digests: Digests,
    /// Configurations that somebody gave while the search ran.
    given: BTreeSet<ConfigurationId>,
}

impl Proposer {
    /// Before the first request, with nothing learnt from other searches.
    pub fn new(search: &Search) -> Self {
        Self::with_evidence(search, &[])
    }

    /// Before the first request.
    pub(crate) fn with_evidence(search: &Search, evidence: &[Evidence]) -> Self {
        let mut search = search.clone();
        // Requests tell from when on there are more rungs.
        search.ladder = search.ladder.original();
        let search = &search;
        let mut history = History::new(&search.space);
        for evidence in evidence {
            history.learn_from(earlier(search, evidence));
        }
        Self {
            history,
            method: method::of_search(search),
            search: search.clone(),
            pending: BTreeSet::new(),
            tried: search.tries_nothing_twice().then(Tried::default),
            digests: Digests::default(),
            given: BTreeSet::new(),
        }
    }

    /// What is known so far.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The method, for what it fitted last.
    pub fn method(&self) -> &dyn Method {
        self.method.as_ref()
    }

    /// Takes in the results that a request names as new, in any order.
    pub fn learn(&mut self, results: &[JobResult]) {
        let mut results: Vec<&JobResult> = results.iter().collect();
        results.sort_by_key(|result| result.id());
        for result in results {
            let job = result.job();
            let mut scores = stopping::scores(&self.search, result);
            // A result of another space can only have been put there by hand.
            if let Err(invalid) = self.search.space.check_configuration(&result.configuration) {
                warn!("the result of {job} is ignored: its configuration is invalid {invalid}");
                scores.clear();
            }
            // Models know the first training with the largest budget as any other: repetitions are for who is best in the end.
            if self.search.ladder.repetition(job.rung) > 0 {
                scores.clear();
            }
            if let Some(tried) = &mut self.tried {
                tried.add(&result.configuration);
            }
            let vector = self.search.space.encode(&result.configuration);
            if result.supersedes.is_none() {
                self.history.learn_at(job, &scores, vector);
            } else if self.history.supersede(job, &scores, vector) {
                // What was learnt of results one by one is learnt anew.
                self.method = method::of_search(&self.search);
            }
            if self.search.is_cost_aware {
                self.history.took(job, seconds(result));
            }
            self.pending.remove(&job);
            self.digests.add(result.id());
        }
    }

    /// A result that a request names is not there any more: it counts as named, and says nothing.
    pub fn miss(&mut self, result: ResultId) {
        self.history.learn(result.job, None, Vec::new());
        self.pending.remove(&result.job);
        self.digests.add(result);
    }

    /// A configuration was asked for, to start with the job `first`; it counts as under way from the next request on.
    pub fn ask(&mut self, first: JobId) {
        self.history.ask(first.configuration);
        self.begin(&[first]);
    }

    /// Jobs were offered. They are under way until they are learnt; those that are learnt already never are.
    pub fn begin(&mut self, jobs: &[JobId]) {
        let named = self.history.named();
        self.pending
            .extend(jobs.iter().filter(|job| !named.contains(job)));
    }

    /// How many configurations are under way when `before` is asked for.
    pub(crate) fn num_under_way(&self, before: ConfigurationId) -> usize {
        let pending: Vec<JobId> = self.pending.iter().copied().collect();
        self.history.under_way(before, &pending).len()
    }

    /// The values of a configuration that was asked for are these.
    pub fn know(&mut self, id: ConfigurationId, values: &Configuration) {
        if let Some(tried) = &mut self.tried {
            tried.add(values);
        }
        self.history.know(id, self.search.space.encode(values));
    }

    /// Takes note of what a request asks for, once or more often.
    pub fn see(&mut self, request: &Request) {
        if request.given.is_some() {
            self.given.insert(request.configuration);
        }
        if let Some(top) = request.top
            && let Some(ladder) = self.search.ladder.up_to(top)
            && ladder != self.search.ladder
        {
            self.search.ladder = ladder;
            self.method = method::of_search(&self.search);
        }
        self.begin(&request.pending);
    }

    /// Answers a request whose results have been learnt, with all configurations under way known.
    pub fn propose(&mut self, request: &Request) -> Proposal {
        let id = request.configuration;
        self.see(request);
        // Those of the search file are the first of those that nobody gave since.
        let before = self.given.range(..id).count();
        let number = usize::try_from(id.0).unwrap_or(usize::MAX) - before; // a usize holds a u32
        let (values, suggestion) = if let Some(gift) = &request.given {
            let suggestion = Suggestion {
                vector: Vec::new(),
                source: "given",
                reason: format!("by `scheduler propose`, number {}", gift.number),
                model: None,
            };
            (gift.values.clone(), suggestion)
        } else if let Some(values) = self.search.start_with.get(number) {
            let count = self.search.start_with.len();
            let suggestion = Suggestion {
                vector: Vec::new(),
                source: "given",
                reason: format!("number {} of {count} given in `start_with`", number + 1),
                model: None,
            };
            (values.clone(), suggestion)
        } else {
            self.suggest(request)
        };
        Proposal {
            configuration: id,
            values,
            origin: Origin {
                method: self.search.method.as_str().to_owned(),
                source: suggestion.source.to_owned(),
                reason: suggestion.reason,
                num_results: self.history.named().len() as u64,
                results_digest: self.digests.digest(),
                model: suggestion.model.map(finite),
            },
            checks: stopping::checks(&self.search, &self.history, request),
            program: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// How long the training of a result took: of a network in all its attempts, where they say so.
fn seconds(result: &JobResult) -> f64 {
    let Outcome::Evaluated { .. } = result.outcome else {
        return f64::NAN; // to its end it would have taken longer
    };
    let training = result.measures.get("training_s").copied();
    training.unwrap_or(result.elapsed_s)
}

impl Proposer {
    /// What the method suggests; where that has been tried, what it suggests with other seeds, or else anything untried.
    fn suggest(&mut self, request: &Request) -> (Configuration, Suggestion) {
        let pending: Vec<JobId> = self.pending.iter().copied().collect();
        let mut ask = Ask {
            configuration: request.configuration,
            rung: request.rung,
            pending: &pending,
            seed: self.search.seed.child("proposal", request.configuration),
        };
        let seed = ask.seed;
        // What was fitted for other weights is of no use.
        let mut scalarised = (!self.search.objectives.is_empty()).then(|| {
            let scalarised = Scalarised::new(&self.search, &self.history, seed);
            (scalarised, method::of_search(&self.search))
        });
        for repeat in 1..=MOST_REPEATS {
            let suggestion = self.suggestion(&mut scalarised, &ask);
            let values = self.search.space.decode(&suggestion.vector);
            if self.tried.as_ref().is_none_or(|tried| !tried.has(&values)) {
                return (values, suggestion);
            }
            ask.seed = seed.child("again", repeat);
        }
        let suggestion = self.suggestion(&mut scalarised, &ask);
        let values = self.search.space.decode(&suggestion.vector);
        let mut rng = seed.child("untried", 0).rng();
        let other = self
            .tried
            .as_ref()
            .filter(|tried| tried.has(&values))
            .and_then(|tried| tried.other(&self.search.space, &mut rng));
        match other {
            None => (values, suggestion),
            Some(values) => {
                let suggestion = Suggestion {
                    vector: Vec::new(),
                    source: "untried",
                    reason: "what the method suggested has been tried: an even draw from the rest"
                        .into(),
                    model: None,
                };
                (values, suggestion)
            }
        }
    }
}

impl Proposer {
    /// What the method suggests, by one objective or by what is made of several.
    fn suggestion(
        &mut self,
        scalarised: &mut Option<(Scalarised, Box<dyn Method>)>,
        ask: &Ask<'_>,
    ) -> Suggestion {
        let Some((scalarised, method)) = scalarised else {
            return self.method.propose(&self.history, ask);
        };
        let mut suggestion = method.propose(&scalarised.history, ask);
        if self.search.method.learns() {
            let weights = scalarised.in_words(&self.search);
            suggestion.reason = format!("{}, {weights}", suggestion.reason);
        }
        suggestion
    }
}

/// The results of an earlier search, as models see them.
fn earlier(search: &Search, evidence: &Evidence) -> EarlierSearch {
    let results = evidence.results.iter();
    // Those of another space or ladder can only have been put there by hand.
    let fits = |result: &&EarlierResult| {
        let typed = search.space.check_configuration(&result.configuration);
        result.rung <= search.ladder.top() && typed.as_ref() == Ok(&result.configuration)
    };
    let of = |result: &EarlierResult| Earlier {
        vector: search.space.encode(&result.configuration),
        rung: result.rung,
        score: result
            .loss
            .map_or(Score::Failed, |loss| Score::Loss(loss + 0.0)),
    };
    EarlierSearch {
        source: evidence.source.clone(),
        results: results.filter(fits).map(of).collect(),
    }
}

/// JSON has no infinite numbers; nothing depends on how far beyond all others an acquisition is.
fn finite(mut model: ModelUse) -> ModelUse {
    let value = model.log_acquisition;
    model.log_acquisition = if value.is_nan() {
        f64::MIN
    } else {
        value.clamp(f64::MIN, f64::MAX)
    };
    model
}

impl std::fmt::Debug for Proposer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proposer")
            .field("history", &self.history)
            .finish_non_exhaustive()
    }
}

/// SHA-256 over ids in ascending order, each with a newline behind it, kept up to date as ids come.
///
/// New ids are nearly always among the last, so the state after every [`Digests::STRIDE`] ids is kept and an insertion
/// repeats only what is behind it.
#[derive(Debug, Clone, Default)]
struct Digests {
    ids: Vec<ResultId>,
    /// States after 0, `STRIDE`, 2·`STRIDE`, … ids, as many as are valid.
    states: Vec<Sha256>,
}

impl Digests {
    const STRIDE: usize = 256;

    fn add(&mut self, id: ResultId) {
        if let Err(place) = self.ids.binary_search(&id) {
            self.ids.insert(place, id);
            self.states.truncate(place / Self::STRIDE + 1);
        }
    }

    fn digest(&mut self) -> String {
        if self.states.is_empty() {
            self.states.push(Sha256::new());
        }
        let mut start = (self.states.len() - 1) * Self::STRIDE;
        let mut state = self.states[self.states.len() - 1].clone();
        for chunk in self.ids[start..].chunks(Self::STRIDE) {
            for id in chunk {
                state.update(format!("{id}\n"));
            }
            start += chunk.len();
            if start.is_multiple_of(Self::STRIDE) {
                self.states.push(state.clone());
            }
        }
        state
            .finalize()
            .iter()
            .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_whole_list_whatever_the_order_of_arrival() {
        let mut digests = Digests::default();
        let mut ids: Vec<ResultId> = Vec::new();
        for step in 0..1500_u32 {
            // 7919 is prime: a permutation of 0..1500.
            let id = ResultId::from(ConfigurationId(step * 7919 % 1500).job(0));
            digests.add(id);
            digests.add(id);
            ids.push(id);
            if step % 97 == 0 || step == 1499 {
                ids.sort_unstable();
                let text: String = ids
                    .iter()
                    .fold(String::new(), |text, id| text + &format!("{id}\n"));
                assert_eq!(digests.digest(), shared::format::digest(text.as_bytes()));
            }
        }
    }
}
