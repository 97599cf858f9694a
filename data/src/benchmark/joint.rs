//! A stand-in for the joint space: architecture and training of the reference space, which depend on one another.
//!
//! Of each hyperparameter its place u in its range counts, 0 to 1 (logarithmic where the space is).
//!
//! ```text
//! depth = mean u(blocks)     width = mean u(filters, widen factors)     branching = mean u(branches)
//! scale = (depth + width + branching) / 3       regularisation = mean u(weight decay, mixup, cutout, death rate)
//!
//! loss = 0.02 + 0.1 (
//!     12 (scale - ideal)²                                 small networks underfit; ideal = 0.8 - 0.4 bias·distance
//!   + 2 ((depth - scale)² + (width - scale)² + (branching - scale)²)           all parts grow together
//!   + Σ (u(blocks_k) - depth - (-0.1, 0, 0.1)_k)² / 3     later groups are deeper
//!   + 8 (u(rate) - (0.9 - 0.6 depth + 0.3 (u(batch) - 0.5) + 0.2 bias·distance))²    deep: small, large batches: large
//!   + 16 (regularisation - scale)²                        large networks need more of it
//!   + 4 (u(death rate) - depth)²  +  ½ (u(mixup) - u(cutout))²
//!   + ½ (u(momentum) - (1 - 0.4 u(rate)))²  +  ½ (u(weight decay) - (1 - u(rate)))²  +  ½ (u(batch) - 0.3)² )
//!   + noise·distance·N(0, 1)                              distance = 1 - √(budget / max_budget)
//! ```
//! Every square is 0 at one point of the cube, so 0.02 is the optimum but for the rounding of integers. What is best of
//! the training depends on the architecture and the other way round: with the middle of every range as the default, the
//! best training for the default network keeps networks small (rate and regularisation fit small ones), and the best
//! network for the default training is too small. Either step after the other ends well above the optimum, by
//! construction; how far a search gets is what the benchmark asks.

use std::sync::LazyLock;

use shared::space::{Kind, SpaceFile};
use shared::{SearchSpace, Value};

/// The space: `data/spaces/joint-resnet.json`.
const SPACE: &str = include_str!("../../spaces/joint-resnet.json");
/// The loss at the optimum.
pub(super) const OPTIMUM: f64 = 0.02;

static CHECKED: LazyLock<SearchSpace> = LazyLock::new(|| {
    SearchSpace::new(&file()).expect("the space is this project's own, and a test reads it")
});

/// The space as a person writes it.
pub(super) fn file() -> SpaceFile {
    let path = std::path::Path::new("joint-resnet.json");
    shared::format::from_bytes(path, SPACE.as_bytes())
        .expect("the space is this project's own, and a test reads it")
}

/// Names and bounds, in the order of the space.
pub(super) fn bounds() -> Vec<(&'static str, f64, f64)> {
    let bounds = |kind: &Kind| match kind {
        Kind::Float { lower, upper, .. } => (*lower, *upper),
        Kind::Integer { lower, upper, .. } => (*lower as f64, *upper as f64),
        Kind::Ordinal { .. } | Kind::Categorical { .. } | Kind::Constant { .. } => {
            unreachable!("the space has numbers only")
        }
    };
    let hyperparameters = CHECKED.hyperparameters().iter();
    hyperparameters
        .map(|h| {
            let (lower, upper) = bounds(&h.kind);
            (h.name.as_str(), lower, upper)
        })
        .collect()
}

/// The loss without noise; `bias` is already multiplied with the distance from the largest budget.
///
/// # Shapes
/// `values`: `[17]`, within their bounds, in the order of the space.
pub(super) fn loss(values: &[f64], bias: f64) -> f64 {
    let pairs = CHECKED.hyperparameters().iter().zip(values);
    let places: Vec<f64> = pairs
        .map(|(h, x)| {
            let typed = h.kind.typed(&Value::Float(*x));
            let place = typed.and_then(|value| h.kind.encode(&value));
            place.expect("values within the bounds have a place")
        })
        .collect();
    of_places(&places, bias)
}

fn of_places(u: &[f64], bias: f64) -> f64 {
    let [
        block_1,
        block_2,
        block_3,
        filters,
        widen_1,
        widen_2,
        widen_3,
        branches_1,
        branches_2,
        branches_3,
        rate,
        batch,
        decay,
        momentum,
        mixup,
        cutout,
        death,
    ] = *u
    else {
        unreachable!("the space has 17 dimensions")
    };
    let square = |x: f64| x * x;
    let depth = (block_1 + block_2 + block_3) / 3.0;
    let width = (filters + widen_1 + widen_2 + widen_3) / 4.0;
    let branching = (branches_1 + branches_2 + branches_3) / 3.0;
    let scale = (depth + width + branching) / 3.0;
    let regularisation = (decay + mixup + cutout + death) / 4.0;
    let ideal_scale = 0.8 - 0.4 * bias;
    let ideal_rate = 0.9 - 0.6 * depth + 0.3 * (batch - 0.5) + 0.2 * bias;
    let groups =
        square(block_1 - depth + 0.1) + square(block_2 - depth) + square(block_3 - depth - 0.1);
    let terms = 12.0 * square(scale - ideal_scale)
        + 2.0 * (square(depth - scale) + square(width - scale) + square(branching - scale))
        + groups / 3.0
        + 8.0 * square(rate - ideal_rate)
        + 16.0 * square(regularisation - scale)
        + 4.0 * square(death - depth)
        + 0.5 * square(mixup - cutout)
        + 0.5 * square(momentum - (1.0 - 0.4 * rate))
        + 0.5 * square(decay - (1.0 - rate))
        + 0.5 * square(batch - 0.3);
    OPTIMUM + 0.1 * terms
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where every square is 0.
    const BEST: [f64; 17] = [
        0.7, 0.8, 0.9, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.36, 0.3, 0.64, 0.856, 0.88, 0.88, 0.8,
    ];
    const MIDDLE: [f64; 17] = [0.5; 17];
    const NUM_ARCHITECTURE: usize = 10;

    /// Coordinate by coordinate to the minimum over some of the dimensions; the function is a quadratic.
    fn minimise(mut u: Vec<f64>, free: std::ops::Range<usize>) -> Vec<f64> {
        for _ in 0..3000 {
            for j in free.clone() {
                let mut at = |x: f64| {
                    u[j] = x;
                    of_places(&u, 0.0)
                };
                let (low, middle, high) = (at(0.0), at(0.5), at(1.0));
                let curvature = low + high - 2.0 * middle;
                let best = 0.5 - 0.25 * (high - low) / curvature;
                u[j] = best.clamp(0.0, 1.0);
            }
        }
        u
    }

    #[test]
    fn either_half_first_ends_above_what_both_together_reach() {
        assert!((of_places(&BEST, 0.0) - OPTIMUM).abs() < 1e-15);
        let both = minimise(MIDDLE.to_vec(), 0..17);
        assert!(of_places(&both, 0.0) - OPTIMUM < 1e-4);
        let training = minimise(MIDDLE.to_vec(), NUM_ARCHITECTURE..17);
        let after_training = minimise(training, 0..NUM_ARCHITECTURE);
        let architecture = minimise(MIDDLE.to_vec(), 0..NUM_ARCHITECTURE);
        let after_architecture = minimise(architecture, NUM_ARCHITECTURE..17);
        let regrets = [after_training, after_architecture].map(|u| of_places(&u, 0.0) - OPTIMUM);
        assert!(
            regrets.iter().all(|regret| (0.03..0.1).contains(regret)),
            "{regrets:?}"
        );
    }

    #[test]
    fn the_optimum_is_nearly_reached_by_whole_numbers() {
        let space = &*CHECKED;
        let values = space.decode(&BEST);
        let values: Vec<f64> = space
            .hyperparameters()
            .iter()
            .map(|h| values.float(&h.name).unwrap())
            .collect();
        let regret = loss(&values, 0.0) - OPTIMUM;
        assert!((0.0..0.005).contains(&regret), "{regret}");
        // Low budgets favour small networks and large rates.
        assert!(loss(&values, 0.8) > 0.1);
    }
}
