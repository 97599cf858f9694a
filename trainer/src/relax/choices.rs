//! What is relaxed of a search space: the hyperparameters of the network's size, and the values that are weighed against
//! each other.

use data::ImageShape;
use shared::error::Invalid;
use shared::space::{Hyperparameter, Kind};
use shared::{Configuration, SearchSpace, Value};

use crate::hyperparameters::{self, TrainingConfig, default_widening, widen};
use crate::network::{GroupConfig, NetworkConfig};

/// Most values of a whole number that are weighed against each other.
const MOST_WHOLE: usize = 8;
/// Most values of a real number.
const MOST_REAL: usize = 5;
/// Part of the architecture, but held fast: groups of other sizes are other networks.
const GROUPS: &str = "groups";

/// One hyperparameter of the architecture.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choice {
    /// Its name.
    pub(super) name: String,
    /// The values that are weighed against each other, ascending; a single one where nothing is to be decided.
    pub(super) levels: Vec<Value>,
}

impl Choice {
    /// The levels as real numbers.
    pub(super) fn reals(&self) -> Vec<f64> {
        let real = |level: &Value| level.as_f64().unwrap_or(1.0); // numbers, see `Choices::new`
        self.levels.iter().map(real).collect()
    }

    /// The levels as whole numbers.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the network has read them as whole numbers from 1 to 10⁶"
    )]
    pub(super) fn wholes(&self) -> Vec<usize> {
        self.reals().into_iter().map(|x| x as usize).collect()
    }
}

/// The choices of a group of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupChoices {
    /// Where among all choices the number of blocks is.
    pub(super) blocks: usize,
    /// Where the number of branches is.
    pub(super) branches: usize,
    /// Where the factor is by which the group is wider than what it is given.
    pub(super) widening: usize,
}

/// Where among all choices that of the filters is.
pub(super) const FILTERS: usize = 0;
/// Where that of the kernels is.
pub(super) const KERNEL: usize = 1;

/// All that is relaxed of a search space, and what is held fast meanwhile.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choices {
    /// The choices, [`FILTERS`] and [`KERNEL`] first.
    pub(super) all: Vec<Choice>,
    /// The groups, from the image to the head.
    pub(super) groups: Vec<GroupChoices>,
    /// The largest network.
    pub(super) largest: NetworkConfig,
    /// How it is trained: the middle of the space.
    pub(super) training: TrainingConfig,
    /// The space in which all else has the value of the middle.
    pub(super) space: SearchSpace,
    /// A value for each hyperparameter of the space: the middle.
    pub(super) middle: Configuration,
    /// The names of the space that the result has values of.
    pub(super) names: Vec<String>,
}

impl Choices {
    /// Finds out what is to be relaxed for images of a shape and a number of classes.
    ///
    /// # Errors
    /// Nothing in the space is about the size of the network, or its middle makes no network.
    pub(super) fn new(
        space: &SearchSpace,
        image: ImageShape,
        classes: usize,
    ) -> Result<Self, Invalid> {
        let vector = space.middle();
        let allowed = space.decode(&vector);
        let (network, training) = hyperparameters::read(&allowed, image, classes)?;
        let mut middle = space.values_of(&vector);
        for (name, value) in allowed.iter() {
            middle.set(name, value.clone());
        }
        let sizes = size_names(network.groups.len());
        let varies = |name: &str| space.dimensions().any(|h| h.name == name);
        let mut held = allowed.clone();
        held.0
            .retain(|name, _| varies(name) && !sizes.contains(name));
        let rest = space.fix(&held)?;
        let all = sizes.iter().map(|name| Choice {
            levels: levels(rest.find(name), &allowed, name, &network),
            name: name.clone(),
        });
        let all: Vec<Choice> = all.collect();
        let groups: Vec<GroupChoices> = (0..network.groups.len())
            .map(|group| GroupChoices {
                blocks: 2 + 3 * group,
                branches: 3 + 3 * group,
                widening: 4 + 3 * group,
            })
            .collect();
        if all.iter().all(|choice| choice.levels.len() < 2) {
            let expected = format!(
                "one of the network's sizes with more than one value: {}",
                sizes.join(", ")
            );
            let found: Vec<&str> = space.dimensions().map(|h| h.name.as_str()).collect();
            return Err(Invalid::new("hyperparameters", expected, listed(&found)));
        }
        let names = sizes.iter().cloned().chain([GROUPS.to_owned()]);
        Ok(Self {
            names: names.filter(|name| varies(name)).collect(),
            largest: largest(&network, &all, &groups),
            all,
            groups,
            training,
            space: rest,
            middle,
        })
    }

    /// The configuration with one level of each choice; `None` where the space or the network does not allow it.
    pub(super) fn configuration(&self, levels: &[usize]) -> Option<Configuration> {
        let mut values = self.middle.clone();
        for (choice, &level) in self.all.iter().zip(levels) {
            values.set(choice.name.as_str(), choice.levels[level].clone());
        }
        let configuration = self.space.active_among(&values)?;
        let checked = self.space.check_configuration(&configuration).ok()?;
        self.is_network(&checked).then_some(checked)
    }

    /// Whether a network can be made of a configuration.
    pub(super) fn is_network(&self, configuration: &Configuration) -> bool {
        let NetworkConfig { image, classes, .. } = self.largest;
        hyperparameters::read(configuration, image, classes).is_ok()
    }

    /// The part of a configuration that is the result.
    pub(super) fn result_of(&self, configuration: &Configuration) -> Configuration {
        let mut result = configuration.clone();
        result.0.retain(|name, _| self.names.contains(name));
        result
    }
}

/// The hyperparameters of the size of a network, in the order of the choices.
fn size_names(groups: usize) -> Vec<String> {
    let of_group = |group: usize| {
        ["nr_residual_blocks", "res_branches", "widen_factor"].map(|name| format!("{name}_{group}"))
    };
    let whole = ["initial_filters", "kernel_size"].map(str::to_owned);
    whole
        .into_iter()
        .chain((1..=groups).flat_map(of_group))
        .collect()
}

/// The values of a hyperparameter that are weighed against each other: a single one where it does not vary.
fn levels(
    hyperparameter: Option<&Hyperparameter>,
    middle: &Configuration,
    name: &str,
    network: &NetworkConfig,
) -> Vec<Value> {
    let is_kernel = name == "kernel_size";
    let is_odd = |level: &Value| level.as_i64().is_some_and(|side| side % 2 == 1);
    let mut levels = hyperparameter.map_or_else(Vec::new, |h| levels_of(&h.kind));
    levels.retain(|level| level.as_f64().is_some() && (!is_kernel || is_odd(level)));
    levels.sort_by(|a, b| {
        a.as_f64()
            .unwrap_or(0.0)
            .total_cmp(&b.as_f64().unwrap_or(0.0))
    });
    if levels.is_empty() {
        let value = middle.get(name).cloned();
        levels.push(value.unwrap_or_else(|| default(name, network)));
    }
    levels
}

/// What the network makes of a size that the space does not have.
fn default(name: &str, network: &NetworkConfig) -> Value {
    let whole = |number: usize| Value::Integer(i64::try_from(number).unwrap_or(i64::MAX)); // at most 10⁶
    let group = name.rsplit('_').next().and_then(|end| end.parse().ok());
    let group: usize = group.unwrap_or(1); // the two names without a number do not need it
    match name {
        "initial_filters" => whole(network.initial_filters),
        "kernel_size" => whole(network.kernel),
        _ if name.starts_with("nr_residual_blocks") => whole(network.groups[group - 1].blocks),
        _ if name.starts_with("res_branches") => whole(network.groups[group - 1].branches),
        _ => Value::Float(default_widening(group)),
    }
}

/// Evenly spaced values of a range, on its scale; all of them where they are few.
fn levels_of(kind: &Kind) -> Vec<Value> {
    match kind {
        Kind::Float { lower, upper, log } => {
            let values = spaced(*lower, *upper, *log, MOST_REAL);
            let mut values: Vec<f64> = values
                .map(|x| three_digits(x).clamp(*lower, *upper))
                .collect();
            values.dedup();
            values.into_iter().map(Value::Float).collect()
        }
        Kind::Integer { lower, upper, log } => {
            let number = usize::try_from(upper - lower).map_or(usize::MAX, |n| n.saturating_add(1));
            let (low, high) = (*lower as f64, *upper as f64);
            let log = *log && number > MOST_WHOLE;
            let values = spaced(low, high, log, number.min(MOST_WHOLE));
            #[expect(clippy::cast_possible_truncation, reason = "below 2^53")]
            let mut whole: Vec<i64> = values.map(|x| x.round() as i64).collect();
            whole.dedup();
            whole.into_iter().map(Value::Integer).collect()
        }
        Kind::Ordinal { sequence: levels } | Kind::Categorical { choices: levels } => {
            levels.clone()
        }
        Kind::Constant { value } => vec![value.clone()],
    }
}

/// So many numbers from one end of a range to the other.
fn spaced(lower: f64, upper: f64, log: bool, number: usize) -> impl Iterator<Item = f64> {
    let last = number.saturating_sub(1).max(1) as f64;
    (0..number).map(move |index| {
        let share = index as f64 / last;
        if log {
            lower * (upper / lower).powf(share)
        } else {
            lower + (upper - lower) * share
        }
    })
}

/// A number that people can read.
fn three_digits(x: f64) -> f64 {
    format!("{x:.2e}").parse().unwrap_or(x) // it was written as a number
}

/// The network of which all others are parts.
fn largest(network: &NetworkConfig, all: &[Choice], groups: &[GroupChoices]) -> NetworkConfig {
    let most = |place: usize| all[place].wholes().into_iter().max().unwrap_or(1);
    let initial_filters = most(FILTERS);
    let mut channels = initial_filters;
    let groups = groups.iter().map(|group| {
        let factors = all[group.widening].reals();
        channels = factors
            .into_iter()
            .map(|factor| widened(channels, factor))
            .max()
            .unwrap_or(channels);
        GroupConfig {
            blocks: most(group.blocks),
            channels,
            branches: most(group.branches),
        }
    });
    NetworkConfig {
        initial_filters,
        kernel: most(KERNEL),
        groups: groups.collect(),
        ..network.clone()
    }
}

/// Channels behind a factor, of which there always is one: networks that have none are none, and not chosen in the end.
pub(super) fn widened(channels: usize, factor: f64) -> usize {
    widen(channels, factor).unwrap_or(1)
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    names.join(", ")
}
