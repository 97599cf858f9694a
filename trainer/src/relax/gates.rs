//! From the probabilities of all choices to the gates of the relaxed network.
//!
//! | part | its gate |
//! |--|--|
//! | channel c | the probability that there are more than c channels, over filters and all widening factors on the way |
//! | block k | the probability that the group has at least k blocks; the first is always there |
//! | branch j | the mean of 1/n over all numbers n of branches that are at least j, as n branches are averaged |
//! | ring of a kernel | the probability that the kernel is that large |
//!
//! A gate is a sum of products with one probability of each choice, of those it depends on, as a factor. So its derivative by
//! the probability of a level is the gate itself where that level is certain, and no chain rule has to be written down. Gates
//! that do not depend on a choice add the same to the derivatives of all its levels, which changes nothing: probabilities of a
//! choice have the sum 1.

use std::collections::BTreeMap;

use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;

use super::choices::{Choices, FILTERS, KERNEL, widened};

/// The probability of each level of each choice. `[choices][levels]`
pub(super) type Probabilities = Vec<Vec<f64>>;

/// All gates of a relaxed network, as numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Gates {
    /// Of kernels, row by row; empty where all kernels are of one size. `[kernel · kernel]`
    pub(super) kernel: Vec<f64>,
    /// Of the channels behind the stem.
    pub(super) stem: Vec<f64>,
    /// Of the groups.
    pub(super) groups: Vec<GroupGates>,
}

/// The gates of a group.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct GroupGates {
    /// `[channels]`
    pub(super) channels: Vec<f64>,
    /// Block's and branch's gate in one. `[blocks · branches]`
    pub(super) branches: Vec<f64>,
}

impl Gates {
    /// One after the other: kernel, stem, and for each group channels and branches.
    pub(super) fn flat(&self) -> Vec<f64> {
        let groups = self
            .groups
            .iter()
            .flat_map(|group| group.channels.iter().chain(&group.branches));
        let all = self.kernel.iter().chain(&self.stem).chain(groups);
        all.copied().collect()
    }
}

/// The gates that probabilities lead to.
pub(super) fn gates(choices: &Choices, probabilities: &Probabilities) -> Gates {
    let levels = |place: usize| {
        let probabilities = probabilities[place].iter().copied();
        choices.all[place].wholes().into_iter().zip(probabilities)
    };
    let largest = &choices.largest;
    let mut widths: BTreeMap<usize, f64> = levels(FILTERS).collect();
    let stem = more_than(&widths, largest.initial_filters);
    let sizes = largest.groups.iter();
    let groups = choices.groups.iter().zip(sizes).map(|(group, size)| {
        let factors = choices.all[group.widening].reals();
        let mut wider = BTreeMap::new();
        for (&channels, before) in &widths {
            for (&factor, probability) in factors.iter().zip(&probabilities[group.widening]) {
                *wider.entry(widened(channels, factor)).or_insert(0.0) += before * probability;
            }
        }
        widths = wider;
        let blocks = more_than(&levels(group.blocks).collect(), size.blocks);
        let branches: Vec<f64> = (0..size.branches)
            .map(|branch| {
                let has_it = levels(group.branches).filter(|(number, _)| *number > branch);
                has_it.map(|(number, p)| p / number as f64).sum()
            })
            .collect();
        let of_block = |gate: f64| branches.iter().map(move |branch| gate * branch);
        GroupGates {
            channels: more_than(&widths, size.channels),
            branches: blocks.into_iter().flat_map(of_block).collect(),
        }
    });
    Gates {
        groups: groups.collect(),
        kernel: kernel(&levels(KERNEL), largest.kernel),
        stem,
    }
}

/// The derivative of a sum by each probability, from its derivative by each gate.
///
/// # Shapes
/// - `by_gate`: as [`Gates::flat`]
/// - output: `[choices][levels]`
pub(super) fn by_probability(
    choices: &Choices,
    probabilities: &Probabilities,
    by_gate: &[f64],
) -> Probabilities {
    let mut certain = probabilities.clone();
    let places = 0..choices.all.len();
    places
        .map(|place| {
            let number = choices.all[place].levels.len();
            if number < 2 {
                return vec![0.0; number];
            }
            let derivatives = (0..number)
                .map(|level| {
                    certain[place] = one_hot(level, number);
                    let gates = gates(choices, &certain).flat();
                    gates.iter().zip(by_gate).map(|(gate, by)| gate * by).sum()
                })
                .collect();
            certain[place].clone_from(&probabilities[place]);
            derivatives
        })
        .collect()
}

/// One level of each choice, drawn from its probabilities, as one that is certain.
pub(super) fn draw(probabilities: &Probabilities, rng: &mut ChaCha12Rng) -> Probabilities {
    let of_choice = |probabilities: &Vec<f64>| {
        let mut left: f64 = rng.random();
        let is_last = |&p: &f64| {
            left -= p;
            left < 0.0
        };
        let number = probabilities.len();
        let level = probabilities.iter().position(is_last);
        one_hot(level.unwrap_or(number - 1), number) // their sum is 1 but for rounding
    };
    probabilities.iter().map(of_choice).collect()
}

/// All of the probability on one level.
pub(super) fn one_hot(level: usize, number: usize) -> Vec<f64> {
    (0..number)
        .map(|other| f64::from(u8::from(other == level)))
        .collect()
}

/// The probability that a number is more than 0, 1, 2, …
fn more_than(numbers: &BTreeMap<usize, f64>, most: usize) -> Vec<f64> {
    let is_more = |index: usize| numbers.range(index + 1..).map(|(_, p)| p).sum();
    (0..most).map(is_more).collect()
}

/// The gates of a kernel's values by their ring.
fn kernel(levels: &(impl Iterator<Item = (usize, f64)> + Clone), side: usize) -> Vec<f64> {
    if levels.clone().count() < 2 {
        return Vec::new();
    }
    let middle = side / 2;
    let ring = |place: usize| {
        (place / side)
            .abs_diff(middle)
            .max((place % side).abs_diff(middle))
    };
    let gate = |place: usize| {
        let has_it = levels.clone().filter(|(level, _)| level / 2 >= ring(place));
        has_it.map(|(_, probability)| probability).sum()
    };
    (0..side * side).map(gate).collect()
}
