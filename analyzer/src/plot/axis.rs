//! Axes: from numbers to pixels, with ticks at round numbers and no label on top of another.

use super::{Anchor, FONT, Ink, Point, Scene, text_width};
use crate::wording::{shortened, significant};

/// From numbers to the interval from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    low: f64,
    high: f64,
    is_log: bool,
}

impl Scale {
    /// A scale with even steps. A single number gets room on both sides.
    pub fn linear(low: f64, high: f64) -> Self {
        let (low, high) = if low < high {
            (low, high)
        } else {
            let room = if low.abs() > 0.0 {
                0.1 * low.abs()
            } else {
                1.0
            };
            (low - room, low + room)
        };
        Self {
            low,
            high,
            is_log: false,
        }
    }

    /// A logarithmic scale.
    ///
    /// # Panics
    /// Where `low` is not above 0.
    pub fn log(low: f64, high: f64) -> Self {
        assert!(low > 0.0, "a logarithmic scale begins above 0");
        let (low, high) = if low < high {
            (low, high)
        } else {
            (low / 1.5, low * 1.5)
        };
        Self {
            low,
            high,
            is_log: true,
        }
    }

    /// A logarithmic scale with a little room on both sides, however far apart the ends are.
    ///
    /// # Panics
    /// Where `low` is not above 0.
    pub(crate) fn log_with_room(low: f64, high: f64) -> Self {
        let share = |x: f64| x.powf(0.03); // of each, as the quotient of the two may overflow
        let room = share(high) / share(low);
        Self::log(
            (low / room).max(f64::MIN_POSITIVE),
            (high * room).min(f64::MAX),
        )
    }

    /// A scale for these numbers with a little room: logarithmic where all are positive and span more than a factor of
    /// 10. `None` without finite numbers.
    pub fn fitting(numbers: impl IntoIterator<Item = f64>) -> Option<Self> {
        let numbers = numbers.into_iter().filter(|x| x.is_finite());
        let (low, high) = numbers.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| {
            (low.min(x), high.max(x))
        });
        if low > high {
            return None;
        }
        if low > 0.0 && high / low > 10.0 {
            return Some(Self::log_with_room(low, high));
        }
        // A range too large for the numbers themselves would overflow.
        let room = 0.04 * (high / 2.0 - low / 2.0) * 2.0;
        let (low, high) = (low - room, high + room);
        (low.is_finite() && high.is_finite()).then(|| Self::linear(low, high))
    }

    /// Whether it is logarithmic.
    pub fn is_log(&self) -> bool {
        self.is_log
    }

    /// Where a number lies: 0 at the low end, 1 at the high end, clamped.
    pub fn place(&self, x: f64) -> f64 {
        let share = if self.is_log {
            if x <= 0.0 {
                return 0.0;
            }
            let low = self.low.ln(); // quotients of the numbers may overflow, and so may differences below
            (x.ln() - low) / (self.high.ln() - low)
        } else {
            (x / 2.0 - self.low / 2.0) / (self.high / 2.0 - self.low / 2.0)
        };
        share.clamp(0.0, 1.0)
    }

    /// Round numbers in the range, at most about `most`.
    pub fn ticks(&self, most: usize) -> Vec<f64> {
        let most = most.max(2);
        if self.is_log {
            let decades = (self.low.log10().ceil(), self.high.log10().floor());
            let num_decades = decades.1 - decades.0 + 1.0;
            if num_decades >= 2.0 {
                let step = (num_decades / most as f64).ceil().max(1.0);
                let all = (0..).map(|i| decades.0 + step * f64::from(i));
                return all
                    .take_while(|exponent| *exponent <= decades.1)
                    .map(|exponent| 10_f64.powf(exponent))
                    .collect();
            }
            // Less than two powers of ten: 1, 2, 5 of each, if there are enough.
            let within = |x: &f64| (self.low..=self.high).contains(x);
            let first = self.low.log10().floor();
            let ticks: Vec<f64> = (0..3)
                .flat_map(|i| [1.0, 2.0, 5.0].map(|m| m * 10_f64.powf(first + f64::from(i))))
                .filter(within)
                .collect();
            if ticks.len() >= 2 {
                return thinned(ticks, most);
            }
        }
        let rough = self.high / most as f64 - self.low / most as f64;
        let power = 10_f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|m| m * power);
        let step = steps
            .into_iter()
            .find(|s| *s >= rough * 0.999)
            .unwrap_or(10.0 * power);
        let first = (self.low / step).ceil();
        let all = (0..=most).map(|i| (first + i as f64) * step);
        all.filter(|x| *x <= self.high + 1e-9 * step).collect()
    }
}

fn thinned(ticks: Vec<f64>, most: usize) -> Vec<f64> {
    let step = ticks.len().div_ceil(most);
    ticks.into_iter().step_by(step).collect()
}

/// Rounds a tick's number so that neighbours differ.
fn label(x: f64, ticks: &[f64]) -> String {
    let digits = (2..=7).find(|&digits| {
        let labels: Vec<String> = ticks.iter().map(|t| significant(*t, digits)).collect();
        let is_exact = |(tick, text): (&f64, &String)| {
            let step = ticks
                .windows(2)
                .map(|pair| pair[1] - pair[0])
                .fold(f64::INFINITY, f64::min);
            text.parse::<f64>()
                .is_ok_and(|read| (read - tick).abs() <= 0.01 * step.abs())
        };
        ticks.iter().zip(&labels).all(is_exact)
    });
    significant(x, digits.unwrap_or(7))
}

/// The part of a scene that a plot is drawn in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Frame {
    /// Left, top.
    pub from: Point,
    /// Right, bottom.
    pub to: Point,
    /// The horizontal scale.
    pub x: Scale,
    /// The vertical scale, upwards.
    pub y: Scale,
}

impl Frame {
    /// The pixel of a pair of numbers.
    pub fn at(&self, x: f64, y: f64) -> Point {
        (self.x_at(x), self.y_at(y))
    }

    /// The pixel column of a number.
    pub(crate) fn x_at(&self, x: f64) -> f64 {
        self.from.0 + self.x.place(x) * (self.to.0 - self.from.0)
    }

    /// The pixel row of a number.
    pub(crate) fn y_at(&self, y: f64) -> f64 {
        self.to.1 - self.y.place(y) * (self.to.1 - self.from.1)
    }

    /// Draws grid, ticks, labels and the names of both axes.
    pub(crate) fn draw_axes(&self, scene: &mut Scene, x_name: &str, y_name: &str) {
        self.draw_x_axis(scene, x_name);
        self.draw_y_axis(scene, y_name);
    }

    /// Draws the vertical axis alone.
    pub(crate) fn draw_y_axis(&self, scene: &mut Scene, y_name: &str) {
        let height = self.to.1 - self.from.1;
        let ticks = self.y.ticks(most(height, 34.0));
        for &tick in &ticks {
            let y = self.y_at(tick);
            scene.line(vec![(self.from.0, y), (self.to.0, y)], Ink::Grid, 1.0);
            let at = (self.from.0 - 5.0, y + FONT * 0.35);
            scene.words(at, label(tick, &ticks), Ink::Muted, Anchor::End);
        }
        let middle = f64::midpoint(self.from.1, self.to.1);
        let name = shortened(y_name, characters(height));
        scene.turned_words((12.0, middle), name, Ink::Text, Anchor::Middle, -90.0);
    }

    /// Draws the horizontal axis alone.
    pub(crate) fn draw_x_axis(&self, scene: &mut Scene, name: &str) {
        let ticks = self.x.ticks(most(self.to.0 - self.from.0, 60.0));
        self.draw_x_ticks(scene, &ticks, name);
    }

    /// Draws the horizontal axis with these ticks, or every second or third of them, so that labels have room.
    pub(crate) fn draw_x_ticks(&self, scene: &mut Scene, ticks: &[f64], name: &str) {
        let width = self.to.0 - self.from.0;
        let labels: Vec<(f64, String)> = ticks.iter().map(|t| (*t, label(*t, ticks))).collect();
        let places: Vec<f64> = ticks.iter().map(|tick| self.x_at(*tick)).collect();
        let closest = places.windows(2).map(|pair| pair[1] - pair[0]);
        let closest = closest.fold(width, f64::min).max(1.0);
        let widest = labels.iter().map(|(_, text)| text_width(text));
        let step = ((widest.fold(0.0, f64::max) + 8.0) / closest).ceil();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a few"
        )]
        let step = (step as usize).max(1);
        for (tick, text) in labels.into_iter().step_by(step) {
            let x = self.x_at(tick);
            scene.line(vec![(x, self.from.1), (x, self.to.1)], Ink::Grid, 1.0);
            // A label at the very end would leave the drawing.
            let half = text_width(&text) / 2.0 + 1.0;
            let middle = x.min(scene.width - half).max(half);
            let at = (middle, self.to.1 + FONT + 4.0);
            scene.words(at, text, Ink::Muted, Anchor::Middle);
        }
        let corner = (self.from.0, self.to.1);
        scene.line(vec![corner, self.to], Ink::Muted, 1.0);
        let middle = f64::midpoint(self.from.0, self.to.0);
        let at = (middle, self.to.1 + 2.0 * FONT + 10.0);
        let room = 2.0 * middle.min(scene.width - middle) - 8.0;
        let name = shortened(name, characters(room));
        scene.words(at, name, Ink::Text, Anchor::Middle);
    }
}

/// How many labels that take `each` pixels fit.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a few"
)]
fn most(pixels: f64, each: f64) -> usize {
    (pixels / each).clamp(2.0, 10.0) as usize
}

/// How many characters fit into pixels.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a few hundred"
)]
fn characters(pixels: f64) -> usize {
    (pixels / text_width("x")).clamp(4.0, 1000.0) as usize
}
