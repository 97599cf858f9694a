//! Which runs: all within a bound, or by chance beyond it.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;
use shared::{JobId, Seed};

use crate::programs::Role;
use crate::run::{Calm, Chooser, Interleaving, Report, Run, whole};
use crate::tree::Tree;
use crate::world::{Order, Setting};

/// Disturbances at chosen places: which call that can be disturbed, counted from 0, and how.
pub(crate) struct Script<'a> {
    disturbances: &'a [(usize, usize)],
    position: usize,
    /// How many alternatives there were at each place.
    widths: Vec<usize>,
}

impl<'a> Script<'a> {
    pub(crate) fn new(disturbances: &'a [(usize, usize)]) -> Self {
        Self {
            disturbances,
            position: 0,
            widths: Vec::new(),
        }
    }
}

impl Chooser for Script<'_> {
    fn choose(&mut self, alternatives: &[Order], _key: &dyn Fn() -> u64) -> Order {
        let here = self.position;
        self.position += 1;
        self.widths.push(alternatives.len());
        let chosen = self.disturbances.iter().find(|(place, _)| *place == here);
        alternatives[chosen.map_or(0, |(_, how)| *how)]
    }
}

/// Disturbances by chance.
pub(crate) struct Chance {
    rng: ChaCha12Rng,
    share: f64,
    left: u32,
}

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Seed::new(seed).child("model", "chance").rng();
        Self {
            share: [0.003, 0.01, 0.03, 0.1][rng.random_range(0..4)],
            left: rng.random_range(3..60),
            rng,
        }
    }
}

impl Chooser for Chance {
    fn choose(&mut self, alternatives: &[Order], _key: &dyn Fn() -> u64) -> Order {
        if self.left == 0 || !self.rng.random_bool(self.share) {
            return alternatives[0];
        }
        self.left -= 1;
        alternatives[self.rng.random_range(1..alternatives.len())]
    }
}

/// Every order of calls, depth first; what leads to a state that was seen is given up.
struct DepthFirst {
    choices: Vec<(usize, usize)>,
    depth: usize,
    seen: BTreeSet<u64>,
    interleaving: Interleaving,
    is_abandoned: bool,
}

impl Chooser for DepthFirst {
    fn choose(&mut self, alternatives: &[Order], key: &dyn Fn() -> u64) -> Order {
        if self.depth == self.choices.len() {
            if !self.seen.insert(key()) {
                self.is_abandoned = true;
                return Order::Abandon;
            }
            self.choices.push((0, alternatives.len()));
        }
        let (chosen, _) = self.choices[self.depth];
        self.depth += 1;
        alternatives[chosen]
    }

    fn interleaving(&self) -> Option<Interleaving> {
        Some(self.interleaving)
    }
}

impl DepthFirst {
    /// The next path; false if there is none.
    fn next(&mut self) -> bool {
        self.depth = 0;
        self.is_abandoned = false;
        while let Some((chosen, width)) = self.choices.pop() {
            if chosen + 1 < width {
                self.choices.push((chosen + 1, width));
                return true;
            }
        }
        false
    }
}

/// What was explored.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Extent {
    pub(crate) runs: u64,
    pub(crate) states: u64,
    pub(crate) ends: u64,
    pub(crate) calls: u64,
    pub(crate) is_complete: bool,
}

impl Extent {
    fn add(&mut self, report: &Report) {
        self.runs += 1;
        self.calls += report.calls;
    }
}

/// A directory, who works on it, and what must come out.
pub(crate) struct Scene {
    pub(crate) tree: Tree,
    pub(crate) setting: Setting,
    pub(crate) expected: BTreeMap<JobId, Option<f64>>,
    /// What somebody wishes beyond the search file.
    pub(crate) wish: Option<Role>,
}

impl Scene {
    /// The scene at the start of a search, and the calm run that others are compared with.
    pub(crate) fn new(tree: Tree, setting: Setting) -> (Self, Report) {
        let report = whole(&tree, setting, &mut Calm, None, false, None);
        let scene = Self {
            expected: report.losses.clone(),
            tree,
            setting,
            wish: None,
        };
        (scene, report)
    }

    fn run(&self, chooser: &mut dyn Chooser, is_traced: bool) -> Report {
        whole(
            &self.tree,
            self.setting,
            chooser,
            Some(&self.expected),
            is_traced,
            self.wish,
        )
    }

    /// Whole searches with up to `most` disturbances, all there are.
    ///
    /// # Errors
    /// The first run in which something was violated, with all its calls.
    pub(crate) fn disturb(&self, most: usize, part: (usize, usize)) -> Result<Extent, String> {
        let mut extent = Extent {
            is_complete: true,
            ..Extent::default()
        };
        self.disturb_after(&mut Vec::new(), most, part, &mut extent)?;
        Ok(extent)
    }

    fn disturb_after(
        &self,
        disturbances: &mut Vec<(usize, usize)>,
        most: usize,
        part: (usize, usize),
        extent: &mut Extent,
    ) -> Result<(), String> {
        let mut script = Script::new(disturbances);
        let report = self.run(&mut script, false);
        extent.add(&report);
        let widths = script.widths;
        if !report.violations.is_empty() {
            let traced = self.run(&mut Script::new(disturbances), true);
            return Err(complaint(&format!("{disturbances:?}"), &traced));
        }
        if disturbances.len() == most {
            return Ok(());
        }
        let first = disturbances.last().map_or(0, |(place, _)| place + 1);
        for (place, width) in widths.iter().enumerate().skip(first) {
            if disturbances.is_empty() && place % part.1 != part.0 {
                continue;
            }
            for how in 1..*width {
                disturbances.push((place, how));
                self.disturb_after(disturbances, most, part, extent)?;
                disturbances.pop();
            }
        }
        Ok(())
    }

    /// Whole searches with disturbances by chance.
    ///
    /// # Errors
    /// As [`disturb`](Self::disturb).
    pub(crate) fn by_chance(&self, seeds: std::ops::Range<u64>) -> Result<Extent, String> {
        let mut extent = Extent::default();
        for seed in seeds {
            let report = self.run(&mut Chance::new(seed), false);
            extent.add(&report);
            if !report.violations.is_empty() {
                let traced = self.run(&mut Chance::new(seed), true);
                return Err(complaint(&format!("seed {seed}"), &traced));
            }
        }
        Ok(extent)
    }

    /// Every order of the calls of these programs, up to `most_runs`; from each state in which they end, the search is
    /// finished by others.
    ///
    /// # Errors
    /// As [`disturb`](Self::disturb).
    pub(crate) fn interleave(
        &self,
        roles: &[Role],
        interleaving: Interleaving,
        most_runs: u64,
    ) -> Result<Extent, String> {
        let mut paths = DepthFirst {
            choices: Vec::new(),
            depth: 0,
            seen: BTreeSet::new(),
            interleaving,
            is_abandoned: false,
        };
        let mut ends = BTreeSet::new();
        let mut extent = Extent::default();
        loop {
            let mut run = Run::new(self.tree.clone(), self.setting, roles, false);
            run.go(&mut paths);
            extent.runs += 1;
            extent.calls += run.world.calls();
            let mut violations = run.violations();
            if !paths.is_abandoned && ends.insert(run.world.digest()) && violations.is_empty() {
                let rest = whole(
                    &run.world.tree(),
                    self.setting,
                    &mut Calm,
                    Some(&self.expected),
                    false,
                    self.wish,
                );
                extent.calls += rest.calls;
                violations = rest.violations;
                // What the scene has cost is no fault of the rest.
                violations.retain(|violation| !violation.contains("although nobody stood still"));
            }
            if !violations.is_empty() {
                paths.depth = 0;
                let mut traced = Run::new(self.tree.clone(), self.setting, roles, true);
                traced.go(&mut paths);
                let trace = traced.world.trace().join("\n");
                return Err(format!("{violations:#?}\n{:?}\n{trace}", paths.choices));
            }
            extent.states = paths.seen.len() as u64;
            extent.ends = ends.len() as u64;
            if !paths.next() {
                extent.is_complete = true;
                return Ok(extent);
            }
            if extent.runs >= most_runs {
                return Ok(extent);
            }
        }
    }
}

fn complaint(what: &str, report: &Report) -> String {
    format!(
        "{what}: {:#?}\n{}",
        report.violations,
        report.trace.join("\n")
    )
}
