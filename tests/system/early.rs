//! Trainings that are stopped in place of promotions: by which loss, what is known of them, and that it can be replayed.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use harness::{TestSearch, counting_ones};
use serde_json::{Value, json};
use shared::record::{Job, JobResult};
use shared::{ConfigurationId, JobId, Outcome, fs};

fn search(method: &str, brackets: u32) -> Value {
    let mut search = counting_ones(method, brackets);
    search["promotion"] = json!("stopping");
    search
}

/// What must hold of every finished search with stopping; how many trainings were stopped.
fn check(test: &TestSearch, results: &BTreeMap<JobId, JobResult>) -> Result<usize> {
    let directory = test.directory()?;
    let search = directory.search();
    let (ladder, top) = (search.ladder, search.ladder.top());
    let mut num_stopped = 0;
    for (job, result) in results {
        ensure!(job.rung == top, "{job} is on a rung below the top");
        let proposal = directory.read_proposal(job.configuration)?;
        let limits = proposal.context("it was proposed")?.checks;
        let rungs: Vec<u8> = limits.iter().map(|check| check.rung).collect();
        ensure!(rungs == (0..top).collect::<Vec<_>>(), "{job}: {limits:?}");
        for (limit, seen) in limits.iter().zip(&result.checks) {
            let budget = ladder.budget(limit.rung).amount;
            ensure!((seen.spent - budget).abs() < 1e-9, "{job}: {seen:?}");
        }
        let is_over = |(limit, seen): (&shared::record::RungCheck, &shared::record::Checked)| {
            limit.loss.is_some_and(|limit| seen.loss > limit)
        };
        let first_over = limits.iter().zip(&result.checks).position(is_over);
        match result.outcome {
            Outcome::Stopped { spent, loss, limit } => {
                num_stopped += 1;
                let last = result.checks.len() - 1;
                ensure!(first_over == Some(last), "{job}: {limits:?}, {result:?}");
                ensure!(limits[last].loss == Some(limit) && loss > limit);
                ensure!((spent - result.checks[last].spent).abs() < 1e-9);
            }
            Outcome::Evaluated { .. } => {
                ensure!(first_over.is_none(), "{job}: {limits:?}, {result:?}");
                ensure!(result.checks.len() == limits.len(), "{job}: {result:?}");
            }
            _ => anyhow::bail!("{job} ended as {:?}", result.outcome),
        }
    }
    Ok(num_stopped)
}

#[test]
fn searches_are_stopped_by_the_rule_and_replayed_bit_for_bit() -> Result<()> {
    for (method, scheduling) in [
        ("hyperband", "synchronous"),
        ("tandem", "synchronous"),
        ("bohb", "asynchronous"),
    ] {
        let mut file = search(method, 8);
        file["scheduling"] = json!(scheduling);
        let mut test = TestSearch::new(&file)?;
        test.run_to_end(3)?;
        let results = test.check_finished()?;
        // Eight brackets of four.
        ensure!(results.len() == 32, "{method}: {}", results.len());
        let num_stopped = check(&test, &results)?;
        ensure!((10..31).contains(&num_stopped), "{method}: {num_stopped}");
        test.printed("sampler", "replay", &[])?;
        if method == "tandem" {
            a_changed_limit_is_found(&test)?;
            another_search_learns_from_it(&test, &results)?;
            a_sample_is_trained_to_the_end(&test)?;
        }
        told(&test, &results, num_stopped)?;
    }
    Ok(())
}

/// A replay compares what each training was compared with.
fn a_changed_limit_is_found(test: &TestSearch) -> Result<()> {
    let path = test
        .directory()?
        .layout()
        .configuration(ConfigurationId(31));
    let bytes = fs::read(&path)?;
    let mut json: Value = serde_json::from_slice(&bytes)?;
    let loss = json["checks"][0]["loss"].as_f64().context("a limit")?;
    json["checks"][0]["loss"] = json!(loss + 1e-9);
    fs::replace(&path, &serde_json::to_vec(&json)?)?;
    let output = test.on("sampler", "replay", &[])?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(
        output.status.code() == Some(1) && said.contains("c000031 checks"),
        "{said}"
    );
    fs::replace(&path, &bytes)?;
    test.printed("sampler", "replay", &[])?;
    Ok(())
}

/// What was seen on the way is evidence like a result.
fn another_search_learns_from_it(
    test: &TestSearch,
    results: &BTreeMap<JobId, JobResult>,
) -> Result<()> {
    let (file, folder) = (test.beside("second.json"), test.beside("second"));
    fs::replace(&file, search("tandem", 1).to_string().as_bytes())?;
    let paths = [&file, &folder, &test.root()].map(|path| path.to_string_lossy().into_owned());
    let [file, folder, root] = &paths;
    let output = test.output("scheduler", &["init", file, folder, "--learn-from", root])?;
    ensure!(output.status.success(), "{output:?}");
    let written = fs::read(&test.beside("second").join("search.json"))?;
    let written: Value = serde_json::from_slice(&written)?;
    let of_one =
        |result: &JobResult| result.checks.len() + usize::from(result.outcome.loss().is_some());
    let expected: usize = results.values().map(of_one).sum();
    ensure!(
        written["learn_from"][0]["results"] == json!(expected),
        "{written}; {expected}"
    );
    Ok(())
}

/// A table without the selection: what was stopped is trained again, and looked at on its way.
fn a_sample_is_trained_to_the_end(test: &TestSearch) -> Result<()> {
    let paths = [test.root(), test.beside("sample")];
    let [root, sample] = paths.map(|path| path.to_string_lossy().into_owned());
    let run = |program: &str, arguments: &[&str]| -> Result<String> {
        let output = test.output(program, arguments)?;
        ensure!(output.status.success(), "{arguments:?}: {output:?}");
        Ok(String::from_utf8([output.stdout, output.stderr].concat())?)
    };
    let extra = ["correlation", &root, "--extra", "5", "--extra-out", &sample];
    let said = run("analyzer", &extra)?;
    ensure!(said.contains(" and 5 jobs to do"), "{said}");
    run("trainer", &["run", &sample, "--once"])?;
    let said = run("analyzer", &["correlation", &sample])?;
    let whole = "Every configuration has a result at every budget";
    ensure!(said.contains(whole), "{said}");
    Ok(())
}

/// What people and scripts are told.
fn told(test: &TestSearch, results: &BTreeMap<JobId, JobResult>, num_stopped: usize) -> Result<()> {
    let is_stopped = |result: &&JobResult| matches!(result.outcome, Outcome::Stopped { .. });
    let stopped = results.values().find(is_stopped).context("one was")?;
    let id = stopped.job().configuration.to_string();
    let said = test.printed("sampler", "explain", &[&id])?;
    ensure!(
        said.contains("It was stopped at ") && said.contains("the same, bit for bit"),
        "{said}"
    );
    let text = test.printed("scheduler", "status", &["--format", "json"])?;
    let status: Value = serde_json::from_str(&text)?;
    let rungs = status["rungs"].as_array().context("a list")?;
    let number = |name: &str| -> u64 { rungs.iter().filter_map(|rung| rung[name].as_u64()).sum() };
    let expected = u64::try_from(num_stopped)?;
    ensure!(
        number("stopped") == expected && number("stopped_here") == expected,
        "{status}"
    );
    ensure!(number("lost") == 0 && number("failed") == 0, "{status}");
    let said = test.printed("scheduler", "status", &[])?;
    ensure!(said.contains(&format!("{num_stopped} stopped (")), "{said}");
    let root = test.root();
    let root = root.to_string_lossy();
    let analyzer = |arguments: &[&str]| test.output("analyzer", arguments);
    let said = String::from_utf8(analyzer(&["export", "csv", &root])?.stdout)?;
    ensure!(
        said.contains(",stopped,") && said.contains("at most"),
        "{said}"
    );
    for arguments in [
        &["incumbent"][..],
        &["trajectory"],
        &["correlation"],
        &["importance"],
        &["whatif"],
        &["export", "hpbandster"],
        &["export", "optuna"],
    ] {
        let out = test.beside(arguments.last().copied().unwrap_or_default());
        let out = out.to_string_lossy();
        let mut all = [arguments, &[&root]].concat();
        all.extend(["--out", &out].iter().filter(|_| arguments.len() > 1));
        let output = analyzer(&all)?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{arguments:?}: {words}");
    }
    let said = String::from_utf8(analyzer(&["correlation", &root])?.stdout)?;
    ensure!(said.contains("27 steps"), "{said}");
    let report = test.beside("report.html");
    let output = analyzer(&["report", "--out", &report.to_string_lossy(), &root])?;
    ensure!(output.status.success(), "{output:?}");
    let page = String::from_utf8(fs::read(&report)?)?;
    ensure!(page.contains("stopped on their way"));
    Ok(())
}

#[test]
fn what_is_given_and_what_is_repeated_is_never_stopped() -> Result<()> {
    let mut file = search("hyperband", 4);
    file["repetitions"] = json!(2);
    let mut test = TestSearch::new(&file)?;
    let space = &test.directory()?.search().space.clone();
    // Nothing but zeros: the worst.
    let worst = space.decode(&vec![0.0; space.num_dimensions()]);
    test.run_to_end(2)?;
    let given = test.beside("given.json");
    fs::replace(&given, &serde_json::to_vec(&[worst])?)?;
    test.printed("scheduler", "propose", &[&given.to_string_lossy()])?;
    test.run_to_end(2)?;
    let results = test.check_finished()?;
    let top = test.directory()?.search().ladder.top();
    let worst = results
        .get(&ConfigurationId(16).job(top))
        .context("given")?;
    ensure!(
        matches!(worst.outcome, Outcome::Evaluated { .. }),
        "{worst:?}"
    );
    ensure!(worst.checks.len() == 3, "{worst:?}");
    let (mut num_whole, mut num_repeated) = (0, 0);
    for (job, result) in &results {
        if job.rung > top {
            num_repeated += 1;
            ensure!(result.checks.is_empty(), "{result:?}");
        } else {
            num_whole += usize::from(result.outcome.loss().is_some());
        }
    }
    // What was given is trained once.
    ensure!(
        num_repeated + 1 == num_whole,
        "{num_repeated} of {num_whole}"
    );
    test.printed("sampler", "replay", &[])?;
    Ok(())
}

#[test]
fn that_a_program_tells_no_loss_on_its_way_is_said() -> Result<()> {
    let mut file = search("hyperband", 2);
    let program = "import json, sys; job = json.load(open(sys.argv[1])); \
                   json.dump({'loss': 0.5}, open(job['result'], 'w'))";
    file["objective"] = json!({ "command": ["python3", "-c", program] });
    file["space"] =
        json!({ "hyperparameters": [{ "name": "x", "type": "float", "lower": 0, "upper": 1 }] });
    let mut test = TestSearch::new(&file)?;
    test.run_to_end(2)?;
    let num = test.check_finished()?.len();
    let said = test.printed("scheduler", "status", &[])?;
    let expected = format!("{num} told no loss on the way and could not be stopped");
    ensure!(said.contains(&expected), "{said}");
    Ok(())
}

#[test]
fn a_search_with_stopping_goes_on_after_kills_and_looks_only_once() -> Result<()> {
    let mut file = search("hyperband", 4);
    file["objective"] = json!({ "benchmark": "counting-ones", "seconds_per_unit": 0.01 });
    file["trainers"]["checkpoint_s"] = json!(0.02);
    let mut test = TestSearch::new(&file)?;
    for program in ["scheduler", "sampler", "trainer"] {
        test.start(program, None)?;
    }
    for kills in 0..6 {
        let index = test.start("trainer", Some(&format!("kill-at={}", 9 + 7 * kills)))?;
        let _status = test.running()[index].child.wait()?;
        test.forget(index);
    }
    test.wait_for_all()?;
    let results = test.check_finished()?;
    check(&test, &results)?;
    test.printed("sampler", "replay", &[])?;
    Ok(())
}

#[test]
fn a_larger_largest_budget_is_refused_and_more_brackets_are_not() -> Result<()> {
    let mut test = TestSearch::new(&search("tandem", 1))?;
    test.run_to_end(1)?;
    let output = test.on("scheduler", "extend", &["--max-budget", "81"])?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(
        output.status.code() == Some(2) && said.contains("stopping"),
        "{said}"
    );
    test.printed("scheduler", "extend", &["--brackets", "2"])?;
    test.run_to_end(1)?;
    let results = test.results()?;
    ensure!(results.len() == 12, "{}", results.len());
    check(&test, &results)?;
    Ok(())
}

#[test]
fn open_jobs_say_where_they_are_looked_at() -> Result<()> {
    let test = TestSearch::new(&search("hyperband", 1))?;
    for program in ["scheduler", "sampler", "scheduler"] {
        test.printed(program, "run", &["--once"])?;
    }
    let directory = test.directory()?;
    let open = directory.open_jobs()?;
    let job: Job = directory
        .read_open(*open.first().context("one is open")?)?
        .context("it is there")?;
    let spent: Vec<f64> = job.checks.iter().map(|check| check.spent).collect();
    ensure!(spent == [1.0, 3.0, 9.0], "{job:?}");
    ensure!(
        job.checks.iter().all(|check| check.loss.is_none()),
        "{job:?}"
    );
    Ok(())
}
