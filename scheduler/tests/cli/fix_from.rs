//! What a second search fixes from a first one, or from a file.

use super::*;

/// The result with the smallest loss at the full budget.
fn incumbent(directory: &Directory) -> shared::JobResult {
    let top = directory.search().ladder.top();
    let results = directory.all_results().unwrap().into_iter();
    let loss = |result: &shared::JobResult| result.outcome.loss();
    results
        .filter(|result| result.job().rung == top && loss(result).is_some())
        .min_by(|a, b| loss(a).unwrap().total_cmp(&loss(b).unwrap()))
        .unwrap()
}

#[test]
fn the_second_of_two_searches_fixes_what_the_first_one_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let first = Directory::open(&{
        create(&folder.path().join("first"), json!({}));
        folder.path().join("first")
    })
    .unwrap();
    let second = with(
        "/space/hyperparameters",
        json!([{"name": "x", "type": "float", "lower": 0, "upper": 1},
               {"name": "y", "type": "integer", "lower": 1, "upper": 64},
               {"name": "z", "type": "float", "lower": 0, "upper": 1}]),
    );
    fs::replace(
        &folder.path().join("second.json"),
        second.to_string().as_bytes(),
    )
    .unwrap();
    let init = |name: &str, more: &[&str]| {
        let (file, directory, from) = (path("second.json"), path(name), path("first"));
        let mut arguments = vec!["init", &file, &directory, "--fix-from", &from];
        arguments.extend(more);
        run(&arguments)
    };
    // Nothing is known yet.
    let early = init("early", &[]);
    assert_eq!(early.status.code(), Some(3));
    assert!(
        text(&early.stderr).contains("has a loss"),
        "{}",
        text(&early.stderr)
    );

    run_all(&folder.path().join("first"), 1, 1, &|_, _, _| false);
    let best = incumbent(&first);
    let expected: Vec<&str> = best.configuration.iter().map(|(name, _)| name).collect();
    let output = init("second", &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    assert!(
        said.contains(&format!("fixed ({} of", best.job().configuration)),
        "{said}"
    );
    let directory = Directory::open(&folder.path().join("second")).unwrap();
    let space = &directory.search().space;
    assert_eq!(space.num_dimensions(), 3 - expected.len());
    let drawn = space.decode(&vec![0.5; space.num_dimensions()]);
    for (name, value) in best.configuration.iter() {
        assert_eq!(drawn.get(name), Some(value));
    }
    // Repeated, it is the same search.
    assert!(init("second", &[]).status.success());
    let unknown = init("other", &["--fix", "depth"]);
    assert_eq!(unknown.status.code(), Some(3));
    assert!(text(&unknown.stderr).contains("has no value of `depth`"));
    // Where the second search has no room for a value, the first one is named.
    let mut narrow = second.clone();
    narrow["space"]["hyperparameters"][0]["upper"] = json!(1e-9);
    fs::replace(
        &folder.path().join("second.json"),
        narrow.to_string().as_bytes(),
    )
    .unwrap();
    let output = init("narrow", &[]);
    assert_eq!(output.status.code(), Some(3));
    let expected =
        "first` does not fit this search: at `x`: expected a number from 0 to 0.000000001, found";
    assert!(
        text(&output.stderr).contains(expected),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_file_with_values_fixes_them_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let search = with(
        "/space/hyperparameters",
        json!([{"name": "x", "type": "float", "lower": 0, "upper": 1},
               {"name": "y", "type": "integer", "lower": 1, "upper": 64}]),
    );
    fs::replace(
        &folder.path().join("search.json"),
        search.to_string().as_bytes(),
    )
    .unwrap();
    let init = |name: &str, content: &str| {
        fs::replace(&folder.path().join("values.json"), content.as_bytes()).unwrap();
        let (file, directory, from) = (path("search.json"), path(name), path("values.json"));
        run(&["init", &file, &directory, "--fix-from", &from])
    };
    let output = init("done", r#"{"y": 8, "z": 1}"#);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        text(&output.stdout).contains("values.json`): y = 8"),
        "{}",
        text(&output.stdout)
    );
    let space = &Directory::open(&folder.path().join("done"))
        .unwrap()
        .search()
        .space
        .clone();
    assert_eq!(space.num_dimensions(), 1);
    assert_eq!(space.decode(&[0.5]).integer("y"), Some(8));
    for (content, code, expected) in [
        ("8", 3, "an object of hyperparameters, name and value"),
        ("{", 3, "is not JSON"),
        (r#"{"z": 1}"#, 3, "no hyperparameter in common"),
        (
            r#"{"y": 65}"#,
            3,
            "values.json` does not fit this search: at `y`: expected a whole number from 1 to 64",
        ),
        (
            r#"{"x": 0.5, "y": 8}"#,
            2,
            "every hyperparameter would be fixed",
        ),
    ] {
        let output = init("refused", content);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        assert!(
            text(&output.stderr).contains(expected),
            "{}",
            text(&output.stderr)
        );
    }
}
