//! The status as text, for a look that is read once.

use std::fmt::Write as _;

use anyhow::Result;
use shared::Budget;
use shared::cli::Format;
use shared::wording::{about, bytes, one_line, plain_json, significant};

use super::{RungStatus, Status, TrainerStatus};
use crate::batch;

impl Status {
    /// The text in a format.
    pub fn text(&self, format: Format) -> Result<String> {
        match format {
            Format::Table => self.table(),
            Format::Json => {
                let text = serde_json::to_string_pretty(self)?;
                Ok(format!("{}\n", plain_json(&text)))
            }
        }
    }

    fn table(&self) -> Result<String> {
        let mut text = String::new();
        writeln!(
            text,
            "search `{}`: {}; {}\n",
            one_line(&self.search),
            self.phase,
            self.configurations()
        )?;
        text += &self.rung_table()?;
        writeln!(text, "\ntrainers: {}", self.trainer_counts())?;
        for trainer in &self.trainers {
            writeln!(text, "  {}", trainer.line())?;
        }
        let slurm = self.slurm_lines();
        if !slurm.is_empty() {
            writeln!(text, "\nSLURM's queue:")?;
        }
        for line in slurm {
            writeln!(text, "  {line}")?;
        }
        writeln!(text, "\nincumbent: {}", self.best())?;
        if !self.crashes.is_empty() {
            writeln!(text, "the first that crashed:")?;
        }
        for crash in &self.crashes {
            writeln!(text, "  {crash}")?;
        }
        if !self.ended_attempts.is_empty() {
            writeln!(text, "last attempts without a result, by host:")?;
        }
        for ended in &self.ended_attempts {
            writeln!(text, "  {}", ended.line())?;
        }
        if let Some(size) = self.checkpoint_bytes {
            writeln!(text, "checkpoints: {}", bytes(size))?;
        }
        writeln!(text, "waiting for:")?;
        for sentence in &self.waiting_for {
            writeln!(text, "  {sentence}")?;
        }
        if self.phase == "running" {
            writeln!(text, "estimated time left: {}", self.time_left())?;
        }
        Ok(text)
    }

    /// A row for each rung.
    fn rung_table(&self) -> Result<String> {
        let mut text = String::new();
        let has_stopped = self.rungs.iter().any(|rung| rung.stopped > 0);
        let stopped = |cell: String| {
            if has_stopped {
                format!("  {cell:>7}")
            } else {
                String::new()
            }
        };
        writeln!(
            text,
            "rung            budget  expected    open  claimed  evaluated{}  failed  lost   best loss     mean",
            stopped("stopped".into())
        )?;
        for rung in &self.rungs {
            writeln!(
                text,
                "{:>4}  {:>16}  {:>8}  {:>6}  {:>7}  {:>9}{}  {:>6}  {:>4}  {:>10}  {:>7}",
                rung.rung,
                rung.budget_and_unit(),
                rung.expected,
                rung.open,
                rung.claimed,
                rung.evaluated,
                stopped(rung.stopped_here.to_string()),
                rung.failed,
                rung.lost,
                rung.best_loss
                    .map_or_else(|| "-".into(), |loss| significant(loss, 5)),
                rung.mean_s.map_or_else(|| "-".into(), about),
            )?;
        }
        Ok(text)
    }

    /// How many configurations there are, in words.
    pub(super) fn configurations(&self) -> String {
        let awaited = match self.awaited {
            0 => String::new(),
            number => format!(", {number} not proposed yet"),
        };
        let infeasible = match self.rungs.iter().map(|rung| rung.infeasible).sum::<u64>() {
            0 => String::new(),
            number => format!(", {number} infeasible"),
        };
        format!(
            "{} of {} configurations requested{awaited}{infeasible}{}",
            self.requested,
            self.configurations,
            self.stopped()
        )
    }

    /// How many trainings were stopped, and where, and how many could not be, in words; nothing if none was.
    fn stopped(&self) -> String {
        let number: u64 = self.rungs.iter().map(|rung| rung.stopped).sum();
        let there = self.rungs.iter().filter(|rung| rung.stopped_here > 0);
        let there: Vec<String> = there
            .map(|rung| format!("{} at {}", rung.stopped_here, rung.budget_and_unit()))
            .collect();
        let stopped = match number {
            0 => String::new(),
            _ => format!(", {number} stopped ({})", there.join(", ")),
        };
        match self.unchecked {
            0 => stopped,
            number => {
                format!("{stopped}, {number} told no loss on the way and could not be stopped")
            }
        }
    }

    /// The best configuration, in words.
    pub(super) fn best(&self) -> String {
        match &self.incumbent {
            Some(best) => {
                let beside = match self.front.as_ref().map(Vec::len) {
                    None => String::new(),
                    Some(number) => format!("; {number} on the front (`analyzer pareto`)"),
                };
                let error = match (best.standard_error, best.seeds) {
                    (Some(error), Some(seeds)) => {
                        format!(" ± {} (mean of {seeds} seeds)", significant(error, 2))
                    }
                    _ => String::new(),
                };
                format!(
                    "{} with loss {}{error} at {} (rung {}){beside}",
                    best.configuration,
                    significant(best.loss, 5),
                    best.budget,
                    best.rung
                )
            }
            None => "none yet".into(),
        }
    }

    /// How many trainers there are, in words.
    pub(super) fn trainer_counts(&self) -> String {
        format!(
            "{} live, {} silent, {} gone",
            self.trainers_live, self.trainers_silent, self.trainers_gone
        )
    }

    /// SLURM's queue, in lines.
    pub(super) fn slurm_lines(&self) -> Vec<String> {
        let error = self.slurm_error.iter().map(|error| one_line(error));
        let mut lines: Vec<String> = error
            .chain(self.slurm.iter().map(batch::describe))
            .collect();
        if lines.is_empty() && self.was_submitted {
            lines.push("nothing of this search".into());
        }
        lines
    }

    /// How long the search will go on, in words.
    pub(super) fn time_left(&self) -> String {
        match self.end() {
            Some((left, at)) => format!("{left}, until {at}"),
            None if self.trainers_live == 0 => "unknown: no trainer lives".into(),
            None => "unknown: no result yet".into(),
        }
    }

    /// How long the search will go on, and when it ends.
    pub(super) fn end(&self) -> Option<(String, String)> {
        let at = self.ends_at.as_ref()?;
        Some((about(self.remaining_s?), minute(at)))
    }
}

impl RungStatus {
    /// `1 epoch`, `27 epochs`.
    pub(super) fn budget_and_unit(&self) -> String {
        let (amount, unit) = (self.budget, self.unit);
        Budget { amount, unit }.to_string()
    }
}

impl TrainerStatus {
    fn line(&self) -> String {
        let state = self.state();
        let job = self.job.as_ref().map_or_else(
            || "waits for a job".into(),
            |job| format!("{job} spent {}", self.progress()),
        );
        let slurm_job = self.slurm_job.as_ref();
        format!(
            "{state:<6}  {}  {}  {job}  heard {} ago{}",
            one_line(&self.host),
            one_line(&self.device),
            self.heard(),
            slurm_job.map_or_else(String::new, |job| format!("  SLURM job {}", one_line(job))),
        )
    }

    /// Whether it lives, in a word.
    pub(super) fn state(&self) -> &'static str {
        if self.is_silent { "silent" } else { "live" }
    }

    /// How far it is with its job: `2.5 of 9`.
    pub(super) fn progress(&self) -> String {
        let number = |amount: Option<f64>| amount.map_or_else(|| "?".into(), |a| significant(a, 3));
        match &self.job {
            Some(_) => format!("{} of {}", number(self.spent), number(self.budget)),
            None => String::new(),
        }
    }

    /// How long ago it was heard of.
    pub(super) fn heard(&self) -> String {
        self.heard_s.map_or_else(|| "?".into(), about)
    }
}

/// `2026-11-24 17:05 UTC` of a time stamp.
fn minute(stamp: &str) -> String {
    match (stamp.get(..10), stamp.get(11..16)) {
        (Some(day), Some(time)) => format!("{day} {time} UTC"),
        _ => stamp.to_owned(),
    }
}
