//! The allowed part of a space as a decision diagram: how large it is, how many configurations it has, exact draws.
//!
//! The sets of values that forbidden combinations and conditions name cut the range of every hyperparameter into parts;
//! parts that are in the same sets are one. Hyperparameters are decided one after the other, and a node stands for all
//! ways to decide those before it that leave the same combinations begun and the same conditions met. Summed from the
//! last to the first, the nodes say which share of the draws is allowed, and how many configurations there are:
//!
//! ```text
//! mass(node)  = Σ over its parts   probability of the part · mass(the node it leads to)      count likewise
//! draw        from the root: a part with probability ∝ its mass, a value within, and so on
//! ```
//! so a draw has exactly the distribution of draws from the whole space of which the forbidden ones are thrown away,
//! however few are left.
//!
//! Range of validity: any space. Counting is as hard as deciding whether a formula can be true, so a diagram of more
//! than [`MOST_NODES`] nodes is not built. Values of a float that have probability 0, such as the two ends that two
//! ranges leave between them, are left out.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt as _;

use super::clause::{Clause, Set, Term};
use super::{Condition, Kind, SearchSpace};
use crate::value::{Configuration, Value};

/// Nodes of a diagram at most: a tenth of a second.
const MOST_NODES: usize = 50_000;

/// The allowed part of a space.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Diagram {
    /// The hyperparameters, by index in the space, in the order in which they are decided; parents before children.
    order: Vec<usize>,
    /// The parts of each hyperparameter's range, by index in the space.
    parts: Vec<Vec<Part>>,
    /// The nodes of each decision, in its order; the first layer is the root.
    layers: Vec<Vec<Node>>,
}

/// Values that are in the same sets.
#[derive(Debug, Clone, PartialEq)]
struct Part {
    pieces: Vec<Piece>,
    /// In which of the hyperparameter's sets they are.
    is_in: Vec<bool>,
}

/// Values next to each other.
#[derive(Debug, Clone, PartialEq)]
enum Piece {
    /// Floats between two coordinates.
    Floats { from: f64, to: f64 },
    /// Whole numbers, both ends included, and the coordinates that stand for them.
    Integers {
        first: i64,
        last: i64,
        from: f64,
        to: f64,
    },
    /// One of so many levels, or a constant.
    Level { level: usize, levels: usize },
}

/// What is left to decide.
#[derive(Debug, Clone, PartialEq, Default)]
struct Node {
    edges: Vec<Edge>,
    mass: f64,
    count: f64,
}

/// One decision.
#[derive(Debug, Clone, PartialEq)]
struct Edge {
    /// The part; `None` where the hyperparameter is inactive.
    part: Option<usize>,
    /// The node of the next layer.
    to: usize,
    mass: f64,
    count: f64,
}

/// What earlier decisions mean for later ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Open {
    /// Forbidden combinations that have begun to hold.
    begun: Vec<usize>,
    /// What holds of the conditions of hyperparameters still to be decided: these, and numbers of their terms.
    met: Vec<(usize, usize)>,
}

impl Piece {
    /// The probability of a draw.
    fn mass(&self) -> f64 {
        match self {
            Self::Floats { from, to } | Self::Integers { from, to, .. } => to - from,
            Self::Level { levels, .. } => 1.0 / *levels as f64,
        }
    }

    /// How many values.
    fn count(&self) -> f64 {
        match self {
            Self::Floats { .. } => f64::INFINITY,
            Self::Integers { first, last, .. } => (last - first) as f64 + 1.0,
            Self::Level { .. } => 1.0,
        }
    }

    /// A coordinate drawn in proportion to probability.
    fn draw(&self, rng: &mut impl rand::Rng) -> f64 {
        match self {
            Self::Floats { from, to } | Self::Integers { from, to, .. } => {
                from + rng.random::<f64>() * (to - from)
            }
            Self::Level { level, .. } => *level as f64,
        }
    }

    /// A coordinate of a value drawn evenly.
    fn draw_evenly(&self, kind: &Kind, rng: &mut impl rand::Rng) -> f64 {
        match self {
            Self::Integers { first, last, .. } => {
                kind.coordinate(rng.random_range(*first..=*last) as f64)
            }
            Self::Floats { .. } | Self::Level { .. } => self.draw(rng),
        }
    }

    /// All values; those of floats cannot be listed.
    fn values(&self, kind: &Kind) -> Vec<Value> {
        match self {
            Self::Floats { .. } => Vec::new(),
            Self::Integers { first, last, .. } => (*first..=*last).map(Value::Integer).collect(),
            Self::Level { level, .. } => vec![kind.level(*level)],
        }
    }
}

impl Part {
    fn mass(&self) -> f64 {
        self.pieces.iter().map(Piece::mass).sum()
    }

    fn count(&self) -> f64 {
        self.pieces.iter().map(Piece::count).sum()
    }
}

impl Diagram {
    /// The diagram of a space whose hyperparameters and combinations are in place; `None` if it would be too large.
    pub(super) fn new(space: &SearchSpace) -> Option<Self> {
        let order = order(space);
        let number = space.hyperparameters.len();
        let children: Vec<Vec<Child<'_>>> =
            (0..number).map(|parent| children(space, parent)).collect();
        let clauses: Vec<Vec<usize>> = (0..number).map(|index| clauses(space, index)).collect();
        let parts = (0..number)
            .map(|index| parts(space, index, &clauses[index], &children[index]))
            .collect();
        let mut diagram = Self {
            order,
            parts,
            layers: Vec::new(),
        };
        let (first, last) = diagram.ends_of_clauses(space);
        let mut open = vec![Open::default()];
        let mut num_nodes = 0;
        for place in 0..diagram.order.len() {
            let index = diagram.order[place];
            let mut next: BTreeMap<Open, usize> = BTreeMap::new();
            let mut layer = Vec::new();
            for before in &open {
                let condition = space.hyperparameters[index].condition.as_ref();
                let is_active = condition.is_none_or(|condition| {
                    condition.is_met_by(|term| before.met.contains(&(index, term)))
                });
                let parts = &diagram.parts[index];
                let choices = (0..parts.len()).map(Some).filter(|_| is_active);
                let mut edges = Vec::new();
                for part in choices.chain((!is_active).then_some(None)) {
                    let is_in = part.map(|part| &parts[part].is_in[..]);
                    let holds = |set: usize| is_in.is_some_and(|is_in| is_in[set]);
                    let Some(after) = before.decide(
                        index,
                        (&clauses[index], &children[index]),
                        (&first, &last),
                        holds,
                    ) else {
                        continue;
                    };
                    let number = next.len();
                    let to = *next.entry(after).or_insert(number);
                    edges.push(Edge {
                        part,
                        to,
                        mass: 0.0,
                        count: 0.0,
                    });
                }
                layer.push(Node {
                    edges,
                    ..Node::default()
                });
            }
            num_nodes += next.len();
            if num_nodes > MOST_NODES {
                return None;
            }
            let mut states: Vec<(Open, usize)> = next.into_iter().collect();
            states.sort_unstable_by_key(|(_, number)| *number);
            open = states.into_iter().map(|(state, _)| state).collect();
            diagram.layers.push(layer);
        }
        diagram.sum();
        Some(diagram)
    }

    /// The decision at which each combination begins and that at which it is complete, as indices in the space.
    fn ends_of_clauses(&self, space: &SearchSpace) -> (Vec<usize>, Vec<usize>) {
        let place = |index: usize| self.order.iter().position(|other| *other == index);
        let end = |clause: &Clause, is_last: bool| {
            let indices = clause.terms().iter().map(Term::index);
            let end = if is_last {
                indices.max_by_key(|index| place(*index))
            } else {
                indices.min_by_key(|index| place(*index))
            };
            end.expect("a combination has a hyperparameter")
        };
        let clauses = || space.forbidden.iter();
        (
            clauses().map(|clause| end(clause, false)).collect(),
            clauses().map(|clause| end(clause, true)).collect(),
        )
    }

    /// From the last decision to the first: masses and counts.
    fn sum(&mut self) {
        let terminal = vec![Node {
            edges: Vec::new(),
            mass: 1.0,
            count: 1.0,
        }];
        for place in (0..self.layers.len()).rev() {
            let (layers, later) = self.layers.split_at_mut(place + 1);
            let next = later.first().unwrap_or(&terminal);
            let parts = &self.parts[self.order[place]];
            for node in &mut layers[place] {
                for edge in &mut node.edges {
                    let (mass, count) = edge
                        .part
                        .map_or((1.0, 1.0), |part| (parts[part].mass(), parts[part].count()));
                    let to = &next[edge.to];
                    edge.mass = mass * to.mass;
                    // Infinite or none: 0 times infinity is neither.
                    edge.count = if to.count > 0.0 {
                        count * to.count
                    } else {
                        0.0
                    };
                }
                node.edges.retain(|edge| edge.count > 0.0);
                node.mass = node.edges.iter().map(|edge| edge.mass).sum();
                node.count = node.edges.iter().map(|edge| edge.count).sum();
            }
        }
    }

    fn root(&self) -> &Node {
        &self.layers[0][0] // a space has a hyperparameter
    }

    /// The share of draws that is allowed.
    pub(super) fn mass(&self) -> f64 {
        self.root().mass
    }

    /// How many configurations are allowed; infinite where a float varies.
    pub(super) fn count(&self) -> f64 {
        self.root().count
    }

    /// Puts the coordinates of an allowed draw in place of those of any other draw; `is_even`: every configuration is
    /// equally likely, instead of every draw.
    pub(super) fn draw(
        &self,
        space: &SearchSpace,
        vector: &mut [f64],
        is_even: bool,
        rng: &mut impl rand::Rng,
    ) {
        let mut at = 0;
        for (index, layer) in self.order.iter().zip(&self.layers) {
            let node = &layer[at];
            let weights = node.edges.iter().map(|edge| (edge.mass, edge.count));
            let Some(edge) = choose(weights, is_even, rng) else {
                return; // nothing is allowed
            };
            let edge = &node.edges[edge];
            at = edge.to;
            let dimension = space.dimensions.binary_search(index);
            let (Some(part), Ok(dimension)) = (edge.part, dimension) else {
                continue;
            };
            let pieces = &self.parts[*index][part].pieces;
            let weights = pieces.iter().map(|piece| (piece.mass(), piece.count()));
            let piece = choose(weights, is_even, rng).map_or(&pieces[0], |piece| &pieces[piece]);
            let kind = &space.hyperparameters[*index].kind;
            vector[dimension] = if is_even {
                piece.draw_evenly(kind, rng)
            } else {
                piece.draw(rng)
            };
        }
    }

    /// All allowed configurations, of a space without floats.
    pub(super) fn all(&self, space: &SearchSpace) -> Vec<Configuration> {
        let mut all = vec![(0, Configuration::default())];
        for (index, layer) in self.order.iter().zip(&self.layers) {
            let hyperparameter = &space.hyperparameters[*index];
            let mut next = Vec::with_capacity(all.len());
            for (at, configuration) in all {
                for edge in &layer[at].edges {
                    let Some(part) = edge.part else {
                        next.push((edge.to, configuration.clone()));
                        continue;
                    };
                    for piece in &self.parts[*index][part].pieces {
                        for value in piece.values(&hyperparameter.kind) {
                            let mut configuration = configuration.clone();
                            configuration.set(hyperparameter.name.as_str(), value);
                            next.push((edge.to, configuration));
                        }
                    }
                }
            }
            all = next;
        }
        all.into_iter()
            .map(|(_, configuration)| configuration)
            .collect()
    }
}

impl Open {
    /// What is open after a hyperparameter is decided; `None` if a forbidden combination holds then.
    ///
    /// `holds` says whether the decision is in a set; its sets are those of its combinations, then of its children.
    fn decide(
        &self,
        index: usize,
        (clauses, children): (&[usize], &[Child<'_>]),
        (first, last): (&[usize], &[usize]),
        holds: impl Fn(usize) -> bool,
    ) -> Option<Self> {
        let mut after = self.clone();
        after.met.retain(|(child, _)| *child != index);
        for (set, clause) in clauses.iter().enumerate() {
            let is_begun = first[*clause] == index || after.begun.contains(clause);
            after.begun.retain(|other| other != clause);
            if is_begun && holds(set) {
                if last[*clause] == index {
                    return None;
                }
                after.begun.push(*clause);
            }
        }
        let met = children.iter().enumerate();
        let met = met.filter(|(set, _)| holds(clauses.len() + set));
        after
            .met
            .extend(met.map(|(_, child)| (child.index, child.number)));
        after.begun.sort_unstable();
        after.met.sort_unstable();
        Some(after)
    }
}

/// One of several, in proportion to mass or, evenly, to count; where counts are infinite, those among them by mass.
fn choose(
    weights: impl Iterator<Item = (f64, f64)>,
    is_even: bool,
    rng: &mut impl rand::Rng,
) -> Option<usize> {
    let weights: Vec<(f64, f64)> = weights.collect();
    let has_infinite = weights.iter().any(|(_, count)| count.is_infinite());
    let weight = |(mass, count): &(f64, f64)| match (is_even, has_infinite) {
        (false, _) => *mass,
        (true, false) => *count,
        (true, true) if count.is_infinite() => mass.max(f64::MIN_POSITIVE),
        (true, true) => 0.0,
    };
    let sum: f64 = weights.iter().map(weight).sum();
    let mut rest = rng.random::<f64>() * sum;
    let drawn = weights.iter().position(|pair| {
        rest -= weight(pair);
        rest < 0.0
    });
    // By rounding, nothing may be left of the rest: the last one that can be drawn.
    drawn.or_else(|| weights.iter().rposition(|pair| weight(pair) > 0.0))
}

/// What the condition of a hyperparameter says of one that it depends on.
#[derive(Debug, Clone, Copy)]
struct Child<'a> {
    /// The hyperparameter with the condition.
    index: usize,
    /// Which of the condition's terms.
    number: usize,
    term: &'a Term,
}

/// What conditions say of this hyperparameter.
fn children(space: &SearchSpace, parent: usize) -> Vec<Child<'_>> {
    let conditions = space.hyperparameters.iter().enumerate();
    conditions
        .flat_map(|(index, h)| {
            let terms = h.condition.iter().flat_map(Condition::terms).enumerate();
            terms.map(move |(number, term)| Child {
                index,
                number,
                term,
            })
        })
        .filter(|child| child.term.index() == parent)
        .collect()
}

/// The combinations that name this hyperparameter.
fn clauses(space: &SearchSpace, index: usize) -> Vec<usize> {
    let clauses = space.forbidden.iter().enumerate();
    clauses
        .filter(|(_, clause)| clause.terms().iter().any(|term| term.index() == index))
        .map(|(number, _)| number)
        .collect()
}

/// An order in which few combinations are begun at a time: always the hyperparameter next that leaves the fewest open.
fn order(space: &SearchSpace) -> Vec<usize> {
    let number = space.hyperparameters.len();
    let involved: Vec<BTreeSet<usize>> = space
        .forbidden
        .iter()
        .map(|clause| {
            let indices = clause.terms().iter().map(Term::index);
            indices.collect()
        })
        .collect();
    let of_index: Vec<Vec<usize>> = (0..number).map(|index| clauses(space, index)).collect();
    let mut missing: Vec<usize> = involved.iter().map(BTreeSet::len).collect();
    let mut is_decided = vec![false; number];
    let mut order = Vec::with_capacity(number);
    // Deciding this one opens some combinations and completes others; a parent with children left is open as well.
    while order.len() < number {
        let can_be_next = |index: &usize| {
            let condition = space.hyperparameters[*index].condition.as_ref();
            let mut terms = condition.into_iter().flat_map(Condition::terms);
            !is_decided[*index] && terms.all(|term| is_decided[term.index()])
        };
        let opened = |index: &usize| {
            let change = |clause: &usize| {
                let total = involved[*clause].len();
                let opens = i64::from(missing[*clause] == total);
                let completes = i64::from(missing[*clause] == 1);
                opens - completes
            };
            let has_parent = space.hyperparameters[*index].condition.is_some();
            of_index[*index].iter().map(change).sum::<i64>() - i64::from(has_parent)
        };
        let next = (0..number)
            .filter(can_be_next)
            .min_by_key(|index| (opened(index), *index))
            .expect("parents stand above their children");
        is_decided[next] = true;
        for clause in &of_index[next] {
            missing[*clause] -= 1;
        }
        order.push(next);
    }
    order
}

/// A hyperparameter's range, cut up by the sets that its combinations and its children's conditions name.
fn parts(
    space: &SearchSpace,
    index: usize,
    clauses: &[usize],
    children: &[Child<'_>],
) -> Vec<Part> {
    let kind = &space.hyperparameters[index].kind;
    let of_clauses = clauses.iter().map(|clause| {
        let mut terms = space.forbidden[*clause].terms().iter();
        let term = terms.find(|term| term.index() == index);
        term.expect("the combination names it").set().clone()
    });
    let of_children = children.iter().map(|child| child.term.set().clone());
    let sets: Vec<Set> = of_clauses.chain(of_children).collect();
    let mut parts: Vec<Part> = Vec::new();
    for (piece, is_in) in pieces(kind, &sets) {
        match parts.iter_mut().find(|part| part.is_in == is_in) {
            Some(part) => part.pieces.push(piece),
            None => parts.push(Part {
                pieces: vec![piece],
                is_in,
            }),
        }
    }
    parts
}

/// The pieces between all ends of the sets, each with the sets that it is in.
fn pieces(kind: &Kind, sets: &[Set]) -> Vec<(Piece, Vec<bool>)> {
    let is_within = |from: f64, to: f64| -> Vec<bool> {
        let is_in = |set: &Set| {
            let mut intervals = set.intervals().iter();
            intervals.any(|(a, b)| *a <= from && to <= *b)
        };
        sets.iter().map(is_in).collect()
    };
    let ends = || sets.iter().flat_map(|set| set.intervals().iter().copied());
    match kind {
        Kind::Float { lower, upper, .. } => {
            let mut cuts: Vec<f64> = ends().flat_map(|(a, b)| [a, b]).collect();
            cuts.extend([*lower, *upper]);
            cuts.sort_unstable_by(f64::total_cmp);
            cuts.dedup_by(|a, b| a.total_cmp(b).is_eq());
            let pairs = cuts.windows(2).map(|pair| (pair[0], pair[1]));
            pairs
                .map(|(a, b)| {
                    let (from, to) = (kind.coordinate(a), kind.coordinate(b));
                    (Piece::Floats { from, to }, is_within(a, b))
                })
                .filter(|(piece, _)| piece.mass() > 0.0)
                .collect()
        }
        Kind::Integer { lower, upper, .. } => {
            let mut firsts: Vec<i64> = ends()
                .flat_map(|(a, b)| [whole(a.ceil()), whole(b.floor()) + 1])
                .filter(|first| first > lower && first <= upper)
                .collect();
            firsts.push(*lower);
            firsts.sort_unstable();
            firsts.dedup();
            let lasts = firsts.iter().skip(1).map(|next| next - 1).chain([*upper]);
            let pairs = firsts.iter().copied().zip(lasts);
            pairs
                .map(|(first, last)| {
                    let piece = Piece::Integers {
                        first,
                        last,
                        from: kind.coordinate(first as f64 - 0.5).max(0.0),
                        to: kind.coordinate(last as f64 + 0.5).min(1.0),
                    };
                    (piece, is_within(first as f64, last as f64))
                })
                .collect()
        }
        Kind::Ordinal { .. } | Kind::Categorical { .. } | Kind::Constant { .. } => {
            let levels = kind.num_levels().unwrap_or(1);
            (0..levels)
                .map(|level| {
                    let is_in = sets.iter().map(|set| set.has_level(level)).collect();
                    (Piece::Level { level, levels }, is_in)
                })
                .collect()
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "ends of sets are values of the hyperparameter, within ±2^52"
)]
fn whole(x: f64) -> i64 {
    x as i64
}

#[cfg(test)]
mod tests;
