//! From a configuration to a network and its training: which hyperparameters there are, and what they default to.
//!
//! | hyperparameter | what | default |
//! |--|--|--|
//! | `groups` | groups of blocks, each with its own `_1`, `_2`, … below | 3 |
//! | `nr_residual_blocks_i` | blocks of group i | 3 |
//! | `initial_filters` | channels behind the stem | 16 |
//! | `widen_factor_i` | channels of group i, as multiple of those before it (rounded half to even) | 1, then 2 |
//! | `res_branches_i` | branches of every block of group i | 1 |
//! | `kernel_size` | side of the convolutions' kernels, odd | 3 |
//! | `activation` | `relu`, `silu` or `gelu` | `relu` |
//! | `squeeze_excitation` | whether branches end with a gate that weighs their channels | false |
//! | `death_rate` | ShakeDrop's, for blocks with one branch | 0 |
//! | `learning_rate` | at the start of every cycle | 0.1 |
//! | `batch_size` | images per step (all of them where there are fewer) | 64 |
//! | `weight_decay` | added to the gradient, times the weight | 5e-4 |
//! | `momentum` | Nesterov's | 0.9 |
//! | `mixup_alpha` | of the distribution of mixing weights; 0 mixes nothing | 0 |
//! | `cutout_length` | pixels, for images of 32×32; 0 cuts nothing | 0 |
//! | `optimizer` | `sgd` (with Nesterov momentum) or `adamw` (with `momentum` as β₁) | `sgd` |
//! | `label_smoothing` | share of the target that is spread over all classes | 0 |
//! | `warm_up` | share of the first cycle over which the rate rises from 0 | 0 |
//! | `gradient_clipping` | largest norm of all gradients together; 0 clips nothing | 0 |
//! | `weight_average` | how much of the running average of weights stays at each step; 0 averages nothing | 0 |
//!
//! The defaults of the network are those of a ResNet-20.

use std::collections::BTreeSet;

use shared::error::Invalid;
use shared::objective::Precision;
use shared::{Configuration, Value};

use crate::network::{Activation, GroupConfig, NetworkConfig};
use data::ImageShape;

/// How parameters follow their gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Rule {
    /// Stochastic gradient descent with Nesterov momentum.
    #[default]
    Sgd,
    /// Adam with weight decay apart from the gradient.
    AdamW,
}

/// How a network is trained, as far as the search space varies it.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingConfig {
    /// At the start of every cycle.
    pub learning_rate: f64,
    /// Images per step.
    pub batch_size: usize,
    /// Added to the gradient, times the weight.
    pub weight_decay: f64,
    /// Nesterov's.
    pub momentum: f64,
    /// Of the Beta distribution of mixing weights; 0 mixes nothing.
    pub mixup_alpha: f64,
    /// Pixels, for images of 32×32; 0 cuts nothing.
    pub cutout_length: usize,
    /// How parameters follow their gradients.
    pub rule: Rule,
    /// Share of the target that is spread over all classes.
    pub label_smoothing: f64,
    /// Share of the first cycle over which the rate rises from 0.
    pub warm_up: f64,
    /// Largest norm of all gradients together; 0 clips nothing.
    pub gradient_clipping: f64,
    /// How much of the running average of weights stays at each step; 0 averages nothing.
    pub weight_average: f64,
}

impl Default for TrainingConfig {
    fn default() -> Self {
        Self {
            learning_rate: 0.1,
            batch_size: 64,
            weight_decay: 5e-4,
            momentum: 0.9,
            mixup_alpha: 0.0,
            cutout_length: 0,
            rule: Rule::default(),
            label_smoothing: 0.0,
            warm_up: 0.0,
            gradient_clipping: 0.0,
            weight_average: 0.0,
        }
    }
}

/// Reads a configuration for images of the given shape and number of classes.
///
/// # Errors
/// The hyperparameter that is unknown or out of range, with what would have been right.
pub fn read(
    configuration: &Configuration,
    image: ImageShape,
    classes: usize,
) -> Result<(NetworkConfig, TrainingConfig), Invalid> {
    let mut reader = Reader {
        configuration,
        known: BTreeSet::new(),
    };
    let network = network(&mut reader, image, classes)?;
    let training = training(&mut reader)?;
    reader.finish()?;
    Ok((network, training))
}

/// More than any network has: the list of layers alone would fill the memory.
const MOST_BRANCHES: usize = 10_000;

fn network(
    reader: &mut Reader<'_>,
    image: ImageShape,
    classes: usize,
) -> Result<NetworkConfig, Invalid> {
    let initial_filters = reader.whole("initial_filters", 1, 16)?;
    let kernel = reader.whole("kernel_size", 1, 3)?;
    if kernel % 2 == 0 {
        return Err(Invalid::new("kernel_size", "an odd number", kernel));
    }
    let mut channels = initial_filters;
    let mut groups = Vec::new();
    let mut num_branches = 0_usize;
    for group in 1..=reader.whole("groups", 1, 3)? {
        let blocks = reader.whole(&format!("nr_residual_blocks_{group}"), 1, 3)?;
        let branches = reader.whole(&format!("res_branches_{group}"), 1, 1)?;
        num_branches = num_branches.saturating_add(blocks.saturating_mul(branches));
        if num_branches > MOST_BRANCHES {
            let expected = format!("at most {MOST_BRANCHES} branches in all blocks together");
            return Err(Invalid::new(
                format!("nr_residual_blocks_{group}"),
                expected,
                num_branches,
            ));
        }
        let factor = format!("widen_factor_{group}");
        let default = default_widening(group);
        let widened = reader.real(&factor, default, "more than 0", |factor| factor > 0.0)?;
        channels = widen(channels, widened).ok_or_else(|| {
            Invalid::new(factor, "a factor that gives 1 to 10⁶ channels", widened)
        })?;
        groups.push(GroupConfig {
            blocks,
            channels,
            branches,
        });
    }
    let activation = reader.choice(
        "activation",
        Activation::default(),
        &[
            ("relu", Activation::Relu),
            ("silu", Activation::Silu),
            ("gelu", Activation::Gelu),
        ],
    )?;
    let squeeze_excitation = reader.choice(
        "squeeze_excitation",
        false,
        &[("true", true), ("false", false)],
    )?;
    let death_rate = reader.real("death_rate", 0.0, "0 to 1", |rate| {
        (0.0..=1.0).contains(&rate)
    })?;
    Ok(NetworkConfig {
        image,
        classes,
        initial_filters,
        kernel,
        groups,
        activation,
        squeeze_excitation,
        death_rate,
        precision: Precision::Fp32, // a setting of the search
    })
}

fn training(reader: &mut Reader<'_>) -> Result<TrainingConfig, Invalid> {
    let default = TrainingConfig::default();
    let positive = |value: f64| value > 0.0;
    let not_negative = |value: f64| value >= 0.0;
    let below_one = |value: f64| (0.0..1.0).contains(&value);
    Ok(TrainingConfig {
        learning_rate: reader.real(
            "learning_rate",
            default.learning_rate,
            "more than 0",
            positive,
        )?,
        batch_size: reader.whole("batch_size", 1, default.batch_size)?,
        weight_decay: reader.real(
            "weight_decay",
            default.weight_decay,
            "at least 0",
            not_negative,
        )?,
        momentum: reader.real("momentum", default.momentum, "0 to less than 1", below_one)?,
        mixup_alpha: reader.real(
            "mixup_alpha",
            default.mixup_alpha,
            "at least 0",
            not_negative,
        )?,
        cutout_length: reader.whole("cutout_length", 0, default.cutout_length)?,
        rule: reader.choice(
            "optimizer",
            default.rule,
            &[("sgd", Rule::Sgd), ("adamw", Rule::AdamW)],
        )?,
        label_smoothing: reader.real(
            "label_smoothing",
            default.label_smoothing,
            "0 to less than 1",
            below_one,
        )?,
        warm_up: reader.real("warm_up", default.warm_up, "0 to 1", |share| {
            (0.0..=1.0).contains(&share)
        })?,
        gradient_clipping: reader.real(
            "gradient_clipping",
            default.gradient_clipping,
            "at least 0",
            not_negative,
        )?,
        weight_average: reader.real(
            "weight_average",
            default.weight_average,
            "0 to less than 1",
            below_one,
        )?,
    })
}

/// By what a group, counted from 1, widens what it is given, where the configuration does not say.
pub(crate) fn default_widening(group: usize) -> f64 {
    if group == 1 { 1.0 } else { 2.0 }
}

/// The nearest number of channels, half to even; `None` where it is none, or unheard of.
pub(crate) fn widen(channels: usize, factor: f64) -> Option<usize> {
    let widened = (channels as f64 * factor).round_ties_even();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked"
    )]
    (1.0..=1e6).contains(&widened).then_some(widened as usize)
}

/// Reads hyperparameters and remembers their names.
struct Reader<'a> {
    configuration: &'a Configuration,
    known: BTreeSet<String>,
}

impl Reader<'_> {
    fn value(&mut self, name: &str) -> Option<&Value> {
        self.known.insert(name.to_owned());
        self.configuration.get(name)
    }

    fn whole(&mut self, name: &str, least: usize, default: usize) -> Result<usize, Invalid> {
        let Some(value) = self.value(name) else {
            return Ok(default);
        };
        value
            .as_i64()
            .and_then(|number| usize::try_from(number).ok()) // negative: refused like one that is too small
            .filter(|number| (least..=1_000_000).contains(number))
            .ok_or_else(|| Invalid::new(name, format!("a whole number from {least} to 10⁶"), value))
    }

    fn real(
        &mut self,
        name: &str,
        default: f64,
        range: &str,
        is_valid: impl Fn(f64) -> bool,
    ) -> Result<f64, Invalid> {
        let Some(value) = self.value(name) else {
            return Ok(default);
        };
        value
            .as_f64()
            .filter(|number| number.is_finite() && is_valid(*number))
            .ok_or_else(|| Invalid::new(name, format!("a number, {range}"), value))
    }

    fn choice<T: Copy>(
        &mut self,
        name: &str,
        default: T,
        choices: &[(&str, T)],
    ) -> Result<T, Invalid> {
        let Some(value) = self.value(name) else {
            return Ok(default);
        };
        let text = value.to_string();
        choices
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, choice)| *choice)
            .ok_or_else(|| {
                let words: Vec<String> = choices
                    .iter()
                    .map(|(word, _)| format!("`{word}`"))
                    .collect();
                Invalid::new(name, words.join(" or "), value)
            })
    }

    /// Refuses what nobody has asked for.
    fn finish(self) -> Result<(), Invalid> {
        for (name, value) in self.configuration.iter() {
            if !self.known.contains(name) {
                let known: Vec<&str> = self.known.iter().map(String::as_str).collect();
                let expected =
                    format!("one of the network's hyperparameters, {}", known.join(", "));
                return Err(Invalid::new(name, expected, format!("`{name}` = {value}")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: ImageShape = ImageShape {
        channels: 3,
        height: 32,
        width: 32,
    };

    fn parse(json: &str) -> Result<(NetworkConfig, TrainingConfig), Invalid> {
        read(&serde_json::from_str(json).unwrap(), IMAGE, 10)
    }

    #[test]
    fn an_empty_configuration_is_a_resnet_20() {
        let (network, training) = parse("{}").unwrap();
        assert_eq!(crate::network::Summary::new(&network).parameters(), 272_474);
        assert_eq!(training, TrainingConfig::default());
    }

    #[test]
    fn a_point_of_the_reference_space_is_read_in_full() {
        let (network, training) = parse(
            r#"{"nr_residual_blocks_1": 1, "nr_residual_blocks_2": 2, "nr_residual_blocks_3": 16,
            "initial_filters": 9, "widen_factor_1": 0.5, "widen_factor_2": 1.5, "widen_factor_3": 4,
            "res_branches_1": 1, "res_branches_2": 2, "res_branches_3": 5, "learning_rate": 0.03,
            "batch_size": 100, "weight_decay": 1e-5, "momentum": 0.99, "mixup_alpha": 0.7,
            "cutout_length": 16, "death_rate": 0.25}"#,
        )
        .unwrap();
        // 9 · 0.5 = 4.5 and 4 · 1.5 = 6: half to even.
        let group = |blocks, channels, branches| GroupConfig {
            blocks,
            channels,
            branches,
        };
        assert_eq!(
            network.groups,
            [group(1, 4, 1), group(2, 6, 2), group(16, 24, 5)]
        );
        assert_eq!((network.initial_filters, network.death_rate), (9, 0.25));
        let expected = TrainingConfig {
            learning_rate: 0.03,
            batch_size: 100,
            weight_decay: 1e-5,
            momentum: 0.99,
            mixup_alpha: 0.7,
            cutout_length: 16,
            ..TrainingConfig::default()
        };
        assert_eq!(training, expected);
    }

    #[test]
    fn networks_that_no_memory_could_list_are_refused() {
        for text in [
            r#"{"nr_residual_blocks_2": 65536}"#,
            r#"{"res_branches_1": 1000000}"#,
        ] {
            let refused = parse(text).unwrap_err();
            assert!(refused.expected.contains("10000 branches"), "{refused}");
        }
    }

    #[test]
    fn the_number_of_groups_is_a_hyperparameter() {
        let (network, _) = parse(r#"{"groups": 4, "nr_residual_blocks_4": 7}"#).unwrap();
        assert_eq!(
            network.groups[3],
            GroupConfig {
                blocks: 7,
                channels: 128,
                branches: 1
            }
        );
        let refused = parse(r#"{"groups": 2, "nr_residual_blocks_3": 7}"#).unwrap_err();
        assert_eq!(refused.at, "nr_residual_blocks_3");
    }

    #[test]
    fn published_networks_have_a_value_of_every_hyperparameter() {
        let mut reader = Reader {
            configuration: &Configuration::default(),
            known: BTreeSet::new(),
        };
        network(&mut reader, IMAGE, 10).unwrap();
        training(&mut reader).unwrap();
        for published in &shared::known::KNOWN {
            let configuration = published.configuration();
            for name in &reader.known {
                assert!(
                    configuration.get(name).is_some(),
                    "{}: {name}",
                    published.name
                );
            }
        }
    }

    #[test]
    fn unknown_names_are_refused_with_the_known_ones() {
        let refused = parse(r#"{"learning_rte": 0.1}"#).unwrap_err();
        assert_eq!(refused.at, "learning_rte");
        assert!(refused.expected.contains("learning_rate"), "{refused}");
    }

    #[test]
    fn values_out_of_range_are_refused_with_their_name() {
        for (json, at) in [
            (r#"{"batch_size": 0}"#, "batch_size"),
            (r#"{"batch_size": 32.5}"#, "batch_size"),
            (r#"{"learning_rate": "high"}"#, "learning_rate"),
            (r#"{"learning_rate": 0}"#, "learning_rate"),
            (r#"{"momentum": 1}"#, "momentum"),
            (r#"{"death_rate": 1.5}"#, "death_rate"),
            (r#"{"kernel_size": 4}"#, "kernel_size"),
            (
                r#"{"initial_filters": 1, "widen_factor_1": 0.4}"#,
                "widen_factor_1",
            ),
            (r#"{"res_branches_2": -1}"#, "res_branches_2"),
            (r#"{"optimizer": "adam"}"#, "optimizer"),
            (r#"{"activation": "tanh"}"#, "activation"),
            (r#"{"squeeze_excitation": 1}"#, "squeeze_excitation"),
            (r#"{"label_smoothing": 1}"#, "label_smoothing"),
            (r#"{"warm_up": 1.1}"#, "warm_up"),
            (r#"{"gradient_clipping": -1}"#, "gradient_clipping"),
            (r#"{"weight_average": 1}"#, "weight_average"),
        ] {
            assert_eq!(parse(json).unwrap_err().at, at, "{json}");
        }
    }
}
