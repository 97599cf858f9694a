//! Configurations of one's own: at any time, on any rung, by several people at once, whoever is killed meanwhile.

use anyhow::{Context as _, Result, ensure};
use harness::{TestSearch, counting_ones, with_faults};
use shared::{Configuration, ConfigurationId, Directory, Outcome, fs};

const PROGRAMS: [&str; 3] = ["scheduler", "sampler", "trainer"];

/// A configuration of the space whose real half is so.
fn configuration(directory: &Directory, value: f64) -> Result<Configuration> {
    let space = &directory.search().space;
    let vector: Vec<f64> = space
        .dimensions()
        .map(|h| h.kind.num_levels().map_or(value, |_| 1.0))
        .collect();
    let configuration = space.decode(&vector);
    space.check_configuration(&configuration)?;
    Ok(configuration)
}

fn give(test: &TestSearch, name: &str, values: &[f64], more: &[&str]) -> Result<String> {
    let directory = test.directory()?;
    let list = values.iter().map(|value| configuration(&directory, *value));
    let list: Vec<Configuration> = list.collect::<Result<_>>()?;
    let file = test.beside(name);
    fs::replace(&file, &serde_json::to_vec(&list)?)?;
    let file = file.to_string_lossy();
    let output = test.on("scheduler", "propose", &[&[&*file], more].concat())?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// The jobs of given configurations, and that each was trained as it was given.
fn given(test: &TestSearch) -> Result<Vec<(ConfigurationId, u8, f64)>> {
    let directory = test.directory()?;
    let mut found = Vec::new();
    for id in (0..).map(ConfigurationId) {
        let Some(request) = directory.read_request(id)? else {
            break;
        };
        let Some(gift) = request.given else { continue };
        let proposal = directory.read_proposal(id)?.context("it was proposed")?;
        ensure!(proposal.values == gift.values && proposal.origin.source == "given");
        let result = directory.read_result(id.job(request.rung))?;
        let result = result.context("it was trained")?;
        ensure!(matches!(result.outcome, Outcome::Evaluated { .. }));
        let value = result.configuration.float("cont_0").context("it is real")?;
        found.push((id, request.rung, value));
    }
    let replayed = test.on("sampler", "replay", &[])?;
    ensure!(replayed.status.success(), "{replayed:?}");
    Ok(found)
}

#[test]
fn configurations_are_tried_while_a_search_runs_and_when_it_is_finished() -> Result<()> {
    let mut search = counting_ones("tandem", 2);
    // With all four rungs.
    search["first_rungs"] = serde_json::json!([0, 3]);
    // So that it has not ended before it is given something.
    search["objective"]["seconds_per_unit"] = 0.03.into();
    let mut test = TestSearch::new(&search)?;
    for program in PROGRAMS {
        test.start(program, None)?;
    }
    test.wait_until("the search has begun", |directory| {
        directory
            .has_result(ConfigurationId(2).job(0))
            .map_err(Into::into)
    })?;
    let said = give(&test, "one.json", &[0.25], &[])?;
    ensure!(
        said == "1 configuration will be tried with 27 steps\n",
        "{said}"
    );
    give(&test, "two.json", &[0.5, 0.75], &["--budget", "3"])?;
    test.wait_for_all()?;
    test.check_finished()?;
    let mut first = given(&test)?;
    ensure!(first.len() == 3, "{first:?}");
    first.sort_by(|a, b| a.2.total_cmp(&b.2));
    let rungs: Vec<u8> = first.iter().map(|(_, rung, _)| *rung).collect();
    ensure!(rungs == [3, 1, 1], "{first:?}");
    // Finished.
    let said = give(&test, "three.json", &[0.125], &["--rung", "0"])?;
    ensure!(said.contains("start its programs again"), "{said}");
    for program in PROGRAMS {
        test.start(program, None)?;
    }
    test.wait_for_all()?;
    test.check_finished()?;
    ensure!(given(&test)?.len() == 4);
    // Extended after that, the rest goes on as if nothing had been given.
    let output = test.on("scheduler", "extend", &["--brackets", "1"])?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(
        output.status.success() && said.contains("start its programs again"),
        "{said}"
    );
    Ok(())
}

#[test]
fn two_schedulers_try_what_several_people_give_once_each() -> Result<()> {
    let mut test = TestSearch::new(&counting_ones("random", 6))?;
    for program in ["scheduler", "scheduler", "sampler", "trainer", "trainer"] {
        test.start(program, None)?;
    }
    std::thread::scope(|scope| -> Result<()> {
        let test = &test;
        let people: Vec<_> = (0..4_u8)
            .map(|person| {
                let value = f64::from(person) / 8.0;
                scope.spawn(move || give(test, &format!("{person}.json"), &[value, 1.0], &[]))
            })
            .collect();
        for person in people {
            person.join().expect("no panic")?;
        }
        Ok(())
    })?;
    test.wait_for_all()?;
    if !test.directory()?.flags()?.is_finished || given(&test).map_or(0, |given| given.len()) < 8 {
        // Somebody came after the last word.
        for program in PROGRAMS {
            test.start(program, None)?;
        }
        test.wait_for_all()?;
    }
    test.check_finished()?;
    ensure!(given(&test)?.len() == 8, "{:?}", given(&test)?);
    Ok(())
}

#[test]
fn whoever_gives_may_be_killed_at_every_step_and_give_again() -> Result<()> {
    let mut test = TestSearch::new(&counting_ones("random", 2))?;
    let file = test.beside("one.json");
    let directory = test.directory()?;
    fs::replace(
        &file,
        &serde_json::to_vec(&configuration(&directory, 0.5)?)?,
    )?;
    let mut kill_at = 1;
    loop {
        let faults = format!("kill-at={kill_at}");
        let output = with_faults("scheduler", Some(&faults))
            .arg("propose")
            .arg(test.root())
            .arg(&file)
            .output()?;
        if output.status.success() {
            break;
        }
        ensure!(output.status.code().is_none(), "{output:?}");
        kill_at += 1;
    }
    ensure!(kill_at > 3, "only {kill_at} steps were tried");
    for program in PROGRAMS {
        test.start(program, None)?;
    }
    test.wait_for_all()?;
    test.check_finished()?;
    ensure!(given(&test)?.len() == directory.given()?.len());
    Ok(())
}

#[test]
fn what_is_no_configuration_of_the_space_is_refused_and_nothing_is_lost() -> Result<()> {
    let test = TestSearch::new(&counting_ones("random", 1))?;
    let root = test.root();
    let root = root.to_string_lossy();
    for (text, more, code, words) in [
        ("{", &[][..], 3, "one.json"),
        ("[]", &[], 3, "at least one configuration"),
        ("3", &[], 3, "an object of hyperparameters"),
        (r#"[{"cat_0": 1}, {"nothing": 1}]"#, &[], 3, "[1].nothing"),
        (r#"{"cat_0": 7}"#, &[], 3, "cat_0"),
        (
            "{}",
            &["--rung", "9"],
            2,
            "expected one of the search's rungs (0: 1 step",
        ),
        (
            "{}",
            &["--budget", "5"],
            2,
            "expected one of the search's rungs",
        ),
    ] {
        let file = test.beside("one.json");
        fs::replace(&file, text.as_bytes())?;
        let file = file.to_string_lossy();
        let output = test.output("scheduler", &[&["propose", &*root, &*file], more].concat())?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(code), "{text}: {output:?}");
        ensure!(said.contains(words), "{text}: {said}");
    }
    ensure!(test.directory()?.given()?.is_empty());
    Ok(())
}
