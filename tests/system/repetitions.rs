//! Several seeds at the top: who comes there is trained again and again, and the mean decides.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use harness::TestSearch;
use serde_json::{Value, json};
use shared::{ConfigurationId, JobId, JobResult};

/// The loss depends on the seed as much as on the hyperparameter; the seed is reported.
const PROGRAM: &str = r#"
import json, sys
job = json.load(open(sys.argv[1]))
noise = (job["seed"] % 1009) / 1009
loss = job["configuration"]["x"] / 4 + noise
json.dump({"loss": loss, "measures": {"noise": noise}}, open(job["result"], "w"))
"#;

fn search(scheduling: &str, promotion: &str) -> Value {
    let limit = match scheduling {
        "synchronous" => json!({ "brackets": 3 }),
        _ => json!({ "configurations": 20 }),
    };
    json!({
        "name": "several seeds",
        "space": { "hyperparameters": [{ "name": "x", "type": "float", "lower": 0, "upper": 1 }] },
        "objective": { "command": ["python3", "-c", PROGRAM] },
        "budget": { "unit": "epochs", "min": 1, "max": 9, "eta": 3 },
        "limit": limit, "scheduling": scheduling, "promotion": promotion, "seed": 5,
        "repetitions": 3,
        "trainers": { "heartbeat_s": 0.2, "lease_s": 5.0 },
    })
}

#[test]
fn the_incumbent_is_the_mean_over_seeds_with_its_standard_error() -> Result<()> {
    for (scheduling, promotion) in [
        ("synchronous", "scratch"),
        ("synchronous", "continue"),
        ("asynchronous", "scratch"),
    ] {
        let mut test = TestSearch::new(&search(scheduling, promotion))?;
        test.run_to_end(2)?;
        let results = test.results()?;
        test.printed("sampler", "replay", &[])?;
        let best = check(&test, &results)?;
        shown(&test, best)?;
    }
    Ok(())
}

/// Of those that come to the top each is trained three times, with three seeds; the best mean.
fn check(
    test: &TestSearch,
    results: &BTreeMap<JobId, JobResult>,
) -> Result<(ConfigurationId, f64, f64)> {
    let top = test.directory()?.search().ladder.top();
    let at = |rung: u8| -> BTreeSet<ConfigurationId> {
        let jobs = results.keys().filter(|job| job.rung == rung);
        jobs.map(|job| job.configuration).collect()
    };
    ensure!(
        !at(top).is_empty() && at(top) == at(top + 1) && at(top) == at(top + 2),
        "{:?}",
        at(top + 1)
    );
    ensure!(at(top + 3).is_empty());
    let mut best: Option<(f64, ConfigurationId, f64)> = None;
    for id in at(top) {
        let of = |rung: u8| results.get(&id.job(rung)).context("it has a result");
        let (mut seeds, mut losses) = (BTreeSet::new(), Vec::new());
        for rung in top..=top + 2 {
            let result = of(rung)?;
            ensure!((result.budget.amount - 9.0).abs() < 1e-9, "{result:?}");
            let seed = result
                .notes
                .get("seed")
                .context("it stands in the record")?;
            ensure!(seeds.insert(seed.clone()), "{seed} twice");
            losses.push(result.outcome.loss().context("it is evaluated")?);
        }
        // Rungs below have the first seed.
        if let Some(below) = results.get(&id.job(top - 1)) {
            ensure!(below.notes.get("seed") == of(top)?.notes.get("seed"));
        }
        let mean = losses.iter().sum::<f64>() / 3.0;
        let squares: f64 = losses.iter().map(|x| (x - mean).powi(2)).sum();
        let found = (mean, id, (squares / 2.0 / 3.0).sqrt());
        best = Some(best.map_or(found, |best| if found.0 < best.0 { found } else { best }));
    }
    let (mean, id, error) = best.context("there is one")?;
    ensure!(test.directory()?.flags()?.is_finished);
    Ok((id, mean, error))
}

fn shown(test: &TestSearch, (id, mean, error): (ConfigurationId, f64, f64)) -> Result<()> {
    let is_so = |json: &Value| {
        let number = |name: &str| json[name].as_f64().unwrap_or(f64::NAN);
        json["configuration"] == id.to_string()
            && (number("loss") - mean).abs() < 1e-9
            && (number("standard_error") - error).abs() < 1e-9
            && json["seeds"] == 3
    };
    let json: Value =
        serde_json::from_str(&test.printed("analyzer", "incumbent", &["--format", "json"])?)?;
    ensure!(is_so(&json), "{json}; {id} has {mean} ± {error}");
    let status: Value =
        serde_json::from_str(&test.printed("scheduler", "status", &["--format", "json"])?)?;
    ensure!(
        is_so(&status["incumbent"]),
        "{status}; {id} has {mean} ± {error}"
    );
    for (program, verb) in [("analyzer", "incumbent"), ("scheduler", "status")] {
        let said = test.printed(program, verb, &[])?;
        ensure!(
            said.contains("(mean of 3 seeds)") && said.contains(" ± "),
            "{said}"
        );
    }
    let trajectory = test.printed("analyzer", "trajectory", &["--format", "csv"])?;
    ensure!(
        trajectory.trim_end().ends_with(&id.to_string()),
        "{trajectory}"
    );
    Ok(())
}

#[test]
fn repetitions_go_on_after_kills_like_any_other_job() -> Result<()> {
    let mut file = harness::counting_ones("random", 3);
    file["repetitions"] = json!(2);
    let mut test = TestSearch::new(&file)?;
    for program in ["scheduler", "sampler", "trainer"] {
        test.start(program, None)?;
    }
    let mut kills = 0;
    while kills < 6 {
        let index = test.start("trainer", Some(&format!("kill-at={}", 7 + 5 * kills)))?;
        let _status = test.running()[index].child.wait()?;
        test.forget(index);
        kills += 1;
    }
    test.wait_for_all()?;
    test.check_finished()?;
    Ok(())
}
