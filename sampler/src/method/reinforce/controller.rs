//! The controller of method `reinforce`: a recurrent network that chooses one hyperparameter after the other.
//!
//! ```text
//! h₀ = c₀ = 0,  x₁ learnt,  xⱼ₊₁ = embedding of what was chosen for hyperparameter j
//! hⱼ, cⱼ = LSTM(xⱼ, hⱼ₋₁, cⱼ₋₁)           Hochreiter and Schmidhuber 1997
//! choice of j ~ softmax(Wⱼ hⱼ + bⱼ)
//! ```
//! So what it chooses depends on all that it chose before. Softmax layers start at zero: every choice is as likely as the
//! others. One that does not apply has an embedding, and is not chosen.

use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;

use crate::draw;

/// Units of the LSTM, and length of the embeddings.
const HIDDEN: usize = 24;
/// Weights are drawn from ± this, as in the paper; softmax layers are 0.
const SPREAD: f64 = 0.1;
/// Adam's step, and what it keeps of means and squares.
const RATE: f64 = 0.01;
const KEPT_MEAN: f64 = 0.9;
const KEPT_SQUARE: f64 = 0.999;
/// Keeps quotients finite.
const TINY: f64 = 1e-8;

/// What was chosen for each hyperparameter; `None` where it did not apply.
pub(super) type Choices = Vec<Option<usize>>;

/// Where a weight matrix lies among all numbers: its first one, and the columns of a row.
#[derive(Debug, Clone, Copy)]
struct Matrix {
    start: usize,
    columns: usize,
}

impl Matrix {
    fn row(self, row: usize) -> std::ops::Range<usize> {
        let start = self.start + row * self.columns;
        start..start + self.columns
    }

    /// `output += matrix · input`
    fn times(self, weights: &[f64], input: &[f64], output: &mut [f64]) {
        for (row, out) in output.iter_mut().enumerate() {
            *out += dot(&weights[self.row(row)], input);
        }
    }

    /// From the gradient of the output to those of the input and of the matrix.
    fn back(
        self,
        weights: &[f64],
        input: &[f64],
        output: &[f64],
        to_input: &mut [f64],
        to: &mut [f64],
    ) {
        for (row, slope) in output.iter().enumerate() {
            let range = self.row(row);
            for ((x, gradient), (weight, to)) in input
                .iter()
                .zip(to_input.iter_mut())
                .zip(weights[range.clone()].iter().zip(&mut to[range]))
            {
                *to += slope * x;
                *gradient += slope * weight;
            }
        }
    }
}

/// Where everything lies among all numbers.
#[derive(Debug)]
struct Layout {
    /// The first input, then an embedding for each choice of each hyperparameter and for not applying.
    embeddings: Vec<Matrix>,
    /// From input, state and 1 to the four gates.
    input: Matrix,
    state: Matrix,
    bias: usize,
    /// From the state to the choices, and their biases.
    softmax: Vec<(Matrix, usize)>,
    len: usize,
}

impl Layout {
    fn new(choices: &[usize]) -> Self {
        let mut len = 0;
        let mut take = |rows: usize, columns: usize| {
            let start = len;
            len += rows * columns;
            Matrix { start, columns }
        };
        let first = take(1, HIDDEN);
        let rest = choices.iter().map(|count| take(count + 1, HIDDEN));
        let embeddings = std::iter::once(first).chain(rest).collect();
        let (input, state) = (take(4 * HIDDEN, HIDDEN), take(4 * HIDDEN, HIDDEN));
        let bias = take(4 * HIDDEN, 1).start;
        let softmax = choices
            .iter()
            .map(|count| (take(*count, HIDDEN), take(*count, 1).start))
            .collect();
        Self {
            embeddings,
            input,
            state,
            bias,
            softmax,
            len,
        }
    }
}

/// One step of the sequence, with what the way back needs.
#[derive(Debug, Clone)]
struct Step {
    embedding: std::ops::Range<usize>,
    state_before: Vec<f64>,
    cell_before: Vec<f64>,
    /// Input, forget, output and new content, after their nonlinearities.
    gates: Vec<f64>,
    squashed: Vec<f64>,
    state: Vec<f64>,
    cell: Vec<f64>,
    probabilities: Vec<f64>,
}

/// Weights of the network, and what Adam remembers.
#[derive(Debug)]
pub(super) struct Controller {
    choices: Vec<usize>,
    layout: Layout,
    weights: Vec<f64>,
    means: Vec<f64>,
    squares: Vec<f64>,
    num_steps: i32,
}

impl Controller {
    /// For hyperparameters with so many choices each.
    pub(super) fn new(choices: Vec<usize>, rng: &mut ChaCha12Rng) -> Self {
        let layout = Layout::new(&choices);
        let num_drawn = layout.bias;
        let mut weights = vec![0.0; layout.len];
        for weight in &mut weights[..num_drawn] {
            *weight = SPREAD * (2.0 * rng.random::<f64>() - 1.0);
        }
        Self {
            means: vec![0.0; layout.len],
            squares: vec![0.0; layout.len],
            choices,
            layout,
            weights,
            num_steps: 0,
        }
    }

    /// Draws one choice after the other.
    pub(super) fn draw(&self, rng: &mut ChaCha12Rng) -> Vec<usize> {
        let mut steps: Vec<Step> = Vec::new();
        let mut drawn: Vec<usize> = Vec::new();
        for j in 0..self.choices.len() {
            let step = self.step(j, steps.last(), drawn.last().copied());
            drawn.push(draw::index(&step.probabilities, rng));
            steps.push(step);
        }
        drawn
    }

    /// The probability of each choice, given those before it.
    pub(super) fn probabilities(&self, choices: &Choices) -> Vec<Vec<f64>> {
        let steps = self.steps(choices).into_iter();
        steps.map(|step| step.probabilities).collect()
    }

    fn steps(&self, choices: &Choices) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        for j in 0..self.choices.len() {
            let before = j.checked_sub(1).map(|before| self.row(before, choices));
            steps.push(self.step(j, steps.last(), before));
        }
        steps
    }

    /// The embedding of what was chosen, counted within its hyperparameter's.
    fn row(&self, j: usize, choices: &Choices) -> usize {
        choices[j].unwrap_or(self.choices[j])
    }

    fn step(&self, j: usize, before: Option<&Step>, chosen_before: Option<usize>) -> Step {
        let embedding = self.layout.embeddings[j].row(chosen_before.unwrap_or(0));
        let zeros = || vec![0.0; HIDDEN];
        let state_before = before.map_or_else(zeros, |step| step.state.clone());
        let cell_before = before.map_or_else(zeros, |step| step.cell.clone());
        let mut gates = self.weights[self.layout.bias..][..4 * HIDDEN].to_vec();
        let input = &self.weights[embedding.clone()];
        self.layout.input.times(&self.weights, input, &mut gates);
        self.layout
            .state
            .times(&self.weights, &state_before, &mut gates);
        for (index, gate) in gates.iter_mut().enumerate() {
            *gate = if index < 3 * HIDDEN {
                sigmoid(*gate)
            } else {
                libm::tanh(*gate)
            };
        }
        let [enter, forget, output, content] = quarters(&gates);
        let cell: Vec<f64> = (0..HIDDEN)
            .map(|k| forget[k] * cell_before[k] + enter[k] * content[k])
            .collect();
        let squashed: Vec<f64> = cell.iter().map(|c| libm::tanh(*c)).collect();
        let state: Vec<f64> = (0..HIDDEN).map(|k| output[k] * squashed[k]).collect();
        let (matrix, bias) = self.layout.softmax[j];
        let mut logits = self.weights[bias..][..self.choices[j]].to_vec();
        matrix.times(&self.weights, &state, &mut logits);
        Step {
            embedding,
            state_before,
            cell_before,
            gates,
            squashed,
            state,
            cell,
            probabilities: softmax(&logits),
        }
    }

    /// Adds the gradient of what is minimised, given its slopes along the logits of each choice.
    ///
    /// `slopes` makes them of a hyperparameter's number and its choices' probabilities.
    pub(super) fn add_gradient(
        &self,
        choices: &Choices,
        mut slopes: impl FnMut(usize, &[f64]) -> Vec<f64>,
        gradient: &mut [f64],
    ) {
        let steps = self.steps(choices);
        let (mut to_state, mut to_cell) = (vec![0.0; HIDDEN], vec![0.0; HIDDEN]);
        for (j, step) in steps.iter().enumerate().rev() {
            let logits = slopes(j, &step.probabilities);
            let (matrix, bias) = self.layout.softmax[j];
            add(&mut gradient[bias..], &logits);
            matrix.back(&self.weights, &step.state, &logits, &mut to_state, gradient);
            (to_state, to_cell) = self.back(step, &to_state, &to_cell, gradient);
        }
    }

    /// One step of the LSTM backwards: from the slopes of its state and cell to those of the step before.
    fn back(
        &self,
        step: &Step,
        to_state: &[f64],
        to_cell: &[f64],
        gradient: &mut [f64],
    ) -> (Vec<f64>, Vec<f64>) {
        let [enter, forget, output, content] = quarters(&step.gates);
        let mut to_gates = vec![0.0; 4 * HIDDEN];
        let mut to_cell_before = vec![0.0; HIDDEN];
        for k in 0..HIDDEN {
            let squashed = step.squashed[k];
            let cell = to_cell[k] + to_state[k] * output[k] * (1.0 - squashed * squashed);
            let slope = |gate: f64| gate * (1.0 - gate);
            to_gates[k] = cell * content[k] * slope(enter[k]);
            to_gates[HIDDEN + k] = cell * step.cell_before[k] * slope(forget[k]);
            to_gates[2 * HIDDEN + k] = to_state[k] * squashed * slope(output[k]);
            to_gates[3 * HIDDEN + k] = cell * enter[k] * (1.0 - content[k] * content[k]);
            to_cell_before[k] = cell * forget[k];
        }
        add(&mut gradient[self.layout.bias..], &to_gates);
        let (mut to_input, mut to_before) = (vec![0.0; HIDDEN], vec![0.0; HIDDEN]);
        let input = &self.weights[step.embedding.clone()];
        let Layout {
            input: from_input,
            state: from_state,
            ..
        } = &self.layout;
        from_input.back(&self.weights, input, &to_gates, &mut to_input, gradient);
        from_state.back(
            &self.weights,
            &step.state_before,
            &to_gates,
            &mut to_before,
            gradient,
        );
        add(&mut gradient[step.embedding.start..], &to_input);
        (to_before, to_cell_before)
    }

    /// How many numbers it learns.
    pub(super) fn num_weights(&self) -> usize {
        self.layout.len
    }

    /// A step of Adam against the gradient (Kingma and Ba 2015).
    pub(super) fn descend(&mut self, gradient: &[f64]) {
        self.num_steps += 1;
        let left = |kept: f64| 1.0 - libm::pow(kept, f64::from(self.num_steps));
        let (of_means, of_squares) = (left(KEPT_MEAN), left(KEPT_SQUARE));
        for (k, slope) in gradient.iter().enumerate() {
            self.means[k] = KEPT_MEAN * self.means[k] + (1.0 - KEPT_MEAN) * slope;
            self.squares[k] = KEPT_SQUARE * self.squares[k] + (1.0 - KEPT_SQUARE) * slope * slope;
            let deviation = (self.squares[k] / of_squares).sqrt();
            self.weights[k] -= RATE * self.means[k] / of_means / (deviation + TINY);
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], what: &[f64]) {
    for (to, what) in to.iter_mut().zip(what) {
        *to += what;
    }
}

fn quarters(gates: &[f64]) -> [&[f64]; 4] {
    [0, 1, 2, 3].map(|quarter| &gates[quarter * HIDDEN..][..HIDDEN])
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

pub(super) fn softmax(logits: &[f64]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logits.iter().map(|x| libm::exp(x - largest)).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|w| w / sum).collect()
}

#[cfg(test)]
mod tests {
    use shared::Seed;

    use super::*;

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let mut rng = Seed::new(3).rng();
        let mut controller = Controller::new(vec![3, 2, 4], &mut rng);
        for weight in &mut controller.weights {
            *weight = rng.random::<f64>() - 0.5;
        }
        for choices in [
            vec![Some(2), Some(0), Some(1)],
            vec![Some(1), None, Some(3)],
        ] {
            // Minus the logarithm of the probability of what was chosen, where something was.
            let loss = |controller: &Controller| -> f64 {
                let probabilities = controller.probabilities(&choices);
                let chosen = probabilities.iter().zip(&choices);
                chosen
                    .filter_map(|(p, chosen)| Some(-p[(*chosen)?].ln()))
                    .sum()
            };
            let mut gradient = vec![0.0; controller.num_weights()];
            controller.add_gradient(
                &choices,
                |j, p| {
                    let is_chosen = |i| f64::from(u8::from(choices[j] == Some(i)));
                    let applies = f64::from(u8::from(choices[j].is_some()));
                    p.iter()
                        .enumerate()
                        .map(|(i, p)| applies * p - is_chosen(i))
                        .collect()
                },
                &mut gradient,
            );
            for (k, slope) in gradient.iter().enumerate() {
                let at = controller.weights[k];
                let mut loss_at = |x| {
                    controller.weights[k] = x;
                    loss(&controller)
                };
                let difference = (loss_at(at + 1e-5) - loss_at(at - 1e-5)) / 2e-5;
                controller.weights[k] = at;
                assert!(
                    (slope - difference).abs() < 1e-7,
                    "{k}: {slope} {difference}"
                );
            }
        }
    }
}
