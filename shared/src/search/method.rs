//! How configurations are found: the method's name, and the settings of BOHB.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Invalid;
use crate::number;

/// How configurations are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MethodName {
    /// Bayesian optimisation and Hyperband, Falkner et al. 2018.
    Bohb,
    /// Hyperband, Li et al. 2018: draws from the prior, evaluated in brackets.
    Hyperband,
    /// Draws from the prior, each evaluated at the largest budget only.
    Random,
    /// A Gaussian process over configurations and rungs, in brackets.
    #[default]
    Tandem,
    /// Tree-structured Parzen estimators, Bergstra et al. 2011, at the largest budget only.
    Tpe,
    /// Regularised evolution, Real et al. 2018, at the largest budget only.
    Evolution,
    /// Policy gradient and a recurrent controller, Zoph et al. 2018, at the largest budget only.
    Reinforce,
    /// Random forest and expected improvement, after Hutter et al. 2011 (SMAC), at the largest budget only.
    Smbo,
    /// Evolution by tournaments in a population that only grows, after Liu et al. 2018, at the largest budget only.
    Tournament,
    /// From small configurations to large ones, ranked by an ensemble, after Liu et al. 2018 (PNAS), at the largest budget
    /// only.
    Progressive,
}

impl MethodName {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Bohb,
        Self::Hyperband,
        Self::Random,
        Self::Tandem,
        Self::Tpe,
        Self::Evolution,
        Self::Reinforce,
        Self::Smbo,
        Self::Tournament,
        Self::Progressive,
    ];

    /// The name as in `search.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bohb => "bohb",
            Self::Hyperband => "hyperband",
            Self::Random => "random",
            Self::Tandem => "tandem",
            Self::Tpe => "tpe",
            Self::Evolution => "evolution",
            Self::Reinforce => "reinforce",
            Self::Smbo => "smbo",
            Self::Tournament => "tournament",
            Self::Progressive => "progressive",
        }
    }

    /// Whether it trains on the largest budget only.
    pub fn has_one_budget(self) -> bool {
        match self {
            Self::Random
            | Self::Tpe
            | Self::Evolution
            | Self::Reinforce
            | Self::Smbo
            | Self::Tournament
            | Self::Progressive => true,
            Self::Bohb | Self::Hyperband | Self::Tandem => false,
        }
    }

    /// Whether what it proposes depends on results.
    pub fn learns(self) -> bool {
        match self {
            Self::Hyperband | Self::Random => false,
            Self::Bohb
            | Self::Tandem
            | Self::Tpe
            | Self::Evolution
            | Self::Reinforce
            | Self::Smbo
            | Self::Tournament
            | Self::Progressive => true,
        }
    }
}

/// Knobs of BOHB, with their published names and defaults.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BohbSettings {
    /// Results a budget needs before it gets a model; default: dimensions + 1. The model needs twice as many as the
    /// larger of this and dimensions + 1 cannot do without.
    #[serde(
        skip_serializing_if = "Option::is_none",
        deserialize_with = "number::whole_or_none"
    )]
    pub min_points_in_model: Option<u32>,
    /// Share of the results that counts as good, in percent.
    #[serde(deserialize_with = "number::whole")]
    pub top_n_percent: u32,
    /// Candidates drawn from the good density for each proposal.
    #[serde(deserialize_with = "number::whole")]
    pub num_samples: u32,
    /// Share of the proposals drawn from the prior.
    pub random_fraction: f64,
    /// Candidates are drawn with bandwidths this much wider.
    pub bandwidth_factor: f64,
    /// Smallest bandwidth of a dimension.
    pub min_bandwidth: f64,
    /// Reproduce HpBandSter where repairs would change proposals: results below the largest modelled budget are
    /// forgotten.
    pub faithful: bool,
}

impl Default for BohbSettings {
    fn default() -> Self {
        Self {
            min_points_in_model: None,
            top_n_percent: 15,
            num_samples: 64,
            random_fraction: 1.0 / 3.0,
            bandwidth_factor: 3.0,
            min_bandwidth: 1e-3,
            faithful: false,
        }
    }
}

impl BohbSettings {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        let refuse = |at: &str, expected: &str, found: f64| Err(Invalid::new(at, expected, found));
        if !(1..=99).contains(&self.top_n_percent) {
            return refuse("top_n_percent", "1 to 99", f64::from(self.top_n_percent));
        }
        if self.num_samples == 0 {
            return refuse("num_samples", "at least 1", 0.0);
        }
        if !(0.0..=1.0).contains(&self.random_fraction) {
            return refuse("random_fraction", "0 to 1", self.random_fraction);
        }
        if !(self.bandwidth_factor.is_finite() && self.bandwidth_factor > 0.0) {
            return refuse("bandwidth_factor", "more than 0", self.bandwidth_factor);
        }
        if !(self.min_bandwidth.is_finite() && self.min_bandwidth > 0.0) {
            return refuse("min_bandwidth", "more than 0", self.min_bandwidth);
        }
        Ok(())
    }
}
