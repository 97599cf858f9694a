//! Searches that learn from others: in every form that results come in, when their source is gone, and when it is wrong.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use harness::{TestSearch, counting_ones};
use shared::evidence::Evidence;
use shared::{ConfigurationId, Directory, fs};

const PROGRAMS: [&str; 3] = ["scheduler", "sampler", "trainer"];

fn finished(search: &serde_json::Value) -> Result<TestSearch> {
    let mut test = TestSearch::new(search)?;
    finish(&mut test)?;
    Ok(test)
}

fn finish(test: &mut TestSearch) -> Result<()> {
    for program in PROGRAMS {
        test.start(program, None)?;
    }
    test.wait_for_all()?;
    test.check_finished()?;
    Ok(())
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Runs `scheduler init` with more arguments on a second search beside the first.
fn init(first: &TestSearch, root: &Path, more: &[&str]) -> Result<(bool, String)> {
    let mut search = counting_ones("tandem", 1);
    search["seed"] = 8.into();
    let file = first.beside("second.json");
    fs::replace(&file, &serde_json::to_vec(&search)?)?;
    let (file, root) = (text(&file), text(root));
    let output = first.output("scheduler", &[&["init", &file, &root], more].concat())?;
    let said = [output.stdout, output.stderr].concat();
    Ok((
        output.status.code() == Some(0),
        String::from_utf8_lossy(&said).into_owned(),
    ))
}

/// The evidence without its source.
fn results(directory: &Directory) -> Result<Vec<String>> {
    let evidence = directory.evidence()?;
    let results = evidence.iter().flat_map(|evidence| &evidence.results);
    let mut texts: Vec<String> = results
        .map(|result| Ok(serde_json::to_string(result)?))
        .collect::<Result<_>>()?;
    texts.sort();
    Ok(texts)
}

#[test]
fn results_are_the_same_evidence_from_a_directory_a_log_and_a_table() -> Result<()> {
    let first = finished(&counting_ones("random", 6))?;
    let number = first.directory()?.all_results()?.len();
    let (log, table) = (first.beside("log"), first.beside("table.csv"));
    for (what, out) in [("hpbandster", &log), ("csv", &table)] {
        let (root, out) = (text(&first.root()), text(out));
        let output = first.output("analyzer", &["export", what, &root, "--out", &out])?;
        ensure!(output.status.success(), "{output:?}");
    }
    let mut all = Vec::new();
    for (index, source) in [first.root(), log, table].iter().enumerate() {
        let root = first.beside(&format!("from-{index}"));
        let (is_done, said) = init(&first, &root, &["--learn-from", &text(source)])?;
        ensure!(
            is_done && said.contains(&format!("learns from {number} results")),
            "{said}"
        );
        // Repeated, it is the same search.
        let (is_done, said) = init(&first, &root, &["--learn-from", &text(source)])?;
        ensure!(is_done, "{said}");
        all.push(results(&Directory::open(&root)?)?);
    }
    ensure!(
        all[0].len() == number && all[0] == all[1] && all[0] == all[2],
        "{all:?}"
    );
    Ok(())
}

#[test]
fn a_search_goes_on_and_replays_when_what_it_learnt_from_is_gone() -> Result<()> {
    let first = finished(&counting_ones("random", 12))?;
    let number = first.directory()?.all_results()?.len();
    let folder = tempfile::tempdir()?;
    let root = folder.path().join("directory");
    let (is_done, said) = init(&first, &root, &["--learn-from", &text(&first.root())])?;
    ensure!(is_done, "{said}");
    drop(first);
    let mut second = TestSearch::found(folder);
    finish(&mut second)?;
    let directory = second.directory()?;
    let sources: Vec<String> = (0..)
        .map_while(|id| directory.read_proposal(ConfigurationId(id)).transpose())
        .map(|proposal| Ok(proposal?.origin.source))
        .collect::<Result<_>>()?;
    let earlier = sources.iter().position(|source| source == "earlier");
    let id = ConfigurationId(u32::try_from(earlier.context("none is from earlier")?)?);
    let explained = second.on("sampler", "explain", &[&id.to_string()])?;
    let explained = String::from_utf8(explained.stdout)?;
    for words in [
        &*format!("It learnt from {number} earlier results"),
        "It did well in an earlier search",
        "the same, bit for bit",
    ] {
        ensure!(explained.contains(words), "{words}: {explained}");
    }
    let replayed = second.on("sampler", "replay", &[])?;
    ensure!(replayed.status.success(), "{replayed:?}");
    // Nothing of the earlier search counts as a result of this one.
    let jobs = directory.read_finished()?.context("it is finished")?.jobs;
    ensure!(jobs == directory.all_results()?.len() as u64);
    Ok(())
}

/// The one file of evidence.
fn evidence_file(root: &Path) -> Result<PathBuf> {
    let folder = root.join("evidence");
    let names = fs::list(&folder)?;
    ensure!(names.len() == 1, "{names:?}");
    Ok(folder.join(&names[0]))
}

#[test]
fn evidence_that_was_changed_or_removed_is_named_and_not_used() -> Result<()> {
    let first = finished(&counting_ones("random", 3))?;
    let root = first.beside("second");
    let (is_done, said) = init(&first, &root, &["--learn-from", &text(&first.root())])?;
    ensure!(is_done, "{said}");
    let path = evidence_file(&root)?;
    let mut evidence: Evidence = fs::read_record(&path)?;
    evidence.results[0].loss = Some(-1e9);
    fs::replace_record(&path, &evidence)?;
    let refused = |code: i32, words: &str| -> Result<()> {
        let output = first.output("sampler", &["propose", &text(&root)])?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(code), "{output:?}");
        ensure!(said.contains(words) && said.contains("evidence/"), "{said}");
        Ok(())
    };
    refused(3, "that `search.json` names by their digest")?;
    fs::remove(&path)?;
    refused(5, "No such file")?;
    // The same source makes the same file again, whoever asks for it.
    let (is_done, _) = init(
        &first,
        &first.beside("third"),
        &["--learn-from", &text(&first.root())],
    )?;
    ensure!(is_done);
    fs::make_folder(&root.join("evidence"))?;
    std::fs::copy(evidence_file(&first.beside("third"))?, &path)?;
    let output = first.output("sampler", &["propose", &text(&root)])?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

#[test]
fn what_cannot_be_learnt_from_is_refused_with_what_to_write() -> Result<()> {
    let first = finished(&counting_ones("random", 2))?;
    let table = first.beside("table.csv");
    fs::replace(&table, b"cat_0,loss\n1,0.5\n")?;
    let (from, table) = (text(&first.root()), text(&table));
    let nowhere = text(&first.beside("nowhere"));
    for (arguments, words) in [
        (
            &["--learn-from", &nowhere][..],
            "is not there: expected a folder with",
        ),
        (&["--learn-from", &table], "expected a column `cat_1`"),
        (
            &["--learn-from", &from, "--learn-budgets", "9=27"],
            "say with --learn-budgets THERE=HERE what they stand for",
        ),
        (
            &["--learn-from", &from, "--learn-budgets", "9"],
            "expected two budgets",
        ),
        (&["--learn-budgets", "9=27"], "--learn-from <PATH>"),
    ] {
        let root = first.beside("refused");
        let (is_done, said) = init(&first, &root, arguments)?;
        ensure!(!is_done && said.contains(words), "{arguments:?}: {said}");
        ensure!(!root.join("search.json").exists(), "{arguments:?}");
    }
    // A stated mapping: what was trained with 27 there stands for 3 here.
    let root = first.beside("mapped");
    let (is_done, said) = init(
        &first,
        &root,
        &["--learn-from", &from, "--learn-budgets", "27=3"],
    )?;
    ensure!(is_done, "{said}");
    let evidence = Directory::open(&root)?.evidence()?;
    let rungs = evidence[0].results.iter().map(|r| (r.budget, r.rung));
    ensure!(
        rungs
            .clone()
            .all(|(budget, rung)| budget > 26.9 && rung == 0)
    );
    Ok(())
}
