//! Losses of steps that a device has not finished: they are read together, because reading one waits for the device.

use std::time::Instant;

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, Transaction};

/// Steps that a device may be ahead of what is known of their losses.
const MOST_UNREAD: usize = 50;
/// Seconds of steps that it may be ahead: a warning is answered, and a budget in seconds kept, as precisely.
const LONGEST_UNREAD_S: f64 = 0.5;

/// Where a training was when a loss was handed in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct At {
    /// Steps taken.
    pub(super) step: u64,
    /// Budget spent, as far as was known.
    pub(super) spent: f64,
}

/// Losses that nobody has read so far.
pub(super) struct Unread<B: Backend> {
    losses: Vec<(At, Tensor<B, 1>)>,
    /// How many there may be.
    most: usize,
    /// Whether there may be more than one at all.
    runs_ahead: bool,
    read_at: Instant,
}

impl<B: Backend> Unread<B> {
    pub(super) fn new(runs_ahead: bool) -> Self {
        Self {
            losses: Vec::new(),
            most: 1,
            runs_ahead,
            read_at: Instant::now(),
        }
    }

    /// Takes a step's loss in. `[1]`
    pub(super) fn push(&mut self, at: At, loss: Tensor<B, 1>) {
        self.losses.push((at, loss));
    }

    /// Whether the device is as far ahead as it may be.
    pub(super) fn is_due(&self) -> bool {
        self.losses.len() >= self.most
    }

    /// Waits for the device, and reads all losses, the oldest first.
    pub(super) fn read(&mut self) -> Vec<(At, f64)> {
        if self.losses.is_empty() {
            return Vec::new();
        }
        let (places, losses): (Vec<At>, Vec<_>) = self.losses.drain(..).unzip();
        let read = losses
            .into_iter()
            .fold(Transaction::default(), Transaction::register);
        let values = read.execute();
        let step_s = self.read_at.elapsed().as_secs_f64() / places.len() as f64;
        self.read_at = Instant::now();
        if self.runs_ahead {
            self.most = most_unread(step_s);
        }
        let number = |value: burn::tensor::TensorData| value.iter::<f64>().sum(); // of a single one
        places
            .into_iter()
            .zip(values.into_iter().map(number))
            .collect()
    }
}

/// How many losses may be left unread where a step takes so many seconds.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped"
)]
fn most_unread(step_s: f64) -> usize {
    (LONGEST_UNREAD_S / step_s).clamp(1.0, MOST_UNREAD as f64) as usize
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use burn::backend::flex::FlexDevice;

    use super::*;

    #[test]
    fn a_device_is_never_ahead_for_long() {
        assert_eq!(most_unread(0.0), 50);
        assert_eq!(most_unread(0.001), 50);
        assert_eq!(most_unread(0.1), 5);
        assert_eq!(most_unread(3.0), 1);
    }

    #[test]
    fn losses_are_read_in_their_order_and_each_once() {
        let mut unread = Unread::<Flex>::new(true);
        assert!(unread.read().is_empty());
        for step in 1..=3u8 {
            let at = At {
                step: u64::from(step),
                spent: f64::from(step) / 2.0,
            };
            unread.push(at, Tensor::from_floats([f32::from(step)], &FlexDevice));
            assert!(unread.is_due(), "before anything is known of its speed");
        }
        let read = unread.read();
        let found: Vec<(u64, f64, f64)> = read
            .into_iter()
            .map(|(at, loss)| (at.step, at.spent, loss))
            .collect();
        assert_eq!(found, [(1, 0.5, 1.0), (2, 1.0, 2.0), (3, 1.5, 3.0)]);
        assert!(unread.read().is_empty() && !unread.is_due());
    }

    #[test]
    fn what_computes_at_once_is_read_at_once() {
        let mut unread = Unread::<Flex>::new(false);
        for step in 1..=2 {
            let at = At { step, spent: 1.0 };
            unread.push(at, Tensor::from_floats([1.0], &FlexDevice));
            assert!(unread.is_due());
            assert_eq!(unread.read().len(), 1);
        }
    }
}
