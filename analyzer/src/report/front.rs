//! Several objectives: the front beside what it dominates, each further objective against the loss.

use super::{Facts, PANEL_HEIGHT, PANEL_WIDTH, Section};
use crate::front::Front;
use crate::plot::{Frame, Ink, Point, Scale, Scene};
use crate::trajectory::At;
use crate::wording::{count, significant};

/// `None` for a search of one objective.
pub(super) fn section(facts: &Facts<'_>) -> Option<Section> {
    let history = facts.history;
    let objectives = &history.search.as_ref()?.objectives;
    if objectives.is_empty() {
        return None;
    }
    let section = Section::new("front", "What can be had of each objective?");
    let front = Front::new(history, objectives, At::Reached, None);
    let Some((_, first)) = front.results(history).next() else {
        return Some(section.say("No result has all objectives yet."));
    };
    let names: Vec<String> = objectives
        .iter()
        .zip(first)
        .map(|(name, x)| format!("{name} {}", significant(*x, 4)))
        .collect();
    let mut section = section.say(format!(
        "{} of {} are dominated by none; they dominate a volume of {} up to the worst values. The one with the smallest \
         loss has {}.",
        front.members.len(),
        count(front.all.len(), "result"),
        significant(front.hypervolume, 4),
        names.join(", "),
    ));
    for objective in 1..objectives.len() {
        section.figures.extend(panel(&front, objective));
    }
    Some(section)
}

fn panel(front: &Front, objective: usize) -> Option<Scene> {
    let name = &front.objectives[objective];
    let points: Vec<Point> = front
        .all
        .iter()
        .map(|(_, values)| (values[objective], values[0]))
        .collect();
    let mut scene = Scene::new(
        PANEL_WIDTH,
        PANEL_HEIGHT,
        format!("Front of loss and {name}"),
    );
    let frame = Frame {
        from: (62.0, 10.0),
        to: (PANEL_WIDTH - 12.0, PANEL_HEIGHT - 40.0),
        x: Scale::fitting(points.iter().map(|point| point.0))?,
        y: Scale::fitting(points.iter().map(|point| point.1))?,
    };
    frame.draw_axes(&mut scene, name, "loss");
    let place = |point: &Point| frame.at(point.0, point.1);
    scene.dots(points.iter().map(place), Ink::Muted, 4.0, 0.5);
    let members: Vec<Point> = front.members.iter().map(|place| points[*place]).collect();
    if front.objectives.len() == 2 {
        // By loss: from one member to the next the other objective falls, then the loss rises.
        let mut stairs: Vec<Point> = Vec::new();
        for member in &members {
            if let Some(last) = stairs.last().copied() {
                stairs.push((last.0, member.1));
            }
            stairs.push(*member);
        }
        scene.line(stairs.iter().map(place).collect(), Ink::Series(0), 1.5);
    }
    scene.dots(members.iter().map(place), Ink::Series(0), 6.0, 1.0);
    Some(scene)
}
