use shared::Outcome;

use super::*;
use crate::load::{self, Wanted};
use crate::plot::Theme;
use crate::testing::{evaluated, history, result, write_search};

fn page_of(history: &History) -> String {
    page::html(history, &sections(history, Seed::new(0)))
}

fn crash(message: &str) -> Outcome {
    Outcome::crashed(message)
}

/// 40 configurations, a third of them at the second and a ninth at the third budget, some failed.
fn example() -> History {
    let rows: Vec<Vec<f64>> = (0..40_u32)
        .map(|number| {
            let loss = f64::from(number * 13 % 40) / 40.0;
            let bad = if number % 10 == 9 { f64::NAN } else { loss };
            match number % 9 {
                0 => vec![bad, loss * 0.9 + 0.01, loss * 0.8 + 0.02],
                3 | 6 => vec![bad, loss * 0.9 + 0.01],
                _ => vec![bad],
            }
        })
        .collect();
    let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    history(&rows)
}

#[test]
fn a_report_has_every_drawing_and_asks_for_nothing() {
    let history = example();
    let sections = sections(&history, Seed::new(0));
    for section in &sections {
        let is_text_only = section.id == "best" || section.id == "failures";
        assert!(
            is_text_only || !section.figures.is_empty(),
            "{} is empty",
            section.id
        );
        for scene in &section.figures {
            let svg = scene.svg(Theme::Page);
            assert!(
                !svg.contains("NaN") && !svg.contains("inf"),
                "{}: {svg}",
                scene.title
            );
            assert!(scene.width > 0.0 && scene.height > 50.0, "{}", scene.title);
        }
    }
    let page = page::html(&history, &sections);
    for forbidden in ["<script", "http://", "https://", "<img", "@import", "url("] {
        let allowed = "xmlns=\"http://www.w3.org/2000/svg\"";
        let rest = page.replace(allowed, "");
        assert!(!rest.contains(forbidden), "{forbidden}");
    }
    assert!(page.contains("test &lt;search&gt;") && !page.contains("<search>"));
    assert_eq!(
        page,
        page_of(&history),
        "the same results give the same bytes"
    );
}

#[test]
fn searches_with_little_in_them_get_a_report_that_says_so() {
    let nan = f64::NAN;
    let cases: [(&[&[f64]], &str); 4] = [
        (&[], "No job has finished yet"),
        (&[&[nan], &[nan]], "No job has a loss yet"),
        (&[&[0.5]], "only 1 loss at 1 epoch"),
        (&[&[0.5, 0.5], &[0.5, 0.5], &[0.5, 0.5]], "0.5 at 3 epochs"),
    ];
    for (rows, expected) in cases {
        let page = page_of(&history(rows));
        assert!(page.contains(expected), "{expected}");
        assert!(
            !page.contains("NaN") || expected == "No job has a loss yet",
            "{expected}"
        );
    }
}

#[test]
fn html_in_names_and_messages_is_shown_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let attack = "<img src=x onerror=alert(1)>\"'&\u{1b}";
    let results = [result(0, 0, crash(attack)), result(1, 0, evaluated(0.5))];
    write_search(folder.path(), &results);
    let mut history = load::open(folder.path(), Wanted::ALL).unwrap();
    history.name = attack.into();
    history.owners[0] = attack.into();
    history.problems.add(attack);
    for tried in &mut history.configurations {
        tried.foreign_id = Some(attack.into());
        tried.values.set(attack, shared::Value::Text(attack.into()));
    }
    let page = page_of(&history);
    assert!(!page.contains("<img") && !page.contains('\u{1b}'));
    assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;"));
}

#[test]
fn drawings_are_written_as_files() {
    let folder = tempfile::tempdir().unwrap();
    let sections = sections(&example(), Seed::new(0));
    let num: usize = sections.iter().map(|section| section.figures.len()).sum();
    let svg = |scene: &Scene| Ok(scene.svg(Theme::Light).into_bytes());
    assert_eq!(
        write_drawings(&sections, folder.path(), "svg", svg).unwrap(),
        num
    );
    let png = crate::picture::png;
    assert_eq!(
        write_drawings(&sections, folder.path(), "png", png).unwrap(),
        num
    );
    let names = fs::list(folder.path()).unwrap();
    assert_eq!(names.len(), 2 * num);
    assert!(
        names.contains(&"correlation-01.svg".to_owned()),
        "{names:?}"
    );
    let svg = String::from_utf8(fs::read(&folder.path().join("correlation-01.svg")).unwrap());
    assert!(
        !svg.unwrap().contains("var(--"),
        "a file of its own has its own colours"
    );
}

#[test]
fn samples_keep_their_order_and_are_stated() {
    let (all, note) = sampled((0..5).collect(), 5, "things", Seed::new(1));
    assert_eq!((all, note), (vec![0, 1, 2, 3, 4], None));
    let (some, note) = sampled((0..1000).collect::<Vec<_>>(), 10, "things", Seed::new(1));
    assert_eq!(some.len(), 10);
    assert!(some.is_sorted());
    assert_eq!(
        note.unwrap(),
        "10 of 1,000 things are drawn, chosen at random."
    );
}

#[test]
fn long_names_break_between_words() {
    assert_eq!(page::breakable("nr_of<b>_x"), "nr_<wbr>of&lt;b&gt;_<wbr>x");
}
