//! Several objectives: the configurations that none dominates, and how much of the space of objectives they do.

use serde_json::{Value as Json, json};
use shared::pareto;

use crate::history::{Evaluation, History};
use crate::table::{Cell, Table};
use crate::trajectory::At;
use crate::wording::{count, put, significant};

/// The name of the loss among objectives.
const LOSS: &str = "loss";

/// What nothing dominates, of the results that count.
#[derive(Debug, Clone)]
pub(crate) struct Front {
    /// Names of what is minimised.
    pub(crate) objectives: Vec<String>,
    /// Index and values of each result that counts, in the order of ids.
    pub(crate) all: Vec<(usize, Vec<f64>)>,
    /// Places in `all` of those that nothing dominates, by the first objective.
    pub(crate) members: Vec<usize>,
    /// Where the volume ends: the worst value of each objective, unless another one is given.
    pub(crate) reference: Vec<f64>,
    /// The volume that the members dominate, up to there.
    pub(crate) hypervolume: f64,
}

impl Front {
    /// The front by these objectives; a `reference` takes the place of the worst values that occur.
    pub(crate) fn new(
        history: &History,
        objectives: &[String],
        at: At,
        reference: Option<Vec<f64>>,
    ) -> Self {
        let budget = match at {
            At::Top => history.budgets.len().checked_sub(1),
            At::Reached => history.reached(),
            At::Any => None,
        };
        let counts = |result: &Evaluation| at == At::Any || Some(result.budget) == budget;
        let all: Vec<(usize, Vec<f64>)> = history
            .results
            .iter()
            .enumerate()
            .filter(|(_, result)| counts(result))
            .filter_map(|(index, result)| Some((index, values(history, result, objectives)?)))
            .collect();
        let points: Vec<&[f64]> = all.iter().map(|(_, values)| &values[..]).collect();
        let front_of = pareto::fronts(&points);
        let mut members: Vec<usize> = (0..all.len())
            .filter(|place| front_of[*place] == 0)
            .collect();
        members.sort_by(|a, b| points[*a][0].total_cmp(&points[*b][0]).then(a.cmp(b)));
        let worst = |objective: usize| {
            let values = points.iter().map(|point| point[objective]);
            values.fold(f64::NEG_INFINITY, f64::max)
        };
        let reference = reference.unwrap_or_else(|| (0..objectives.len()).map(worst).collect());
        let of_members: Vec<&[f64]> = members.iter().map(|place| points[*place]).collect();
        Self {
            hypervolume: pareto::hypervolume(&of_members, &reference),
            objectives: objectives.to_vec(),
            members,
            reference,
            all,
        }
    }

    /// Each member's result, and its values.
    pub(crate) fn results<'a>(
        &'a self,
        history: &'a History,
    ) -> impl Iterator<Item = (&'a Evaluation, &'a [f64])> {
        self.members.iter().map(|place| {
            let (index, values) = &self.all[*place];
            (&history.results[*index], &values[..])
        })
    }

    /// One row for each member. Columns: `configuration`, `budget`, the objectives; with `values` the hyperparameters, too.
    pub(crate) fn table(&self, history: &History, with_values: bool) -> Table {
        let mut columns = vec!["configuration", "budget"];
        columns.extend(self.objectives.iter().map(String::as_str));
        let mut names: Vec<&str> = Vec::new();
        if with_values {
            for (result, _) in self.results(history) {
                let values = history.configurations[result.configuration].values.iter();
                names.extend(values.map(|(name, _)| name));
            }
            names.sort_unstable();
            names.dedup();
        }
        let titles: Vec<String> = names.iter().map(|name| format!("values.{name}")).collect();
        columns.extend(titles.iter().map(String::as_str));
        let mut table = Table::new(&columns);
        for (result, values) in self.results(history) {
            let tried = &history.configurations[result.configuration];
            let mut row = vec![
                Cell::text(history.configuration_name(result.configuration)),
                Cell::Number(history.budgets[result.budget]),
            ];
            row.extend(values.iter().map(|value| Cell::Number(*value)));
            row.extend(names.iter().map(|name| match tried.values.get(name) {
                Some(value) => Cell::text(value.to_string()),
                None => Cell::Missing,
            }));
            table.push(row);
        }
        table
    }

    /// The front for programs.
    pub(crate) fn json(&self, history: &History) -> Json {
        let named = |values: &[f64]| -> Json {
            let names = self.objectives.iter().cloned();
            let pairs = names.zip(values.iter().map(|x| json!(x)));
            Json::Object(pairs.collect())
        };
        let member = |(result, values): (&Evaluation, &[f64])| {
            let tried = &history.configurations[result.configuration];
            json!({
                "configuration": tried.id,
                "job": result.job,
                "budget": history.budgets[result.budget],
                "objectives": named(values),
                "values": tried.values,
            })
        };
        json!({
            "objectives": self.objectives,
            "unit": history.unit,
            "reference": named(&self.reference),
            "hypervolume": self.hypervolume,
            "results": self.all.len(),
            "front": self.results(history).map(member).collect::<Vec<Json>>(),
        })
    }

    /// The front for people.
    pub(crate) fn text(&self, history: &History) -> String {
        if self.members.is_empty() {
            let names = self.objectives.join("`, `");
            return format!("No front yet: no result that counts has `{names}`.\n");
        }
        let mut text = self.table(history, false).aligned();
        let names = self.objectives.iter().zip(&self.reference);
        let corner: Vec<String> = names
            .map(|(name, x)| format!("{name} {}", significant(*x, 5)))
            .collect();
        put(
            &mut text,
            format_args!(
                "\n{} of {} that nothing dominates; hypervolume {} up to {}\n",
                self.members.len(),
                count(self.all.len(), "result"),
                significant(self.hypervolume, 5),
                corner.join(", ")
            ),
        );
        text
    }
}

/// The values of objectives; `None` where there is no loss, or one was not measured.
fn values(history: &History, result: &Evaluation, objectives: &[String]) -> Option<Vec<f64>> {
    let loss = result.loss()?;
    let of = |name: &String| {
        if name == LOSS {
            return Some(loss);
        }
        let mut measures = result.measures.iter();
        measures.find_map(|(index, x)| (history.measures[*index] == *name).then_some(*x))
    };
    objectives.iter().map(of).collect()
}
