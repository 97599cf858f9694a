use std::path::PathBuf;

use shared::layout::Layout;
use shared::{ConfigurationId, Outcome};

use super::*;
use crate::history::{Problems, Source, State};
use crate::testing::{configuration, evaluated, result, write, write_search};

fn problems(history: &History) -> String {
    history.problems.lines().join("\n")
}

#[test]
fn a_search_directory_is_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let crash = Outcome::crashed("<b>boom</b>");
    let results = [
        result(0, 0, evaluated(0.5)),
        result(0, 1, evaluated(0.4)),
        result(1, 0, crash),
        result(1234, 0, evaluated(0.3)),
    ];
    write_search(folder.path(), &results);
    let history = open(folder.path(), Wanted::ALL).unwrap();
    assert_eq!(problems(&history), "");
    assert_eq!(history.budgets, [1.0, 3.0, 9.0]);
    assert_eq!(history.losses()[0], [Some(0.5), Some(0.4), None]);
    assert_eq!(history.losses()[1], [None; 3]);
    assert_eq!(history.configurations[2].id.to_string(), "c001234");
    assert_eq!(history.configurations[0].origin, Some(Source::Model));
    assert_eq!(history.configurations[1].origin, Some(Source::Prior));
    assert_eq!(history.results[0].test_loss, Some(0.51));
    assert_eq!(history.results[0].curve.len(), 2);
    assert_eq!(
        history.outcomes(),
        [("crashed", 1), ("evaluated", 3)].into()
    );
    assert_eq!(history.state, State::default());
}

#[test]
fn files_that_cannot_be_used_are_named_and_left_where_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let results = [
        result(0, 0, evaluated(0.5)),
        result(1, 0, evaluated(0.4)),
        result(1, 1, evaluated(0.4)),
        result(2, 0, evaluated(0.3)),
    ];
    write_search(folder.path(), &results);
    let layout = Layout::new(folder.path());
    let path = |number, rung| layout.result(ConfigurationId(number).job(rung));
    let text = String::from_utf8(fs::read(&path(0, 0)).unwrap()).unwrap();
    // Truncated; another job's; another unit; not of this space; values of another search; a foreign name.
    write(&path(3, 0), &text[..text.len() / 2]);
    write(&path(4, 0), &text);
    write(
        &path(5, 0),
        &text
            .replace("c000000", "c000005")
            .replace("epochs", "seconds"),
    );
    write(
        &path(6, 0),
        &text.replace("c000000", "c000006").replace("wide", "narrow"),
    );
    let mut other = result(2, 1, evaluated(0.2));
    other.configuration = configuration(5);
    fs::publish_record(&path(2, 1), &other).unwrap();
    write(&folder.path().join("results/000/notes.txt"), "x");
    // A draft of a trainer that works right now is nothing to speak of.
    write(
        &folder.path().join("results/000/.draft-c000009-r0.json-1"),
        "{",
    );
    // A budget that is none of the search's.
    let mut odd = result(8, 0, evaluated(0.1));
    odd.budget.amount = 2.0;
    fs::publish_record(&path(8, 0), &odd).unwrap();

    let before = tree(folder.path());
    let history = open(folder.path(), Wanted::ALL).unwrap();
    assert_eq!(tree(folder.path()), before, "nothing is changed");
    let told = problems(&history).replace(&folder.path().display().to_string(), "DIR");
    insta::assert_snapshot!(told);
    assert_eq!(history.budgets, [1.0, 2.0, 3.0, 9.0]);
    assert_eq!(history.results.len(), 5);
    assert_eq!(history.problems.num(), 7);
}

fn tree(root: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                folders.push(entry.path());
            }
            found.push((entry.path(), metadata.len()));
        }
    }
    found.sort();
    found
}

#[test]
fn of_very_many_problems_the_first_are_told() {
    let mut problems = Problems::default();
    for number in 0..25 {
        problems.left_out(number);
    }
    assert_eq!(problems.num(), 25);
    assert_eq!(problems.lines().len(), 11);
    assert_eq!(problems.lines()[10], "and 15 more problems");
}

#[test]
fn a_folder_without_a_search_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = open(folder.path(), Wanted::default()).unwrap_err();
    assert!(error.to_string().contains("holds no search"), "{error}");
    assert_eq!(shared::exit::code_of(&error), Code::BadInput);
}
