//! Constraints through all programs: a whole search, what people are shown of it, and what others make of it.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use harness::{TestSearch, counting_ones};
use serde_json::{Value, json};
use shared::{ConfigurationId, Outcome};

#[test]
fn what_breaks_a_constraint_is_shown_and_never_promoted_nor_the_incumbent() -> Result<()> {
    for (method, scheduling) in [("tandem", "synchronous"), ("bohb", "asynchronous")] {
        let mut search = counting_ones(method, 6);
        search["scheduling"] = json!(scheduling);
        if scheduling == "asynchronous" {
            search["limit"] = json!({ "configurations": 60 });
        }
        // The best are not allowed.
        search["constraints"] = json!([{ "measure": "true_regret", "min": 0.45 }]);
        let mut test = TestSearch::new(&search)?;
        test.run_to_end(2)?;
        let results = test.check_finished()?;
        let mut infeasible: BTreeSet<ConfigurationId> = BTreeSet::new();
        for (job, result) in &results {
            let regret = result
                .measures
                .get("true_regret")
                .context("it is measured")?;
            let is_infeasible = matches!(&result.outcome, Outcome::Infeasible { violations, .. } if violations.len() == 1);
            ensure!(is_infeasible == (*regret < 0.45), "{job}: {result:?}");
            ensure!(
                !infeasible.contains(&job.configuration),
                "{job} was promoted"
            );
            if is_infeasible {
                infeasible.insert(job.configuration);
            }
        }
        ensure!(infeasible.len() > 2, "{infeasible:?}");
        test.printed("sampler", "replay", &[])?;
        shown(&test, infeasible.len())?;
    }
    Ok(())
}

/// What each program shows.
fn shown(test: &TestSearch, number: usize) -> Result<()> {
    let status: Value =
        serde_json::from_str(&test.printed("scheduler", "status", &["--format", "json"])?)?;
    let rungs = status["rungs"].as_array().context("a list")?;
    let counted: u64 = rungs
        .iter()
        .filter_map(|rung| rung["infeasible"].as_u64())
        .sum();
    ensure!(
        counted == number as u64 && rungs[0]["failed"] == 0,
        "{status}"
    );
    let table = test.printed("scheduler", "status", &[])?;
    ensure!(table.contains(&format!(", {number} infeasible")), "{table}");
    let best: Value =
        serde_json::from_str(&test.printed("analyzer", "incumbent", &["--format", "json"])?)?;
    ensure!(
        best["measures"]["true_regret"].as_f64() >= Some(0.45),
        "{best}"
    );
    let best = best["configuration"].as_str().context("it has one")?;
    ensure!(status["incumbent"]["configuration"] == best, "{status}");
    let trajectory = test.printed("analyzer", "trajectory", &["--format", "csv"])?;
    ensure!(trajectory.trim_end().ends_with(best), "{trajectory}");
    let rows = exported(test, "csv")?;
    let line = rows
        .lines()
        .find(|line| line.contains("infeasible"))
        .context("a row")?;
    ensure!(
        line.contains("true_regret is ") && line.contains("at least 0.45 is allowed"),
        "{line}"
    );
    ensure!(rows.matches(",infeasible,").count() == number, "{rows}");
    let html = test.beside("report.html");
    test.printed("analyzer", "report", &["--out", &html.to_string_lossy()])?;
    let report = String::from_utf8(shared::fs::read(&html)?)?;
    ensure!(
        report.contains("infeasible") && report.contains("at least 0.45 is allowed"),
        "not in the report"
    );
    Ok(())
}

fn exported(test: &TestSearch, format: &str) -> Result<String> {
    let root = test.root();
    let output = test.output("analyzer", &["export", format, &root.to_string_lossy()])?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}
