//! A larger largest budget: rungs on top of a search that runs or has finished.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use harness::{TestSearch, counting_ones, files, losses};
use serde_json::{Value, json};
use shared::{ConfigurationId, JobId, JobResult, layout};

/// Two schedulers among them.
const PROGRAMS: [&str; 5] = ["scheduler", "scheduler", "sampler", "trainer", "trainer"];
/// The top of the search file's ladder.
const TOP: u8 = 3;

fn go(test: &mut TestSearch) -> Result<()> {
    for program in PROGRAMS {
        test.start(program, None)?;
    }
    test.wait_for_all()
}

fn at(results: &BTreeMap<JobId, JobResult>, rung: u8) -> BTreeSet<ConfigurationId> {
    let jobs = results.keys().filter(|job| job.rung == rung);
    jobs.map(|job| job.configuration).collect()
}

/// The best so many of a rung, among these brackets.
fn best(
    results: &BTreeMap<JobId, JobResult>,
    rung: u8,
    brackets: u32,
    number: usize,
) -> BTreeSet<ConfigurationId> {
    let of_rung = results
        .iter()
        .filter(|(job, result)| job.rung == rung && result.bracket < brackets);
    let mut ranked: Vec<(f64, ConfigurationId)> = of_rung
        .filter_map(|(job, result)| Some((result.outcome.loss()?, job.configuration)))
        .collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    ranked.into_iter().take(number).map(|(_, id)| id).collect()
}

#[test]
fn a_finished_search_gets_rungs_on_top_though_several_ask_at_the_same_time() -> Result<()> {
    let mut test = TestSearch::new(&counting_ones("bohb", 4))?;
    go(&mut test)?;
    let before = test.check_finished()?;
    let old = files(&test.root(), layout::RESULTS)?;
    let said = std::thread::scope(|scope| -> Result<Vec<String>> {
        let test = &test;
        let ask = |more: &'static [&'static str]| {
            scope.spawn(move || test.printed("scheduler", "extend", more))
        };
        let all = [
            ask(&["--max-budget", "81"]),
            ask(&["--max-budget", "81", "--brackets", "1"]),
        ];
        all.into_iter()
            .map(|one| one.join().expect("no panic"))
            .collect()
    })?;
    ensure!(
        said.iter()
            .any(|said| said.contains("start its programs again")),
        "{said:?}"
    );
    ensure!(said[1].contains("81 more configurations"), "{said:?}");
    ensure!(!test.directory()?.flags()?.is_finished);
    let status: Value =
        serde_json::from_str(&test.printed("scheduler", "status", &["--format", "json"])?)?;
    ensure!(
        status["rungs"][4]["budget"] == 81.0 && status["rungs"][4]["expected"] == 3,
        "{status}"
    );
    // The incumbent stays while nothing has come to the new rung.
    let incumbent = &status["incumbent"];
    ensure!(
        incumbent["rung"] == TOP && incumbent["loss"].is_number(),
        "{status}"
    );
    go(&mut test)?;
    let results = test.results()?;
    // [27,9,3,1] [9,3,1] [6,2] [4] end with eight, of which two go on; [81,27,9,3,1] is new.
    ensure!(at(&before, TOP).len() == 8);
    let new = |rung| -> usize {
        let of_rung = results.iter().filter(|(job, _)| job.rung == rung);
        of_rung.filter(|(_, result)| result.bracket == 4).count()
    };
    ensure!((0..=4).map(new).eq([81, 27, 9, 3, 1]));
    let of_old = results
        .iter()
        .filter(|(job, result)| job.rung == 4 && result.bracket < 4);
    let of_old: BTreeSet<ConfigurationId> = of_old.map(|(job, _)| job.configuration).collect();
    ensure!(of_old == best(&results, TOP, 4, 2), "{of_old:?}");
    ensure!(results.len() == before.len() + 2 + 121);
    let budget = results.iter().filter(|(job, _)| job.rung == 4);
    ensure!(
        budget
            .into_iter()
            .all(|(_, result)| (result.budget.amount - 81.0).abs() < 1e-9)
    );
    // Nothing of what there was has changed, and all proposals are computed again.
    let now = files(&test.root(), layout::RESULTS)?;
    ensure!(old.iter().all(|(name, bytes)| now.get(name) == Some(bytes)));
    test.printed("sampler", "replay", &[])?;
    test.printed("sampler", "explain", &["c000060"])?;
    let shown = test.printed("analyzer", "incumbent", &["--format", "json"])?;
    let shown: Value = serde_json::from_str(&shown)?;
    ensure!(shown.to_string().contains("81"), "{shown}");
    // Asked for once more it is there.
    let said = test.printed("scheduler", "extend", &["--max-budget", "81"])?;
    ensure!(said == "the largest budget is 81 steps already\n", "{said}");
    ensure!(test.directory()?.flags()?.is_finished);
    Ok(())
}

#[test]
fn a_running_search_ends_as_one_that_had_finished_when_it_was_extended() -> Result<()> {
    for (scheduling, promoted) in [("synchronous", 2), ("asynchronous", 0)] {
        let mut search = counting_ones("hyperband", 4);
        search["scheduling"] = scheduling.into();
        // So that it has not ended before it is extended.
        search["objective"]["seconds_per_unit"] = 0.02.into();
        let mut late = TestSearch::new(&search)?;
        go(&mut late)?;
        late.check_finished()?;
        let said = late.printed("scheduler", "extend", &["--max-budget", "243"])?;
        if promoted > 0 {
            let expected = "2 jobs with 81 steps\n1 job with 243 steps\n";
            ensure!(said.starts_with(expected), "{said}");
        }
        go(&mut late)?;
        let mut early = TestSearch::new(&search)?;
        for program in PROGRAMS {
            early.start(program, None)?;
        }
        early.wait_until("the search has begun", |directory| {
            directory
                .has_result(ConfigurationId(2).job(0))
                .map_err(Into::into)
        })?;
        early.printed("scheduler", "extend", &["--max-budget", "243"])?;
        early.wait_for_all()?;
        for test in [&late, &early] {
            let directory = test.directory()?;
            ensure!(directory.flags()?.is_finished);
            ensure!(directory.read_finished()?.context("it is")?.top == Some(5));
            ensure!(!at(&test.results()?, 4).is_empty());
        }
        if promoted > 0 {
            ensure!(losses(&late.results()?) == losses(&early.results()?));
            ensure!(at(&late.results()?, 4) == best(&late.results()?, TOP, 4, promoted));
        }
    }
    Ok(())
}

#[test]
fn proposals_of_a_model_are_computed_again_over_the_whole_and_every_table_knows_the_new_rung()
-> Result<()> {
    let mut test = TestSearch::new(&counting_ones("tandem", 3))?;
    go(&mut test)?;
    // Every second rung: 3 and 27, then 243, and one in nine goes on.
    let said = test.printed(
        "scheduler",
        "extend",
        &["--max-budget", "243", "--brackets", "1"],
    )?;
    ensure!(
        said.starts_with("81 more configurations: 108 in all\n2 jobs with 243 steps\n"),
        "{said}"
    );
    go(&mut test)?;
    let results = test.results()?;
    ensure!(
        at(&results, 2).len() == 2 && at(&results, 1).len() == 3 + 9,
        "{:?}",
        results.keys()
    );
    test.printed("sampler", "replay", &[])?;
    let request = test.directory()?.read_request(ConfigurationId(27))?;
    ensure!(request.context("it is there")?.top == Some(2));
    let said = test.printed("sampler", "explain", &["c000107"])?;
    ensure!(
        said.contains("at 243 steps (rung 2)") || !said.contains("(rung 2)"),
        "{said}"
    );
    for verb in ["incumbent", "correlation", "trajectory"] {
        let said = test.printed("analyzer", verb, &[])?;
        ensure!(said.contains("243"), "{verb}: {said}");
    }
    Ok(())
}

#[test]
fn a_network_goes_on_from_its_checkpoint_to_the_budget_that_was_added() -> Result<()> {
    let mut test = TestSearch::new(&json!({
        "name": "longer",
        "space": { "hyperparameters": [
            { "name": "learning_rate", "type": "float", "lower": 0.001, "upper": 0.1, "log": true },
            { "name": "groups", "type": "constant", "value": 1 },
            { "name": "nr_residual_blocks_1", "type": "constant", "value": 1 },
            { "name": "initial_filters", "type": "constant", "value": 4 },
        ] },
        "objective": { "network": { "data": { "name": "digits", "validation": 0.2 } } },
        "budget": { "unit": "epochs", "min": 1, "max": 2, "eta": 2 },
        "limit": { "brackets": 1 }, "method": "hyperband", "promotion": "continue", "seed": 3,
        "trainers": { "heartbeat_s": 0.2, "lease_s": 5.0 },
    }))?;
    test.run_to_end(1)?;
    test.printed(
        "scheduler",
        "extend",
        &["--max-budget", "4", "--brackets", "1"],
    )?;
    let (file, root) = (test.beside("search.json"), test.root());
    let (file, root) = (file.to_string_lossy(), root.to_string_lossy());
    let output = test.output("scheduler", &["local", &file, &root, "--trainers", "1"])?;
    ensure!(output.status.success(), "{output:?}");
    let results = test.results()?;
    let promoted: Vec<&JobResult> = results
        .values()
        .filter(|result| result.job().rung == 2 && result.bracket == 0)
        .collect();
    ensure!(promoted.len() == 1, "{promoted:?}");
    for result in results.values().filter(|result| result.job().rung == 2) {
        ensure!(result.measures.get("epochs") == Some(&4.0), "{result:?}");
        ensure!(result.outcome.loss().is_some(), "{result:?}");
    }
    Ok(())
}

#[test]
fn budgets_that_no_rung_can_have_are_refused_and_nothing_is_recorded() -> Result<()> {
    let refused = |search: &Value, amount: &str, words: &str| -> Result<()> {
        let test = TestSearch::new(search)?;
        let output = test.on("scheduler", "extend", &["--max-budget", amount])?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(2) && said.contains(words),
            "{amount}: {output:?}"
        );
        ensure!(test.directory()?.extensions()?.is_empty());
        Ok(())
    };
    let search = counting_ones("hyperband", 4);
    let rungs = "--max-budget: expected 81, 243, 729, …: each rung has 3 times the budget of the one below, and the largest \
                 budget is 27 steps, found";
    for amount in ["100", "28", "27", "9", "0", "NaN", "1e300"] {
        refused(&search, amount, rungs)?;
    }
    // Every second rung.
    refused(&counting_ones("tandem", 4), "81", "expected 243, 2187, ")?;
    refused(
        &counting_ones("tpe", 4),
        "81",
        "its method trains on the largest budget only",
    )?;
    let mut several = search.clone();
    several["repetitions"] = 2.into();
    refused(&several, "81", "its `repetitions` are on the rungs above")?;
    let mut faithful = counting_ones("bohb", 4);
    faithful["bohb"] = json!({ "faithful": true });
    refused(&faithful, "81", "HpBandSter")?;
    // A smaller one than there is, and a record that somebody has changed.
    let test = TestSearch::new(&search)?;
    test.printed("scheduler", "extend", &["--max-budget", "243"])?;
    let output = test.on("scheduler", "extend", &["--max-budget", "81"])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        said.contains("more than the largest budget, which is 243 steps"),
        "{said}"
    );
    let directory = test.directory()?;
    let path = directory
        .layout()
        .path(layout::EXTENSIONS)
        .join("0001.json");
    let text = String::from_utf8(shared::fs::read(&path)?)?;
    ensure!(
        text.contains("\"version\": [\n    2,\n    0\n  ]"),
        "{text}"
    );
    shared::fs::replace(&path, text.replace("243", "244").as_bytes())?;
    ensure!(test.directory()?.extensions()?.is_empty());
    ensure!(!shared::fs::list(&directory.layout().path(layout::ASIDE))?.is_empty());
    Ok(())
}
