//! Results of earlier searches that a new one learns from: found in many forms, copied once.
//!
//! What is copied has configurations of the new space and a rung of the new ladder; what has not is left out and counted.
//! Nothing of it is ever run again, and the new search's own results decide how far models believe it.

mod source;
mod table;

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Result, bail};
use shared::error::Invalid;
use shared::evidence::{EarlierResult, Evidence};
use shared::exit::{Code, Failure};
use shared::search::MethodName;
use shared::wording::count;
use shared::{Configuration, Directory, Ladder, Search, SearchFile, fs, layout};
use tracing::warn;

/// Results of one source that are copied at most: models look at a few hundred.
const MOST_RESULTS: usize = 20_000;
/// By how much two budgets may differ to be the same.
const SAME_BUDGET: f64 = 1e-6;

/// Arguments for searches that learn from others.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct LearnArgs {
    /// Learn from the results of an earlier search; may be repeated
    ///
    /// A search directory, one that `analyzer import` has made, a folder with HpBandSter's configs.json and results.json,
    /// or a CSV with a column for each hyperparameter, `loss` (empty: it failed), and `budget` (without: the largest). The
    /// results become part of the new directory; what is not in its space is left out.
    #[arg(long, value_name = "PATH")]
    learn_from: Vec<PathBuf>,
    /// Which budgets of the earlier search correspond to which of this one, such as 9=27,3=9; default: the same amounts
    #[arg(
        long,
        value_name = "THERE=HERE",
        value_delimiter = ',',
        requires = "learn_from"
    )]
    learn_budgets: Vec<Pair>,
}

/// A budget there and the one here that it stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Pair {
    there: f64,
    here: f64,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |text: &str| text.trim().parse::<f64>().ok().filter(|x| *x > 0.0); // no number: refused below
        let pair = text.split_once('=');
        let pair = pair.and_then(|(there, here)| Some((parse(there)?, parse(here)?)));
        match pair {
            Some((there, here)) => Ok(Self { there, here }),
            None => Err("expected two budgets, such as 9=27".to_owned()),
        }
    }
}

/// A result as its source has it.
#[derive(Debug, Clone, PartialEq)]
struct Found {
    values: Configuration,
    /// `None`: whatever is the largest.
    budget: Option<f64>,
    /// `None`: it failed.
    loss: Option<f64>,
}

impl LearnArgs {
    /// Copies the results to where the search is to be, and names them in its file. Where they have been copied already,
    /// those count: the source may have gone on since.
    pub(crate) fn apply(&self, file: &mut SearchFile, root: &Path) -> Result<()> {
        if self.learn_from.is_empty() {
            return Ok(());
        }
        // A search that is wrong is reported with its place later.
        let Ok(search) = Search::check(file) else {
            return Ok(());
        };
        if search.method != MethodName::Tandem {
            let message = format!(
                "--learn-from: expected method `tandem`, the one that learns from other searches, found `{}`",
                search.method.as_str()
            );
            bail!(Failure::new(Code::BadInput, message));
        }
        let sources: Vec<String> = self
            .learn_from
            .iter()
            .map(|path| Ok(std::path::absolute(path)?.display().to_string()))
            .collect::<Result<_>>()?;
        let path = root.join(layout::SEARCH);
        let there = fs::is_there(&path)?
            .then(|| fs::read_record::<SearchFile>(&path))
            .transpose()?;
        if let Some(there) = there {
            if there.learn_from.iter().map(|e| &e.source).eq(&sources) {
                file.learn_from = there.learn_from;
            }
            return Ok(());
        }
        let found: Vec<Evidence> = sources
            .into_iter()
            .zip(&self.learn_from)
            .map(|(source, path)| self.evidence(&search, source, path))
            .collect::<Result<_>>()?;
        for evidence in found {
            file.learn_from
                .push(Directory::keep_evidence(root, &evidence)?);
        }
        Ok(())
    }

    fn evidence(&self, search: &Search, source: String, path: &Path) -> Result<Evidence> {
        let found = source::read(path, &search.space, search.ladder.unit())?;
        let sorted = self.sort(search, &found);
        let left_out = sorted.left_out(&search.ladder);
        let (used, all) = (sorted.results.len(), found.len());
        let shown = path.display();
        if used == 0 {
            let why = if left_out.is_empty() {
                "it has none".to_owned()
            } else {
                left_out
            };
            let message = format!("no result of `{shown}` can be learnt from: {why}");
            bail!(Failure::new(Code::BadInput, message));
        }
        if !left_out.is_empty() {
            warn!("learning from {used} of {all} results of `{shown}`: {left_out}");
        }
        Ok(Evidence {
            source,
            results: sorted.results,
        })
    }

    /// Tells what can be learnt from apart from what cannot.
    fn sort(&self, search: &Search, found: &[Found]) -> Sorted {
        let mut sorted = Sorted::default();
        for found in found {
            let configuration = match search.space.check_configuration(&found.values) {
                Ok(configuration) => configuration,
                Err(invalid) => {
                    sorted.num_outside += 1;
                    sorted.first_outside.get_or_insert(invalid);
                    continue;
                }
            };
            let Some((budget, rung)) = self.rung(&search.ladder, found.budget) else {
                sorted.num_without_rung += 1;
                let budget = found.budget.unwrap_or_default();
                if !sorted.budgets.contains(&budget) {
                    sorted.budgets.push(budget);
                }
                continue;
            };
            if sorted.results.len() == MOST_RESULTS {
                sorted.num_too_many += 1;
                continue;
            }
            sorted.results.push(EarlierResult {
                configuration,
                budget,
                rung,
                loss: found.loss.filter(|loss| loss.is_finite()),
            });
        }
        sorted
    }

    /// The budget there, and the rung here that it stands for.
    fn rung(&self, ladder: &Ladder, budget: Option<f64>) -> Option<(f64, u8)> {
        let same = |a: f64, b: f64| (a - b).abs() <= SAME_BUDGET * a.max(b);
        let Some(there) = budget else {
            return Some((ladder.budget(ladder.top()).amount, ladder.top()));
        };
        let pair = self.learn_budgets.iter().find(|p| same(p.there, there));
        let here = match pair {
            Some(pair) => pair.here,
            None if self.learn_budgets.is_empty() => there,
            None => return None,
        };
        let mut rungs = 0..ladder.num_rungs();
        let rung = rungs.find(|rung| same(ladder.budget(*rung).amount, here))?;
        Some((there, rung))
    }
}

/// What can be learnt from, and how much cannot.
#[derive(Debug, Default)]
struct Sorted {
    results: Vec<EarlierResult>,
    num_outside: usize,
    first_outside: Option<Invalid>,
    num_without_rung: usize,
    /// Budgets that are no rung's.
    budgets: Vec<f64>,
    num_too_many: usize,
}

impl Sorted {
    /// What was left out, in words; empty where nothing was.
    fn left_out(&self, ladder: &Ladder) -> String {
        const MOST_SHOWN: usize = 5;
        let mut parts = Vec::new();
        if let Some(first) = &self.first_outside {
            parts.push(format!(
                "{} not in the space of this search (the first {first})",
                are(self.num_outside)
            ));
        }
        if self.num_without_rung > 0 {
            let shown = |budgets: &mut dyn Iterator<Item = f64>| -> String {
                let shown = budgets.take(MOST_SHOWN).map(shared::budget::short);
                shown.collect::<Vec<String>>().join(", ")
            };
            let there = shown(&mut self.budgets.iter().copied());
            let here = shown(&mut (0..ladder.num_rungs()).map(|rung| ladder.budget(rung).amount));
            parts.push(format!(
                "{} at budgets that are none of this search ({there}; here: {here}): say with --learn-budgets THERE=HERE \
                 what they stand for",
                are(self.num_without_rung)
            ));
        }
        if self.num_too_many > 0 {
            parts.push(format!(
                "{} more than {MOST_RESULTS}",
                are(self.num_too_many)
            ));
        }
        parts.join("; ")
    }
}

fn are(number: usize) -> String {
    let verb = if number == 1 { "is" } else { "are" };
    format!("{} {verb}", count(number, "result"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_search::search;

    fn found(json: &str, budget: Option<f64>, loss: f64) -> Found {
        Found {
            values: serde_json::from_str(json).unwrap(),
            budget,
            loss: Some(loss),
        }
    }

    fn args(pairs: &[&str]) -> LearnArgs {
        LearnArgs {
            learn_from: Vec::new(),
            learn_budgets: pairs.iter().map(|pair| pair.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn budgets_are_the_same_amounts_or_what_is_said() {
        let ladder = search(1, 9, 3).ladder;
        let rung = |pairs: &[&str], budget| args(pairs).rung(&ladder, budget);
        assert_eq!(rung(&[], Some(3.0)), Some((3.0, 1)));
        assert_eq!(rung(&[], Some(2.0)), None);
        assert_eq!(rung(&[], None), Some((9.0, 2)));
        assert_eq!(rung(&["27=9", "9=3"], Some(9.0)), Some((9.0, 1)));
        assert_eq!(rung(&["27=9", "9=3"], Some(3.0)), None);
        assert_eq!(rung(&["27=5"], Some(27.0)), None);
        for wrong in ["27", "a=3", "0=3", "3=-1", "="] {
            assert!(wrong.parse::<Pair>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_learnt_from_is_counted_by_reason() {
        let search = search(1, 9, 3);
        let all = [
            found(r#"{"x":0.5}"#, Some(9.0), 1.0),
            found(r#"{"x":7}"#, Some(9.0), 1.0),
            found(r#"{"x":0.5}"#, Some(4.0), 1.0),
            found(r#"{"x":0.25}"#, Some(1.0), f64::INFINITY),
        ];
        let sorted = args(&[]).sort(&search, &all);
        let rungs: Vec<_> = sorted.results.iter().map(|r| (r.rung, r.loss)).collect();
        assert_eq!(rungs, [(2, Some(1.0)), (0, None)]);
        let said = sorted.left_out(&search.ladder);
        assert!(said.contains("1 result is not in the space"), "{said}");
        assert!(said.contains("(4; here: 1, 3, 9)"), "{said}");
    }
}
