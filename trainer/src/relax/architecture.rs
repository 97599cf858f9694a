//! The architecture's parameters: a number for each level of each choice, whose softmax is a probability.
//!
//! # Source
//! Liu et al. 2018 (DARTS): first-order steps by Adam with β = (0.5, 0.999) and weight decay 10⁻³. Its rate of 3·10⁻⁴ over
//! 50 epochs of 390 steps lets a parameter move by about 6 in all; here it is that distance divided by the steps there are.

use super::choices::Choices;
use super::gates::Probabilities;

const MOMENTUM: f64 = 0.5;
const SQUARES: f64 = 0.999;
const WEIGHT_DECAY: f64 = 1e-3;
const EPSILON: f64 = 1e-8;
/// How far a parameter can move in all.
const DISTANCE: f64 = 6.0;
/// The temperature of the softmax at the first step and at the last one, between which it falls by equal factors.
const TEMPERATURES: [f64; 2] = [1.0, 0.2];

/// The parameters, with what Adam remembers of them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parameters {
    /// `[choices][levels]`
    values: Vec<Vec<f64>>,
    momentum: Vec<Vec<f64>>,
    squares: Vec<Vec<f64>>,
    /// How many steps there have been, and how many there will be.
    steps: (i32, i32),
}

impl Parameters {
    /// All levels equally likely, before so many steps.
    pub(super) fn new(choices: &Choices, steps: u64) -> Self {
        let zeros = choices
            .all
            .iter()
            .map(|choice| vec![0.0; choice.levels.len()]);
        let zeros: Vec<Vec<f64>> = zeros.collect();
        Self {
            values: zeros.clone(),
            momentum: zeros.clone(),
            squares: zeros,
            steps: (0, i32::try_from(steps.max(1)).unwrap_or(i32::MAX)),
        }
    }

    /// The probabilities of all levels at the temperature of the moment.
    pub(super) fn probabilities(&self) -> Probabilities {
        let temperature = self.temperature();
        self.values
            .iter()
            .map(|values| softmax(values, temperature))
            .collect()
    }

    fn temperature(&self) -> f64 {
        let [first, last] = TEMPERATURES;
        let share = f64::from(self.steps.0) / f64::from(self.steps.1);
        first * (last / first).powf(share)
    }

    /// One step down a loss, of which the derivative by each probability is known.
    pub(super) fn step(&mut self, by_probability: &Probabilities) {
        let rate = DISTANCE / f64::from(self.steps.1);
        let gradients = by_value(&self.probabilities(), by_probability, self.temperature());
        self.steps.0 = self.steps.0.saturating_add(1);
        let correct = |moment: f64, keeps: f64| moment / (1.0 - keeps.powi(self.steps.0));
        let moments = self.momentum.iter_mut().zip(&mut self.squares);
        for ((values, gradients), (momentum, squares)) in
            self.values.iter_mut().zip(&gradients).zip(moments)
        {
            let moments = momentum.iter_mut().zip(squares);
            for ((value, gradient), (momentum, square)) in
                values.iter_mut().zip(gradients).zip(moments)
            {
                let gradient = gradient + WEIGHT_DECAY * *value;
                *momentum = MOMENTUM * *momentum + (1.0 - MOMENTUM) * gradient;
                *square = SQUARES * *square + (1.0 - SQUARES) * gradient * gradient;
                let deviation = correct(*square, SQUARES).sqrt() + EPSILON;
                *value -= rate * correct(*momentum, MOMENTUM) / deviation;
            }
        }
    }
}

/// The derivative by each parameter, from that by each probability.
fn by_value(
    probabilities: &Probabilities,
    by_probability: &Probabilities,
    temperature: f64,
) -> Vec<Vec<f64>> {
    let pairs = probabilities.iter().zip(by_probability);
    let of_choice = |(probabilities, by): (&Vec<f64>, &Vec<f64>)| {
        let mean: f64 = probabilities.iter().zip(by).map(|(p, by)| p * by).sum();
        let levels = probabilities.iter().zip(by);
        levels
            .map(|(p, by)| p * (by - mean) / temperature)
            .collect()
    };
    pairs.map(of_choice).collect()
}

fn softmax(values: &[f64], temperature: f64) -> Vec<f64> {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights = values
        .iter()
        .map(|value| ((value - largest) / temperature).exp());
    let weights: Vec<f64> = weights.collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_by_parameters_are_those_of_finite_differences() {
        let values = [0.3, -1.2, 0.7, 0.0];
        let by = [0.5, -2.0, 1.0, 3.0]; // of the sum of each probability times this
        let sum = |values: &[f64]| -> f64 {
            softmax(values, 0.4)
                .iter()
                .zip(by)
                .map(|(p, by)| p * by)
                .sum()
        };
        let found = by_value(&vec![softmax(&values, 0.4)], &vec![by.to_vec()], 0.4);
        for (place, found) in found[0].iter().enumerate() {
            let moved = |step: f64| {
                let mut values = values;
                values[place] += step;
                sum(&values)
            };
            let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((found - expected).abs() < 1e-8, "{found} {expected}");
        }
    }
}
