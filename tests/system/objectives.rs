//! Several objectives through all programs: promotions by fronts, proposals that replay, and the front as people see it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use harness::TestSearch;
use serde_json::{Value, json};
use shared::pareto;
use shared::{ConfigurationId, JobResult};

/// Two parabolas, of which the best of one is not the best of the other.
const PROGRAM: &str = r#"
import json, sys
job = json.load(open(sys.argv[1]))
x, y = (job["configuration"][name] for name in "xy")
loss = (x - 0.2) ** 2 + y ** 2 + 0.1 / job["budget"]["amount"]
result = {"loss": loss, "measures": {"size": 1000 * ((x - 0.8) ** 2 + y ** 2)}}
json.dump(result, open(job["result"], "w"))
"#;

fn search(method: &str, scheduling: &str) -> Value {
    let limit = match scheduling {
        "synchronous" => json!({ "brackets": 9 }),
        _ => json!({ "configurations": 40 }),
    };
    json!({
        "name": "two objectives",
        "space": { "hyperparameters": [
            { "name": "x", "type": "float", "lower": 0, "upper": 1 },
            { "name": "y", "type": "float", "lower": 0, "upper": 1 },
        ] },
        "objective": { "command": ["python3", "-c", PROGRAM] },
        "objectives": ["loss", "size"],
        "budget": { "unit": "epochs", "min": 1, "max": 9, "eta": 3 },
        "limit": limit, "method": method, "scheduling": scheduling, "seed": 3,
        "trainers": { "heartbeat_s": 0.2, "lease_s": 5.0 },
    })
}

fn values(result: &JobResult) -> Option<Vec<f64>> {
    Some(vec![result.outcome.loss()?, *result.measures.get("size")?])
}

#[test]
fn fronts_are_promoted_and_searched_for_and_shown() -> Result<()> {
    for (method, scheduling) in [("tandem", "synchronous"), ("bohb", "asynchronous")] {
        let mut test = TestSearch::new(&search(method, scheduling))?;
        test.run_to_end(1)?;
        let results = test.results()?;
        if scheduling == "synchronous" {
            check_promotions(&results)?;
        }
        test.printed("sampler", "replay", &[])?;
        shown(&test, &results)?;
        let explained = test.printed("sampler", "explain", &["c000020"])?;
        ensure!(
            explained.contains("with the weights loss ") || explained.contains("prior"),
            "{explained}"
        );
    }
    Ok(())
}

/// Of a bracket's rung, nothing that was left behind dominates anything that was promoted.
fn check_promotions(results: &BTreeMap<shared::JobId, JobResult>) -> Result<()> {
    let mut num_promoted = 0;
    let is_promoted = |id: ConfigurationId, rung: u8| results.contains_key(&id.job(rung + 1));
    for (job, result) in results {
        let Some(promoted) = values(result).filter(|_| is_promoted(job.configuration, job.rung))
        else {
            continue;
        };
        num_promoted += 1;
        for (other, beside) in results {
            let is_rival = other.rung == job.rung && beside.bracket == result.bracket;
            let values = values(beside).context("all are evaluated")?;
            let is_left = is_rival && !is_promoted(other.configuration, other.rung);
            ensure!(
                !is_left || !pareto::dominates(&values, &promoted),
                "{other} and not {job}"
            );
        }
    }
    ensure!(num_promoted > 5, "{num_promoted}");
    Ok(())
}

fn shown(test: &TestSearch, results: &BTreeMap<shared::JobId, JobResult>) -> Result<()> {
    let json: Value = serde_json::from_str(&test.printed(
        "analyzer",
        "pareto",
        &["--format", "json", "--reference", "1.5,2000"],
    )?)?;
    let front = json["front"].as_array().context("a list")?;
    let top_rung = test.directory()?.search().ladder.top();
    let top: Vec<Vec<f64>> = results
        .iter()
        .filter(|(job, _)| job.rung == top_rung)
        .filter_map(|(_, r)| values(r))
        .collect();
    let number = top
        .iter()
        .filter(|a| !top.iter().any(|b| pareto::dominates(b, a)))
        .count();
    ensure!(
        front.len() == number && number > 2,
        "{number} of {}: {json}",
        top.len()
    );
    // All that can be had: from (0.2, 0) to (0.8, 0) in x, with the losses' last tenth ninth.
    let volume = json["hypervolume"].as_f64().context("a number")?;
    ensure!(volume > 2300.0 && volume < 3000.0, "{volume}");
    let status: Value =
        serde_json::from_str(&test.printed("scheduler", "status", &["--format", "json"])?)?;
    let of_status = status["front"].as_array().context("a list")?;
    ensure!(of_status.len() == number, "{status}");
    ensure!(
        of_status[0]["configuration"] == front[0]["configuration"],
        "{status}"
    );
    ensure!(
        of_status[0]["objectives"]["size"] == front[0]["objectives"]["size"],
        "{status}"
    );
    let table = test.printed("analyzer", "pareto", &[])?;
    ensure!(
        table.contains(&format!(
            "{number} of {} results that nothing dominates",
            top.len()
        )),
        "{table}"
    );
    let csv = test.printed("analyzer", "pareto", &["--format", "csv"])?;
    ensure!(
        csv.starts_with("configuration,budget,loss,size,values.x,values.y\n"),
        "{csv}"
    );
    ensure!(csv.lines().count() == number + 1, "{csv}");
    drawn(test)
}

/// What is not a table.
fn drawn(test: &TestSearch) -> Result<()> {
    let html = test.beside("report.html");
    test.printed("analyzer", "report", &["--out", &html.to_string_lossy()])?;
    let report = String::from_utf8(shared::fs::read(&html)?)?;
    ensure!(
        report.contains("Front of loss and size"),
        "not in the report"
    );
    let best = test.printed("analyzer", "incumbent", &[])?;
    ensure!(
        best.contains("`analyzer pareto` shows the whole front"),
        "{best}"
    );
    Ok(())
}
