//! Frames as text, at the sizes that matter.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::{Buffer, Cell};
use shared::hyperband::NextPromotion;

use super::*;
use crate::batch::{Kind, Queued};
use crate::status::{Crash, Incumbent, tests};

fn rung(rung: u8, expected: u64, evaluated: u64) -> RungStatus {
    let has_results = evaluated > 0;
    let mean_s = has_results.then(|| 41.3 * 3f64.powi(i32::from(rung)));
    RungStatus {
        best_loss: has_results.then(|| 0.3 / 2f64.powi(i32::from(rung))),
        ..tests::rung(rung, expected, evaluated, mean_s)
    }
}

fn empty() -> Status {
    Status {
        format: "status",
        version: [1, 0],
        at: "2026-11-24T14:00:00Z".into(),
        search: "cifar-10".into(),
        phase: "running",
        requested: 0,
        configurations: 54,
        awaited: 0,
        unchecked: 0,
        rungs: vec![rung(0, 27, 0), rung(1, 18, 0), rung(2, 11, 0), rung(3, 6, 0)],
        incumbent: None,
        front: None,
        next_promotion: None,
        waiting_for: vec![
            "a scheduler, which would request configuration c000000 for bracket 0, rung 0, with 0 new results".into(),
        ],
        was_submitted: false,
        remaining_s: None,
        ends_at: None,
        trainers_live: 0,
        trainers_silent: 0,
        trainers_gone: 0,
        trainers: Vec::new(),
        slurm: Vec::new(),
        slurm_error: None,
        paused: None,
        overdue: Vec::new(),
        ended_attempts: Vec::new(),
        crashes: Vec::new(),
        checkpoint_bytes: Some(0),
    }
}

fn trainer(number: usize) -> TrainerStatus {
    let is_silent = number % 25 == 7;
    let works = number % 10 != 3;
    TrainerStatus {
        owner: format!("node{number:03}-4711-0-abc"),
        host: format!("node{:03}.cluster.example.org", number / 4),
        device: format!("cuda {}: NVIDIA H100 80GB HBM3", number % 4),
        slurm_job: Some(format!("815_{number}")),
        job: works.then(|| format!("c{number:06}-r{}-a1", number % 3)),
        spent: works.then_some(1.5),
        budget: works.then_some(9.0),
        continued: None,
        heard_s: Some(if is_silent { 391.0 } else { 4.2 }),
        is_silent,
    }
}

fn running(trainers: usize) -> Status {
    let trainers: Vec<TrainerStatus> = (0..trainers).map(trainer).collect();
    let silent = trainers.iter().filter(|trainer| trainer.is_silent).count();
    let queued = |tasks: u32, state: &str, reason: &str| Queued {
        kind: Kind::Trainers,
        group: None,
        meaning: crate::slurm::meaning(state),
        state: state.into(),
        reason: reason.into(),
        tasks,
    };
    let mut rungs = vec![
        rung(0, 27, 27),
        rung(1, 18, 9),
        rung(2, 11, 3),
        rung(3, 6, 0),
    ];
    (rungs[1].open, rungs[1].claimed, rungs[2].claimed) = (2, 5, 1);
    (rungs[0].failed, rungs[0].evaluated, rungs[1].lost) = (2, 25, 1);
    Status {
        requested: 41,
        awaited: 1,
        rungs,
        incumbent: Some(Incumbent {
            configuration: "c000017".into(),
            rung: 2,
            budget: "9 epochs".into(),
            loss: 0.075,
            standard_error: None,
            seeds: None,
        }),
        next_promotion: Some(NextPromotion {
            bracket: Some(1),
            rung: 1,
            missing: 7,
            promoted: 3,
        }),
        waiting_for: vec![
            "the sampler, for configuration c000040".into(),
            "trainers to claim 2 open jobs".into(),
            "trainers to finish 6 claimed jobs".into(),
            "7 more results at rung 1, for the next 3 promotions of bracket 1".into(),
        ],
        was_submitted: false,
        remaining_s: Some(9240.0),
        ends_at: Some("2026-11-24T16:34:00Z".into()),
        trainers_live: trainers.len() - silent,
        trainers_silent: silent,
        trainers_gone: 3,
        trainers,
        slurm: vec![
            queued(5, "RUNNING", "None"),
            queued(58, "PENDING", "Priority"),
            queued(1, "PREEMPTED", "None"),
        ],
        crashes: vec![Crash {
            job: "c000002-r0".into(),
            message: "the program ended with exit status: 1; the last it said: ModuleNotFoundError: No module named 'torchvision'".into(),
        }],
        checkpoint_bytes: Some(1_385_000_000),
        ..empty()
    }
}

fn finished() -> Status {
    Status {
        phase: "finished",
        requested: 54,
        rungs: vec![
            rung(0, 27, 27),
            rung(1, 18, 18),
            rung(2, 11, 11),
            rung(3, 6, 6),
        ],
        waiting_for: vec!["nothing: the search is finished".into()],
        was_submitted: false,
        remaining_s: Some(0.0),
        ends_at: None,
        trainers_gone: 16,
        slurm: Vec::new(),
        crashes: Vec::new(),
        awaited: 0,
        ..running(0)
    }
}

fn frame(status: &Status, view: &View, width: u16, height: u16) -> (Buffer, Shown) {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let mut shown = None;
    terminal
        .draw(|frame| shown = Some(draw(frame, status, view)))
        .unwrap();
    (terminal.backend().buffer().clone(), shown.unwrap())
}

fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width);
    let cells: Vec<&str> = buffer.content().iter().map(Cell::symbol).collect();
    let lines = cells
        .chunks(width)
        .map(|line| format!("|{}|", line.concat()));
    lines.collect::<Vec<String>>().join("\n")
}

fn shown(status: &Status, view: &View, width: u16, height: u16) -> String {
    text(&frame(status, view, width, height).0)
}

#[test]
fn a_search_that_has_just_begun() {
    insta::assert_snapshot!(shown(&empty(), &View::default(), 80, 24));
    insta::assert_snapshot!(shown(&empty(), &View::default(), 120, 40));
}

#[test]
fn a_search_at_work() {
    insta::assert_snapshot!(shown(&running(6), &View::default(), 80, 24));
    insta::assert_snapshot!(shown(&running(6), &View::default(), 120, 40));
}

#[test]
fn trainings_that_were_stopped() {
    let mut rungs = vec![rung(0, 0, 0), rung(1, 0, 0), rung(2, 27, 3)];
    (rungs[0].stopped_here, rungs[1].stopped_here) = (11, 4);
    rungs[2].stopped = 15;
    let status = Status {
        rungs,
        next_promotion: None,
        ..running(0)
    };
    let screen = shown(&status, &View::default(), 80, 24);
    for cell in ["11 stopped", "4 stopped", "18/27"] {
        assert!(screen.contains(cell), "{screen}");
    }
}

#[test]
fn two_hundred_trainers_are_scrolled_and_silent_ones_come_first() {
    let status = running(200);
    let (buffer, shown_at_first) = frame(&status, &View::default(), 80, 24);
    insta::assert_snapshot!(text(&buffer));
    let end = View {
        scroll: usize::MAX,
        ..View::default()
    };
    let (buffer, shown_at_the_end) = frame(&status, &end, 120, 40);
    insta::assert_snapshot!(text(&buffer));
    for shown in [shown_at_first, shown_at_the_end] {
        assert_eq!(shown.most + shown.page, 200);
    }
}

#[test]
fn a_finished_search() {
    insta::assert_snapshot!(shown(&finished(), &View::default(), 80, 24));
    insta::assert_snapshot!(shown(&finished(), &View::default(), 120, 40));
}

#[test]
fn on_a_small_terminal_everything_can_be_scrolled_to() {
    let status = running(6);
    let mut seen = String::new();
    let mut view = View::default();
    loop {
        let (buffer, shown) = frame(&status, &view, 60, 10);
        seen += &text(&buffer);
        if view.scroll == shown.most {
            break;
        }
        view.scroll += shown.page.min(shown.most - view.scroll);
    }
    for part in [
        "checkpoints",
        "incumbent",
        "PREEMPTED",
        "torchvision",
        "node001",
    ] {
        assert!(seen.contains(part), "{part}: {seen}");
    }
    // Sizes that no terminal has.
    for (width, height) in [(1, 1), (3, 2), (20, 3), (500, 200)] {
        frame(&status, &view, width, height);
    }
}

#[test]
fn a_notice_takes_the_place_of_the_keys() {
    let view = View {
        notice: Some("cannot read `x`:\u{1b}[2J gone".into()),
        ..View::default()
    };
    let frame = shown(&empty(), &view, 80, 24);
    assert!(
        frame.contains("cannot read `x`:\u{fffd}[2J gone"),
        "{frame}"
    );
}

#[test]
fn colours_add_nothing_to_the_text_and_are_absent_on_request() {
    let coloured = View {
        is_coloured: true,
        ..View::default()
    };
    let (with, _) = frame(&running(40), &coloured, 120, 40);
    let (without, _) = frame(&running(40), &View::default(), 120, 40);
    assert_eq!(text(&with), text(&without));
    let has_colour = |buffer: &Buffer| {
        let cells = buffer.content().iter();
        cells
            .filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
            .count()
    };
    assert!(has_colour(&with) > 50);
    assert_eq!(has_colour(&without), 0);
}
