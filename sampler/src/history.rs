//! What a proposal may know: configurations, results and jobs under way, ordered for models.
//!
//! Built up request by request, each adding only what is new. Its order depends on which results are known, never on
//! when they arrived: equal losses are ordered by job id, so that replays and second samplers agree.

use std::collections::{BTreeMap, BTreeSet};

use shared::{ConfigurationId, JobId, Ranked, Score, SearchSpace};

use crate::user_prior::UserPrior;

/// A result of an earlier search, as models see it.
#[derive(Debug, Clone)]
pub struct Earlier {
    /// The configuration, as a vector of the space.
    pub vector: Vec<f64>,
    /// The rung whose results it is compared with.
    pub rung: u8,
    /// How good it was there.
    pub score: Score,
}

/// What is known of an earlier search.
#[derive(Debug, Clone)]
pub struct EarlierSearch {
    /// Where it comes from, for people.
    pub source: String,
    /// Its results.
    pub results: Vec<Earlier>,
}

/// All that is known when a configuration is proposed.
#[derive(Debug, Clone)]
pub struct History {
    space: SearchSpace,
    user_prior: Option<UserPrior>,
    /// Their results have no ids here and never count as results of this search.
    earlier: Vec<EarlierSearch>,
    /// The encoded configuration of every id whose values are known, by id.
    vectors: BTreeMap<ConfigurationId, Vec<f64>>,
    /// Every result named so far, lost ones too.
    named: BTreeSet<JobId>,
    /// The results that models see, best first, by rung.
    rungs: Vec<Vec<Ranked>>,
    /// The results that models see, in the order in which requests named them.
    arrivals: Vec<Ranked>,
    /// Asked for, and no result of it is named yet.
    outstanding: BTreeSet<ConfigurationId>,
    /// How long jobs took, in seconds.
    seconds: BTreeMap<JobId, f64>,
    /// The rungs of which a result told something, where these are others than its own.
    told: BTreeMap<JobId, Vec<u8>>,
}

impl History {
    /// Nothing is known yet.
    pub fn new(space: &SearchSpace) -> Self {
        Self {
            space: space.clone(),
            user_prior: UserPrior::of_space(space),
            earlier: Vec::new(),
            vectors: BTreeMap::new(),
            named: BTreeSet::new(),
            rungs: Vec::new(),
            arrivals: Vec::new(),
            outstanding: BTreeSet::new(),
            seconds: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// The same with other scores, as far as models see them.
    #[must_use]
    pub(crate) fn rescored(&self, score: impl Fn(Score) -> Score) -> Self {
        let rescored = |ranked: &Ranked| Ranked {
            score: score(ranked.score),
            job: ranked.job,
        };
        let rung = |rung: &Vec<Ranked>| {
            let mut rung: Vec<Ranked> = rung.iter().map(rescored).collect();
            rung.sort_unstable();
            rung
        };
        Self {
            rungs: self.rungs.iter().map(rung).collect(),
            arrivals: self.arrivals.iter().map(rescored).collect(),
            ..self.clone()
        }
    }

    /// The search space.
    pub fn space(&self) -> &SearchSpace {
        &self.space
    }

    /// An earlier search became known, before any result of this one.
    pub fn learn_from(&mut self, earlier: EarlierSearch) {
        self.earlier.push(earlier);
    }

    /// The earlier searches that are known.
    pub fn earlier(&self) -> &[EarlierSearch] {
        &self.earlier
    }

    /// Whether a configuration has been asked for, as far as the values of those are known.
    pub(crate) fn has_asked_for(&self, vector: &[f64]) -> bool {
        let same = |a: &f64, b: &f64| a.total_cmp(b).is_eq() || (a.is_nan() && b.is_nan());
        let mut asked = self.vectors.values();
        asked.any(|other| other.iter().zip(vector).all(|(a, b)| same(a, b)))
    }

    /// What the user believes about good values, if anything.
    pub fn user_prior(&self) -> Option<&UserPrior> {
        self.user_prior.as_ref()
    }

    /// A configuration was asked for; until a result of it is named it is under way.
    pub fn ask(&mut self, id: ConfigurationId) {
        self.outstanding.insert(id);
    }

    /// The values of a configuration became known, as a vector of the space.
    pub fn know(&mut self, id: ConfigurationId, vector: Vec<f64>) {
        self.vectors.insert(id, vector);
    }

    /// A result is named. A second naming of the same one changes nothing.
    pub fn learn(&mut self, job: JobId, score: Option<Score>, vector: Vec<f64>) {
        let own = score.map(|score| (job.rung, score));
        self.learn_at(job, own.as_slice(), vector);
    }

    /// A result is named that says how good its configuration is at some rungs, none of which another result tells of.
    pub(crate) fn learn_at(&mut self, job: JobId, scores: &[(u8, Score)], vector: Vec<f64>) {
        if !self.named.insert(job) {
            return;
        }
        self.outstanding.remove(&job.configuration);
        if scores.is_empty() {
            return;
        }
        self.vectors.insert(job.configuration, vector);
        let rungs: Vec<u8> = scores.iter().map(|(rung, _)| *rung).collect();
        if rungs != [job.rung] {
            self.told.insert(job, rungs);
        }
        for (rung, score) in scores {
            let job = job.configuration.job(*rung);
            let rung = usize::from(*rung);
            if self.rungs.len() <= rung {
                self.rungs.resize(rung + 1, Vec::new());
            }
            let ranked = Ranked { score: *score, job };
            let place = self.rungs[rung].partition_point(|other| *other < ranked);
            self.rungs[rung].insert(place, ranked);
            self.arrivals.push(ranked);
        }
    }

    /// A result takes the place of what was known of its job; whether models saw that before.
    pub(crate) fn supersede(
        &mut self,
        job: JobId,
        scores: &[(u8, Score)],
        vector: Vec<f64>,
    ) -> bool {
        self.named.remove(&job);
        let before = self.arrivals.len();
        let rungs = self.told.remove(&job).unwrap_or_else(|| vec![job.rung]);
        for rung in rungs {
            let gone = job.configuration.job(rung);
            self.arrivals.retain(|ranked| ranked.job != gone);
            if let Some(rung) = self.rungs.get_mut(usize::from(rung)) {
                rung.retain(|ranked| ranked.job != gone);
            }
        }
        let was_seen = self.arrivals.len() < before;
        self.learn_at(job, scores, vector);
        was_seen
    }

    /// A job took so long; what is not a time is left out.
    pub(crate) fn took(&mut self, job: JobId, seconds: f64) {
        if seconds.is_finite() && seconds > 0.0 {
            self.seconds.insert(job, seconds);
        }
    }

    /// How long a job took, in seconds, where that is known.
    pub(crate) fn seconds(&self, job: JobId) -> Option<f64> {
        self.seconds.get(&job).copied()
    }

    /// Ids of all results named so far, ascending.
    pub fn named(&self) -> &BTreeSet<JobId> {
        &self.named
    }

    /// The results that models see, in the order in which requests named them: the one thing here that depends on it,
    /// for models that are fitted now and then.
    pub(crate) fn arrivals(&self) -> &[Ranked] {
        &self.arrivals
    }

    /// The newest results of each rung, `most` of them, best first, with their vectors.
    pub fn newest(&self, most: usize) -> Vec<Vec<(Ranked, &[f64])>> {
        let of_rung = |rung: u8| {
            let arrivals = self.arrivals.iter().rev();
            let of_rung = arrivals.filter(|ranked| ranked.job.rung == rung);
            let mut newest: Vec<_> = of_rung
                .take(most)
                .map(|ranked| (*ranked, self.vector(ranked.job.configuration)))
                .collect();
            newest.sort_unstable_by_key(|(ranked, _)| *ranked);
            newest
        };
        (0..self.num_rungs()).map(of_rung).collect()
    }

    /// The results of a rung, best first.
    pub fn rung(&self, rung: u8) -> &[Ranked] {
        self.rungs.get(usize::from(rung)).map_or(&[], Vec::as_slice)
    }

    /// How many rungs there are, up to the highest with a result.
    pub fn num_rungs(&self) -> u8 {
        u8::try_from(self.rungs.len()).unwrap_or(u8::MAX) // a rung is a u8
    }

    /// The vector of a configuration; inactive dimensions are NaN.
    ///
    /// # Panics
    /// If it is not known: those of results always are, those under way after [`know`](Self::know).
    pub fn vector(&self, id: ConfigurationId) -> &[f64] {
        self.vectors
            .get(&id)
            .unwrap_or_else(|| panic!("the values of {id} are not known"))
    }

    /// Configurations under way below `before` whose values are not known yet.
    pub fn unknown(&self, before: ConfigurationId) -> Vec<ConfigurationId> {
        let under_way = self.outstanding.range(..before);
        under_way
            .filter(|id| !self.vectors.contains_key(id))
            .copied()
            .collect()
    }

    /// Configurations under way when `before` is asked for, ascending: those without any result, and those of the
    /// `pending` jobs.
    pub fn under_way(&self, before: ConfigurationId, pending: &[JobId]) -> Vec<ConfigurationId> {
        let mut ids: BTreeSet<ConfigurationId> =
            self.outstanding.range(..before).copied().collect();
        let jobs = pending.iter().filter(|job| !self.named.contains(job));
        // A job of a configuration that nobody asked for here says nothing that could be used.
        ids.extend(jobs.map(|job| job.configuration).filter(|id| *id < before));
        ids.retain(|id| self.vectors.contains_key(id));
        ids.into_iter().collect()
    }

    /// Configurations asked for without any result so far, ascending.
    pub fn outstanding(&self) -> &BTreeSet<ConfigurationId> {
        &self.outstanding
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space() -> SearchSpace {
        let json = r#"{"hyperparameters":[{"name":"x","type":"float","lower":0,"upper":1}]}"#;
        SearchSpace::new(&serde_json::from_str(json).unwrap()).unwrap()
    }

    fn id(number: u32) -> ConfigurationId {
        ConfigurationId(number)
    }

    #[test]
    fn failures_come_after_every_loss_and_lost_jobs_not_at_all() {
        let mut history = History::new(&space());
        let scores = [
            Some(Score::Failed),
            Some(Score::Loss(f64::MAX)),
            None,
            Some(Score::Loss(-1.0)),
            Some(Score::Loss(f64::MAX)),
        ];
        for (number, score) in (0..).zip(scores) {
            history.ask(id(number));
            history.learn(id(number).job(1), score, vec![0.5]);
        }
        let order: Vec<u32> = history
            .rung(1)
            .iter()
            .map(|r| r.job.configuration.0)
            .collect();
        assert_eq!(order, [3, 1, 4, 0]);
        assert_eq!(history.named().len(), 5);
        assert!(history.rung(0).is_empty() && history.rung(7).is_empty());
        assert!(history.outstanding().is_empty());
    }

    #[test]
    fn what_is_under_way_is_known_from_requests_and_pending_jobs() {
        let mut history = History::new(&space());
        for number in 0..4 {
            history.ask(id(number));
        }
        for number in [0, 1, 3] {
            history.know(id(number), vec![0.1]);
        }
        history.learn(id(0).job(0), Some(Score::Loss(1.0)), vec![0.1]);
        history.learn(id(1).job(0), Some(Score::Loss(1.0)), vec![0.1]);
        assert_eq!(history.unknown(id(3)), [id(2)]);
        history.know(id(2), vec![0.2]);
        // c000000 was promoted; c000001's job is named already.
        let pending = [id(0).job(1), id(1).job(0), id(2).job(0), id(9).job(0)];
        assert_eq!(history.under_way(id(3), &pending), [id(0), id(2)]);
    }
}
