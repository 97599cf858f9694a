//! How far a search is: bars on a terminal, plain lines now and then elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use shared::budget::short;
use shared::cli::{redirect_logs, report};
use shared::wording::{about, count, significant};
use shared::{Budget, Directory, Ladder, owner};
use tracing::warn;

use crate::run::Scheduler;
use crate::status::{FileClock, Incumbent, RungStatus, Status, look};

/// The shortest time between two plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(10);
/// The shortest time between two changes of the bars.
const DRAW_INTERVAL: Duration = Duration::from_millis(200);

/// Shows how far a search is.
#[derive(Debug)]
pub(crate) struct Progress {
    bars: Option<Bars>,
    shown: Option<Instant>,
    line: String,
    files: FileClock,
}

#[derive(Debug)]
struct Bars {
    all: MultiProgress,
    rungs: Vec<ProgressBar>,
    summary: ProgressBar,
}

impl Progress {
    /// Bars if stderr is a terminal. The log goes to a file, and only its warnings to stderr.
    pub(crate) fn new(directory: &Directory) -> Result<Self> {
        let bars = if std::io::stderr().is_terminal() {
            Some(Bars::new(directory)?)
        } else {
            None
        };
        let log = directory
            .layout()
            .program_log("scheduler", &owner::host_name());
        let log = shared::fs::open_log(&log)?;
        let all = bars.as_ref().map(|bars| bars.all.clone());
        redirect_logs(move |line| {
            let is_urgent = line.contains(" WARN ") || line.contains("ERROR ");
            if !is_urgent && (&log).write_all(line.as_bytes()).is_ok() {
                return;
            }
            match &all {
                Some(all) => {
                    // Without a terminal there is nobody to tell.
                    let _unseen = all.println(line.trim_end());
                }
                None => report(line.trim_end()),
            }
        });
        Ok(Self {
            bars,
            shown: None,
            line: String::new(),
            files: FileClock::ask(directory),
        })
    }

    /// Shows what the scheduler knows, if it is time to.
    pub(crate) fn show(&mut self, scheduler: &Scheduler) {
        let interval = if self.bars.is_some() {
            DRAW_INTERVAL
        } else {
            LINE_INTERVAL
        };
        if self.shown.is_some_and(|shown| shown.elapsed() < interval) {
            return;
        }
        self.shown = Some(Instant::now());
        self.draw(scheduler);
    }

    /// Shows the last state and leaves the terminal in order.
    pub(crate) fn end(&mut self, scheduler: &Scheduler) {
        self.draw(scheduler);
        if let Some(bars) = &self.bars {
            for bar in bars.rungs.iter().chain([&bars.summary]) {
                bar.abandon();
            }
            // What comes next starts on a line of its own.
            report("");
        }
    }

    fn draw(&mut self, scheduler: &Scheduler) {
        let status = match look(
            scheduler.scanner(),
            scheduler.state(),
            Some(scheduler.started()),
            self.files,
        ) {
            Ok(status) => status,
            Err(error) => {
                warn!("cannot show the progress: {error:#}");
                return;
            }
        };
        let summary = summary(&status);
        if let Some(bars) = &mut self.bars {
            let ladder = &scheduler.scanner().directory().search().ladder;
            if let Err(error) = bars.add_to(status.rungs.len(), ladder) {
                warn!("cannot show the progress: {error:#}");
            }
            for (bar, rung) in bars.rungs.iter().zip(&status.rungs) {
                bar.set_length(rung.expected.max(rung.done()));
                bar.set_position(rung.done());
            }
            bars.summary.set_message(summary);
        } else {
            let rungs = status.rungs.iter();
            let rungs: Vec<String> = rungs
                .map(|rung| format!("{}/{}", rung.done(), rung.expected))
                .collect();
            let line = format!("jobs by rung {}; {summary}", rungs.join(" "));
            if line != self.line {
                report(&line);
                self.line = line;
            }
        }
    }
}

impl Bars {
    fn new(directory: &Directory) -> Result<Self> {
        let all = MultiProgress::new();
        let summary = all.add(
            ProgressBar::new_spinner().with_style(ProgressStyle::with_template(
                "{elapsed_precise} {wide_msg}",
            )?),
        );
        summary.enable_steady_tick(Duration::from_secs(1));
        let mut bars = Self {
            all,
            rungs: Vec::new(),
            summary,
        };
        let ladder = &directory.search().ladder;
        bars.add_to(usize::from(ladder.num_levels()), ladder)?;
        Ok(bars)
    }

    /// Adds bars for rungs that have none, up to so many.
    fn add_to(&mut self, number: usize, ladder: &Ladder) -> Result<()> {
        for rung in (0..ladder.num_levels()).take(number).skip(self.rungs.len()) {
            let budget = ladder.budget(rung);
            let prefix = format!("{} {}", short(budget.amount), budget.unit.symbol());
            let style = ProgressStyle::with_template("{prefix:>16} {bar:30} {pos:>5}/{len}")?;
            let bar = ProgressBar::new(0).with_style(style);
            let bar = self
                .all
                .insert_before(&self.summary, bar.with_prefix(prefix));
            self.rungs.push(bar);
        }
        Ok(())
    }
}

/// The state in one line.
fn summary(status: &Status) -> String {
    let best = best(status.incumbent.as_ref(), &status.rungs);
    let left = match status.remaining_s {
        Some(_) if status.phase == "finished" => "finished".into(),
        Some(seconds) => format!("about {} left", about(seconds)),
        None => "time left unknown".into(),
    };
    format!("{best}; {}; {left}", count(status.trainers_live, "trainer"))
}

/// The incumbent in words. The first loss at a larger budget replaces a lower one at a smaller budget, so that one is
/// named beside it: nobody should take the change for a loss that rose.
fn best(incumbent: Option<&Incumbent>, rungs: &[RungStatus]) -> String {
    let Some(best) = incumbent else {
        return "no result yet".into();
    };
    let text = format!(
        "best at {}: {} with loss {}",
        best.budget,
        best.configuration,
        significant(best.loss, 5)
    );
    let below = rungs.iter().filter(|rung| rung.rung < best.rung);
    let losses = below.filter_map(|rung| Some((rung.best_loss?, rung)));
    let lowest = losses.min_by(|a, b| a.0.total_cmp(&b.0));
    if let Some((loss, rung)) = lowest.filter(|(loss, _)| *loss < best.loss) {
        let budget = Budget {
            amount: rung.budget,
            unit: rung.unit,
        };
        return format!("{text} (at {budget} it was {})", significant(loss, 5));
    }
    text
}

#[cfg(test)]
mod tests {
    use shared::BudgetUnit;

    use super::*;

    #[test]
    fn a_larger_budgets_first_loss_is_no_rise_of_the_best() {
        let rung = |rung: u8, best_loss| RungStatus {
            rung,
            budget: 3_f64.powi(rung.into()),
            unit: BudgetUnit::Epochs,
            expected: 9,
            open: 0,
            claimed: 0,
            evaluated: 9,
            infeasible: 0,
            failed: 0,
            lost: 0,
            stopped: 0,
            stopped_here: 0,
            best_loss,
            mean_s: None,
        };
        let incumbent = |rung, budget: &str, loss| Incumbent {
            configuration: "c000012".into(),
            rung,
            budget: budget.into(),
            loss,
            standard_error: None,
            seeds: None,
        };
        let two = [rung(0, Some(0.047)), rung(1, None)];
        let said = best(Some(&incumbent(0, "1 epoch", 0.047)), &two);
        assert_eq!(said, "best at 1 epoch: c000012 with loss 0.047");
        let three = [
            rung(0, Some(0.047)),
            rung(1, Some(0.2)),
            rung(2, Some(0.898)),
        ];
        let said = best(Some(&incumbent(2, "9 epochs", 0.898)), &three);
        assert_eq!(
            said,
            "best at 9 epochs: c000012 with loss 0.898 (at 1 epoch it was 0.047)"
        );
        let said = best(Some(&incumbent(2, "9 epochs", 0.04)), &three);
        assert_eq!(said, "best at 9 epochs: c000012 with loss 0.04");
        assert_eq!(best(None, &three), "no result yet");
    }
}
