//! Open and claimed jobs.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use shared::AttemptId;
use shared::directory::JobsView;
use shared::error::Result;

use super::Scanner;
use crate::state::State;

impl Scanner {
    pub(super) fn see_jobs(
        &mut self,
        state: &mut State,
        view: &JobsView,
        now: Instant,
    ) -> Result<()> {
        state.spent_claims.clear();
        state.spent_open.clear();
        state.open.clear();
        let newest = view.jobs().last().map(|job| job.configuration);
        if let Some(newest) = newest.filter(|id| id.0 >= state.num_requested) {
            // Another scheduler is further; or it is no job of this search.
            self.load_requests_up_to(state, newest)?;
        }
        let claimed: BTreeSet<AttemptId> = view.claimed.iter().map(|c| c.attempt).collect();
        let mut twice = BTreeSet::new();
        let unexplained_before = std::mem::take(&mut self.unexplained);
        let since = |attempt: &AttemptId| unexplained_before.get(attempt).copied().unwrap_or(now);
        for attempt in &view.open {
            if !state.expects(attempt.job) {
                self.see_unexpected(state, *attempt, since(attempt), now)?;
            } else if state.is_spent(*attempt) {
                if self.is_surely_spent(state, *attempt, since(attempt), now) {
                    state.spent_open.insert(*attempt);
                }
            } else {
                state.see_attempt(*attempt);
                state.open.insert(*attempt);
                if claimed.contains(attempt) {
                    twice.insert(*attempt);
                }
            }
        }
        for claim in &view.claimed {
            let attempt = claim.attempt;
            if state.expects(attempt.job) {
                if !state.is_spent(attempt) {
                    state.see_attempt(attempt);
                } else if self.is_surely_spent(state, attempt, since(&attempt), now) {
                    state.spent_claims.insert(claim.clone());
                }
            }
        }
        state
            .left_to
            .retain(|attempt, _| view.open.contains(attempt));
        // Open and claimed in two looks: two schedulers offered it, and only one file was taken. In one look it may
        // have been claimed between the two listings.
        let doubled = twice.intersection(&self.twice_before).copied();
        state.spent_open.extend(doubled);
        self.twice_before = twice;
        Ok(())
    }

    /// Whether nobody can need a spent attempt any more: no retry has shown itself that explains it.
    fn is_surely_spent(
        &mut self,
        state: &State,
        attempt: AttemptId,
        since: Instant,
        now: Instant,
    ) -> bool {
        let lasted = now.saturating_duration_since(since);
        let is_unexplained = state.may_be_a_retry(attempt) && lasted < self.patience();
        if is_unexplained {
            self.unexplained.insert(attempt, since);
        }
        !is_unexplained
    }

    /// An open job of no job that is known: not this search's, or another scheduler's, whose request is in no listing that
    /// this host has been shown so far.
    fn see_unexpected(
        &mut self,
        state: &State,
        attempt: AttemptId,
        since: Instant,
        now: Instant,
    ) -> Result<()> {
        let lasted = now.saturating_duration_since(since);
        // On a network filesystem what extends the search may show itself later, too.
        let may_be_explained = state.may_expect(attempt.job) || self.directory.is_network();
        if may_be_explained && lasted < self.patience() {
            self.unexplained.insert(attempt, since);
            return Ok(());
        }
        let path = self.directory.layout().open(attempt);
        self.directory
            .quarantine(&path, &"it is no job of this search")
    }

    /// How long a file that was renamed may be seen nowhere.
    pub(super) fn patience(&self) -> Duration {
        // Attributes of a network filesystem are cached for up to 60 s.
        Duration::from_secs(if self.directory.is_network() { 65 } else { 2 })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use shared::record::Request;
    use shared::{ConfigurationId, Directory, fs};

    use super::*;
    use crate::test_search::search_file;

    #[test]
    fn an_open_job_whose_request_this_host_cannot_see_yet_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = search_file(1, 9, 3);
        let directory = Directory::create(folder.path(), &file, Path::new("search.json")).unwrap();
        let (mut scanner, mut state) = Scanner::load(directory.clone()).unwrap();
        let attempt = |id| ConfigurationId(id).job(0).attempt(1);
        let open = |id| {
            let path = directory.layout().open(attempt(id));
            fs::publish_new(&path, b"{}").unwrap();
        };
        let start = Instant::now();
        open(0);
        scanner.scan(&mut state, start).unwrap();
        assert_eq!(directory.open_jobs().unwrap(), [attempt(0)]);
        // The request shows itself.
        let request = Request {
            configuration: ConfigurationId(0),
            bracket: 0,
            rung: 0,
            finished: Vec::new(),
            pending: Vec::new(),
            superseding: Vec::new(),
            given: None,
            top: None,
        };
        directory.request(&request).unwrap();
        let later = start + Duration::from_hours(1);
        scanner.scan(&mut state, later).unwrap();
        assert!(state.pending.contains_key(&attempt(0).job));
        // A configuration that there will never be, and one whose request does not come.
        open(state.table().total());
        open(1);
        scanner.scan(&mut state, later).unwrap();
        assert_eq!(directory.open_jobs().unwrap(), [attempt(0), attempt(1)]);
        let much_later = later + Duration::from_hours(1);
        scanner.scan(&mut state, much_later).unwrap();
        assert_eq!(directory.open_jobs().unwrap(), [attempt(0)]);
    }
}
