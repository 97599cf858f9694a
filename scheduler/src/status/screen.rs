//! The status as a screen of a terminal: a pure function of the status, the size, and what the user has scrolled to.
//!
//! ```text
//!   name and phase                      time left
//!   counts
//!   rungs, each with a bar
//!   the incumbent
//!   ── what it waits for, SLURM's queue, crashes: as far as there are any
//!   ── trainers, scrolled where they do not fit
//!   keys, or what went wrong
//! ```
//! Nothing is said by colour alone. On a terminal too small for that, everything between the first and the last line
//! is scrolled.

use ratatui::Frame;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use shared::wording::{about, bytes, one_line, shortened, significant};

use super::{RungStatus, Status, TrainerStatus};

/// What of the drawing is not in the status.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Lines that are scrolled away.
    pub scroll: usize,
    /// What stands in the last line instead of the keys.
    pub notice: Option<String>,
    /// Whether there are colours.
    pub is_coloured: bool,
}

/// What was drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// The most that can be scrolled.
    pub most: usize,
    /// Lines that scroll at once by a page.
    pub page: usize,
}

/// How long lists other than that of the trainers may be, and how many trainers there must then be room for, the best
/// first. Where even the last does not fit, everything is scrolled.
const FORMS: [(usize, usize); 4] = [(usize::MAX, 6), (4, 3), (3, 3), (2, 3)];
/// The widest bar.
const WIDEST_BAR: usize = 40;

/// Draws one frame.
pub fn draw(frame: &mut Frame<'_>, status: &Status, view: &View) -> Shown {
    let area = frame.area();
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let painter = Painter {
        width,
        is_coloured: view.is_coloured,
    };
    let room = height.saturating_sub(2);
    let trainers = painter.trainers(&status.trainers);
    let heading = painter.rule(&format!("trainers: {}", status.trainer_counts()));
    let fitting = FORMS
        .into_iter()
        .map(|(longest, rows)| (painter.summary(status, longest), rows))
        .find(|(summary, rows)| summary.len() + 1 + trainers.len().min(*rows) <= room);
    let (mut fixed, scrolled) = if let Some((mut summary, _rows)) = fitting {
        summary.push(heading);
        (summary, trainers)
    } else {
        let mut all = painter.summary(status, usize::MAX);
        all.push(heading);
        all.extend(trainers);
        (Vec::new(), all)
    };
    let page = room - fixed.len();
    let most = scrolled.len().saturating_sub(page);
    let from = view.scroll.min(most);
    let num_scrolled = scrolled.len();
    fixed.extend(scrolled.into_iter().skip(from).take(page));
    let foot = painter.foot(view, from, page, num_scrolled);
    let buffer = frame.buffer_mut();
    let head = painter.head(status);
    let lines = std::iter::once((0, &head))
        .chain((1..).zip(&fixed))
        .chain([(height.saturating_sub(1), &foot)]);
    for (row, line) in lines {
        if let Ok(row) = u16::try_from(row)
            && row < area.height
        {
            buffer.set_line(area.x, area.y + row, line, area.width);
        }
    }
    Shown { most, page }
}

/// Makes lines of a width.
#[derive(Clone, Copy)]
struct Painter {
    width: usize,
    is_coloured: bool,
}

impl Painter {
    fn coloured(self, style: Style, colour: Color) -> Style {
        if self.is_coloured {
            style.fg(colour)
        } else {
            style
        }
    }

    /// What belongs to the left end of a line, and what to its right end if there is room for both.
    fn between(self, left: Vec<Span<'static>>, right: &str) -> Line<'static> {
        let mut line = Line::from(left);
        let used = line.width() + right.chars().count();
        match self.width.checked_sub(used + 1) {
            Some(rest) => line.push_span(format!("{}{right}", " ".repeat(rest + 1))),
            None => line.push_span(" ".repeat(self.width.saturating_sub(line.width()))),
        }
        line
    }

    fn head(self, status: &Status) -> Line<'static> {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let phase = status.phase;
        let colour = match phase {
            "stopped" => Color::Yellow,
            "finished" => Color::Cyan,
            _ => Color::Green,
        };
        let forms = match (phase, status.end()) {
            ("running", Some((left, at))) => vec![
                format!("about {left} left, until {at} "),
                format!("about {left} left "),
            ],
            ("running", None) => vec![format!("time left {} ", status.time_left())],
            _ => Vec::new(),
        };
        let name = one_line(&status.search);
        let others = |right: &String| right.chars().count() + phase.len() + 5;
        let fits = |right: &String| others(right) + name.chars().count().min(12) <= self.width;
        let right = forms.into_iter().find(fits).unwrap_or_default();
        // The time matters more than the end of a long name.
        let name = shortened(&name, self.width.saturating_sub(others(&right)).max(8));
        let left = vec![
            Span::styled(format!(" {name}  "), bold),
            Span::styled(phase, self.coloured(bold, colour)),
        ];
        self.between(left, &right)
    }

    /// Everything but the trainers, lists of at most `longest` lines.
    fn summary(self, status: &Status, longest: usize) -> Vec<Line<'static>> {
        let counts = format!(" {}", status.configurations());
        let size = status
            .checkpoint_bytes
            .map_or_else(String::new, |size| format!("checkpoints {}", bytes(size)));
        let mut lines = if counts.len() + size.len() + 2 < self.width {
            vec![self.between(vec![counts.into()], &format!("{size} "))]
        } else {
            vec![counts.into(), format!(" {size}").into()]
        };
        if longest == usize::MAX {
            lines.push(Line::default());
        }
        lines.extend(self.rungs(&status.rungs));
        let bold = Style::new().add_modifier(Modifier::BOLD);
        lines.push(Line::from(vec![
            Span::styled(" incumbent: ", bold),
            Span::raw(status.best()),
        ]));
        let slurm = status.slurm_lines();
        let crashes: Vec<String> = status.crashes.iter().map(ToString::to_string).collect();
        let nothing = Vec::new();
        let waiting_for = match status.phase {
            "finished" => &nothing,
            _ => &status.waiting_for,
        };
        let lists = [
            ("waiting for", waiting_for),
            ("SLURM", &slurm),
            ("the first that crashed", &crashes),
        ];
        for (title, list) in lists {
            if !list.is_empty() {
                lines.push(self.rule(title));
                lines.extend(self.list(list, longest));
            }
        }
        lines
    }

    fn rule(self, title: &str) -> Line<'static> {
        let rest = self.width.saturating_sub(title.chars().count() + 4);
        let faint = Style::new().add_modifier(Modifier::DIM);
        Line::from(vec![
            Span::styled("── ", faint),
            Span::styled(title.to_owned(), Style::new().add_modifier(Modifier::BOLD)),
            Span::styled(format!(" {}", "─".repeat(rest)), faint),
        ])
    }

    /// Texts, each wrapped; what is left out of a list is counted.
    fn list(self, texts: &[String], longest: usize) -> Vec<Line<'static>> {
        if longest == usize::MAX {
            let wrapped = texts.iter().flat_map(|text| wrapped(text, self.width));
            return wrapped.map(Line::from).collect();
        }
        let shown = if texts.len() > longest {
            longest - 1
        } else {
            texts.len()
        };
        let mut lines: Vec<Line<'static>> = texts[..shown]
            .iter()
            .map(|text| format!(" {}", shortened(text, self.width.saturating_sub(2))).into())
            .collect();
        if shown < texts.len() {
            lines.push(format!(" and {} more", texts.len() - shown).into());
        }
        lines
    }

    fn rungs(self, rungs: &[RungStatus]) -> Vec<Line<'static>> {
        let head = [
            "rung",
            "budget",
            "done",
            "open",
            "claimed",
            "failed",
            "lost",
            "best loss",
            "mean",
        ];
        let mut rows = vec![head.map(str::to_owned)];
        rows.extend(rungs.iter().map(|rung| {
            [
                rung.rung.to_string(),
                rung.budget_and_unit(),
                match (rung.expected, rung.stopped_here) {
                    (0, number @ 1..) => format!("{number} stopped"),
                    _ => format!("{}/{}", rung.done(), rung.expected),
                },
                rung.open.to_string(),
                rung.claimed.to_string(),
                rung.failed.to_string(),
                rung.lost.to_string(),
                rung.best_loss
                    .map_or_else(|| "-".into(), |loss| significant(loss, 5)),
                rung.mean_s.map_or_else(|| "-".into(), about),
            ]
        }));
        let mut widths = widest(&rows);
        let used = |widths: &[usize; 9]| -> usize {
            let shown = widths.iter().filter(|width| **width > 0);
            shown.map(|width| width + 2).sum()
        };
        // Where there is no room for all columns: the time a job takes, then what is seldom not 0.
        for column in [8, 6, 5, 3] {
            if used(&widths) > self.width {
                widths[column] = 0;
            }
        }
        // A bar takes what is left, with a space before it and before the margin.
        let bar = self.width.saturating_sub(used(&widths) + 2).min(WIDEST_BAR);
        let bar = if bar < 4 { 0 } else { bar };
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let mut lines = Vec::new();
        for (number, row) in rows.into_iter().enumerate() {
            let rung = number.checked_sub(1).map(|index| &rungs[index]);
            let mut spans = vec![Span::raw(" ")];
            for (column, (cell, width)) in row.into_iter().zip(widths).enumerate() {
                if width == 0 {
                    continue;
                }
                let before = if column == 0 { "" } else { "  " };
                let style = match rung {
                    None => bold,
                    Some(_) if column == 5 && cell != "0" => self.coloured(bold, Color::Red),
                    Some(_) if column == 6 && cell != "0" => self.coloured(bold, Color::Yellow),
                    Some(_) => Style::new(),
                };
                if column == 2 && bar > 0 {
                    spans.push(Span::raw("  "));
                    match rung {
                        None => spans.push(Span::raw(" ".repeat(bar))),
                        Some(rung) => spans.extend(self.bar(rung, bar)),
                    }
                }
                spans.push(Span::raw(before));
                spans.push(Span::styled(format!("{cell:>width$}"), style));
            }
            lines.push(Line::from(spans));
        }
        lines
    }

    /// `████▒▒░░░░`: done, in somebody's hands, still to come.
    fn bar(self, rung: &RungStatus, width: usize) -> [Span<'static>; 3] {
        let claimed = u64::try_from(rung.claimed).unwrap_or(u64::MAX); // fewer by far
        let all = rung.expected.max(rung.done()).max(1);
        let cells = |jobs: u64| {
            let share = jobs.min(all) as f64 / all as f64;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and the width of a terminal"
            )]
            let cells = (share * width as f64).floor() as usize;
            cells
        };
        let done = cells(rung.done());
        let touched = cells(rung.done() + claimed);
        [
            Span::styled("█".repeat(done), self.coloured(Style::new(), Color::Green)),
            Span::styled(
                "▒".repeat(touched - done),
                self.coloured(Style::new(), Color::Cyan),
            ),
            Span::styled(
                "░".repeat(width - touched),
                Style::new().add_modifier(Modifier::DIM),
            ),
        ]
    }

    /// A line for each, those that need somebody's eyes first.
    fn trainers(self, trainers: &[TrainerStatus]) -> Vec<Line<'static>> {
        let mut sorted: Vec<&TrainerStatus> = trainers.iter().collect();
        sorted.sort_by_key(|trainer| match (trainer.is_silent, &trainer.job) {
            (true, Some(_)) => 0,
            (false, Some(_)) => 1,
            (false, None) => 2,
            // Long dead, and nothing waits for it.
            (true, None) => 3,
        });
        let mut rows: Vec<[String; 7]> = sorted.iter().map(|trainer| cells(trainer)).collect();
        let widths = self.fitted(&mut rows);
        let lines = sorted.iter().zip(rows).map(|(trainer, row)| {
            let style = match (trainer.is_silent, &trainer.job) {
                (true, _) => self.coloured(Style::new().add_modifier(Modifier::BOLD), Color::Red),
                (false, Some(_)) => self.coloured(Style::new(), Color::Green),
                (false, None) => Style::new().add_modifier(Modifier::DIM),
            };
            let mut spans = Vec::new();
            for (column, (cell, width)) in row.into_iter().zip(widths).enumerate() {
                if width == 0 {
                    continue;
                }
                let text = format!(" {:<width$} ", shortened(&cell, width));
                spans.push(Span::styled(
                    text,
                    if column == 0 { style } else { Style::new() },
                ));
            }
            Line::from(spans)
        });
        lines.collect()
    }

    /// The columns' widths: as wide as they must be. Where that is too wide, hosts lose their domains, devices and hosts
    /// are cut, and SLURM's job is left out.
    fn fitted(self, rows: &mut [[String; 7]]) -> [usize; 7] {
        const HOST: usize = 1;
        const DEVICE: usize = 2;
        const SLURM_JOB: usize = 6;
        let used = |widths: &[usize; 7]| -> usize {
            let shown = widths.iter().filter(|width| **width > 0);
            shown.map(|width| width + 2).sum()
        };
        let excess = |widths: &[usize; 7]| used(widths).saturating_sub(self.width);
        let mut widths = widest(rows);
        if excess(&widths) > 0 {
            for [_, host, ..] in &mut *rows {
                let is_address = host.parse::<std::net::IpAddr>().is_ok();
                if let Some(domain) = host.find('.').filter(|_| !is_address) {
                    host.truncate(domain);
                }
            }
            widths = widest(rows);
        }
        let wanted = widths;
        for (column, least) in [
            (DEVICE, 12),
            (HOST, 12),
            (SLURM_JOB, 0),
            (DEVICE, 6),
            (HOST, 8),
            (DEVICE, 0),
        ] {
            let over = excess(&widths);
            if over > 0 && least == 0 {
                widths[column] = 0;
            } else {
                let cut = widths[column].saturating_sub(over);
                widths[column] = cut.max(widths[column].min(least));
            }
        }
        // What a column that was left out had needed is for those that were cut before.
        for column in [HOST, DEVICE] {
            let free = self.width.saturating_sub(used(&widths));
            if widths[column] > 0 {
                widths[column] = wanted[column].min(widths[column] + free);
            }
        }
        widths
    }

    fn foot(self, view: &View, from: usize, page: usize, number: usize) -> Line<'static> {
        let reversed = Style::new().add_modifier(Modifier::REVERSED);
        let position = if number > page {
            format!(
                "lines {}-{} of {number} ",
                from + 1,
                (from + page).min(number)
            )
        } else {
            String::new()
        };
        let (text, style) = match &view.notice {
            Some(notice) => (one_line(notice), self.coloured(reversed, Color::Yellow)),
            None if number > page => ("q quit   scroll: ↑ ↓ PgUp PgDn Home End".into(), reversed),
            None => ("q quit".into(), reversed),
        };
        let room = self.width.saturating_sub(position.len() + 2);
        let text = format!(" {}", shortened(&text, room));
        let line = self.between(vec![Span::raw(text)], &position);
        line.style(style)
    }
}

/// The widths of the columns of a table.
fn widest<const N: usize>(rows: &[[String; N]]) -> [usize; N] {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    widths
}

fn cells(trainer: &TrainerStatus) -> [String; 7] {
    let slurm_job = trainer.slurm_job.as_ref();
    [
        trainer.state().to_owned(),
        one_line(&trainer.host),
        one_line(&trainer.device),
        trainer
            .job
            .clone()
            .unwrap_or_else(|| "waits for a job".into()),
        trainer.progress(),
        format!("heard {} ago", trainer.heard()),
        slurm_job.map_or_else(String::new, |job| format!("SLURM job {}", one_line(job))),
    ]
}

/// Lines of a text, the later ones further in; words that are too long are cut.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::from(" ");
    let mut is_empty = true;
    for word in text.split(' ') {
        let long = line.chars().count() + 1 + word.chars().count() > width.saturating_sub(1);
        if long && !is_empty {
            lines.push(std::mem::replace(&mut line, "   ".into()));
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        let room = width.saturating_sub(line.chars().count() + 1);
        line += &shortened(word, room);
        is_empty = false;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests;
