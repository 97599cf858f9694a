//! Drawings: a scene of lines, areas, dots and words, with axes, that is written as SVG.
//!
//! Colours are roles, not values: inside a page they are the page's CSS variables, so that one drawing does for light,
//! dark and print; in a file of its own they are those of the light theme.

use crate::wording::{put, significant};

pub mod axis;

pub use axis::{Frame, Scale};

/// Size of the words in a drawing, in pixels.
pub(crate) const FONT: f64 = 11.0;
/// Width of a character on average, as a share of the font size, a little on the safe side.
const CHARACTER: f64 = 0.64;
/// Number of different colours for series.
pub(crate) const SERIES: usize = 6;

/// Number of shades from the best to the worst.
pub(crate) const SHADES: usize = 4;

/// What a colour is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// Words.
    Text,
    /// Less important words, and lines in the background.
    Muted,
    /// Grid lines.
    Grid,
    /// The page.
    Paper,
    /// Failures.
    Bad,
    /// One of several series, 0 to 5.
    Series(usize),
    /// From the best, 0, to the worst, 3.
    Shade(usize),
}

/// Where colours come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    /// The variables of the page that the drawing stands in.
    Page,
    /// The light theme's own values.
    Light,
}

impl Ink {
    /// All of them: name of the variable, light value, dark value.
    pub const ALL: [(&'static str, &'static str, &'static str); 15] = [
        ("text", "#1b1f24", "#e6e8eb"),
        ("muted", "#5b6570", "#a0a8b2"),
        ("grid", "#dfe3e8", "#343a42"),
        ("paper", "#ffffff", "#15181c"),
        ("bad", "#b3261e", "#ff8a80"),
        ("s0", "#0b62a4", "#6cb6ff"),
        ("s1", "#c2500a", "#ff9d5c"),
        ("s2", "#00795a", "#4fd1a5"),
        ("s3", "#9b4a8f", "#e39ad6"),
        ("s4", "#8a6a00", "#e0bd4b"),
        ("s5", "#4a4fb0", "#a5a9ff"),
        // Dark to light on light paper, light to dark on dark: the best stand out on both.
        ("q0", "#440154", "#fde725"),
        ("q1", "#2a788e", "#3dbc74"),
        ("q2", "#7ad151", "#2a788e"),
        ("q3", "#d9d28a", "#5b4a86"),
    ];

    fn index(self) -> usize {
        match self {
            Self::Text => 0,
            Self::Muted => 1,
            Self::Grid => 2,
            Self::Paper => 3,
            Self::Bad => 4,
            Self::Series(number) => 5 + number % SERIES,
            Self::Shade(number) => 5 + SERIES + number % SHADES,
        }
    }

    fn css(self, theme: Theme) -> String {
        let (name, light, _) = Self::ALL[self.index()];
        match theme {
            Theme::Page => format!("var(--{name})"),
            Theme::Light => light.to_owned(),
        }
    }
}

/// A place in pixels, from the left and from the top.
pub type Point = (f64, f64);

/// Where a word's given place lies in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// At its start.
    Start,
    /// In its middle.
    Middle,
    /// At its end.
    End,
}

/// Something drawn.
#[derive(Debug, Clone, PartialEq)]
pub enum Mark {
    /// A line through points.
    Line {
        /// The points.
        points: Vec<Point>,
        /// Its colour.
        ink: Ink,
        /// Its width.
        width: f64,
        /// 0 to 1.
        opacity: f64,
        /// Whether it is dashed.
        is_dashed: bool,
    },
    /// Separate strokes of one colour: each from a point to a point. Cheap in great numbers.
    Strokes {
        /// From, to.
        strokes: Vec<(Point, Point)>,
        /// Their colour.
        ink: Ink,
        /// Their width; where from and to are equal, the diameter of a dot.
        width: f64,
        /// 0 to 1.
        opacity: f64,
        /// Whether their ends are round.
        is_round: bool,
    },
    /// A filled area.
    Area {
        /// Its corners.
        points: Vec<Point>,
        /// Its colour.
        ink: Ink,
        /// 0 to 1.
        opacity: f64,
        /// What it says when pointed at.
        title: Option<String>,
    },
    /// Words.
    Words {
        /// Where their baseline is anchored.
        at: Point,
        /// The words.
        text: String,
        /// Their colour.
        ink: Ink,
        /// Their size.
        size: f64,
        /// What of them is at `at`.
        anchor: Anchor,
        /// Degrees by which they are turned around `at`, clockwise.
        turned: f64,
    },
}

/// A drawing.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// Width in pixels.
    pub width: f64,
    /// Height in pixels.
    pub height: f64,
    /// What it shows, for those who cannot see it, and for file names.
    pub title: String,
    /// What is drawn, the first at the back.
    pub marks: Vec<Mark>,
}

impl Scene {
    /// An empty drawing.
    pub fn new(width: f64, height: f64, title: impl Into<String>) -> Self {
        Self {
            width,
            height,
            title: title.into(),
            marks: Vec::new(),
        }
    }

    /// Draws a line.
    pub fn line(&mut self, points: Vec<Point>, ink: Ink, width: f64) {
        self.marks.push(Mark::Line {
            points,
            ink,
            width,
            opacity: 1.0,
            is_dashed: false,
        });
    }

    /// Draws a dashed line.
    pub(crate) fn dashed_line(&mut self, points: Vec<Point>, ink: Ink, width: f64) {
        self.marks.push(Mark::Line {
            points,
            ink,
            width,
            opacity: 1.0,
            is_dashed: true,
        });
    }

    /// Draws dots.
    pub fn dots(
        &mut self,
        points: impl IntoIterator<Item = Point>,
        ink: Ink,
        size: f64,
        opacity: f64,
    ) {
        let strokes: Vec<(Point, Point)> = points.into_iter().map(|p| (p, p)).collect();
        if !strokes.is_empty() {
            self.marks.push(Mark::Strokes {
                strokes,
                ink,
                width: size,
                opacity,
                is_round: true,
            });
        }
    }

    /// Fills a rectangle given by two corners.
    pub(crate) fn rectangle(
        &mut self,
        from: Point,
        to: Point,
        ink: Ink,
        opacity: f64,
        title: Option<String>,
    ) {
        self.marks.push(Mark::Area {
            points: vec![from, (to.0, from.1), to, (from.0, to.1)],
            ink,
            opacity,
            title,
        });
    }

    /// Writes words.
    pub fn words(&mut self, at: Point, text: impl Into<String>, ink: Ink, anchor: Anchor) {
        self.turned_words(at, text, ink, anchor, 0.0);
    }

    /// Writes words turned clockwise by degrees.
    pub(crate) fn turned_words(
        &mut self,
        at: Point,
        text: impl Into<String>,
        ink: Ink,
        anchor: Anchor,
        turned: f64,
    ) {
        self.marks.push(Mark::Words {
            at,
            text: text.into(),
            ink,
            size: FONT,
            anchor,
            turned,
        });
    }

    /// Writes the names of series in a row, from the left of `at`, each with its colour; returns the height it took.
    pub(crate) fn legend(&mut self, at: Point, width: f64, entries: &[(Ink, String)]) -> f64 {
        let (mut x, mut y) = at;
        for (ink, name) in entries {
            let length = text_width(name) + 26.0;
            if x > at.0 && x + length > at.0 + width {
                x = at.0;
                y += FONT + 5.0;
            }
            self.rectangle((x, y - 8.0), (x + 10.0, y), *ink, 1.0, None);
            self.words((x + 14.0, y), name, Ink::Text, Anchor::Start);
            x += length;
        }
        y - at.1 + FONT + 5.0
    }

    /// The drawing as SVG.
    pub fn svg(&self, theme: Theme) -> String {
        let (width, height) = (self.width, self.height);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
             width=\"{width:.0}\" height=\"{height:.0}\" role=\"img\" aria-label=\"{title}\" \
             font-family=\"system-ui, sans-serif\" font-size=\"{FONT}\">",
            title = escaped(&self.title)
        );
        if theme == Theme::Light {
            let paper = Ink::Paper.css(theme);
            put(
                &mut svg,
                format_args!("<rect width=\"100%\" height=\"100%\" fill=\"{paper}\"/>"),
            );
        }
        for mark in &self.marks {
            write_mark(&mut svg, mark, theme);
        }
        svg.push_str("</svg>\n");
        svg
    }
}

/// About how wide words are, in pixels.
pub(crate) fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * FONT * CHARACTER
}

/// Text for HTML and SVG: `&`, `<`, `>` and quotation marks as entities; control characters, which XML does not allow,
/// replaced.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() && !c.is_whitespace() => escaped.push(char::REPLACEMENT_CHARACTER),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A coordinate to a tenth of a pixel.
fn short(x: f64) -> String {
    let text = format!("{x:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

fn write_mark(svg: &mut String, mark: &Mark, theme: Theme) {
    match mark {
        Mark::Line {
            points,
            ink,
            width,
            opacity,
            is_dashed,
        } => {
            let dash = if *is_dashed {
                " stroke-dasharray=\"4 3\""
            } else {
                ""
            };
            let join = format!("stroke-linejoin=\"round\"{dash}");
            start_stroke(svg, &ink.css(theme), *width, *opacity, &join);
            put(svg, format_args!("{}\"/>", path(points)));
        }
        Mark::Strokes {
            strokes,
            ink,
            width,
            opacity,
            is_round,
        } => {
            let cap = if *is_round { "round" } else { "butt" };
            let cap = format!("stroke-linecap=\"{cap}\"");
            start_stroke(svg, &ink.css(theme), *width, *opacity, &cap);
            for (from, to) in strokes {
                put(svg, format_args!("M{} {}", short(from.0), short(from.1)));
                if (from.1 - to.1).abs() < 0.05 {
                    put(svg, format_args!("h{}", short(to.0 - from.0)));
                } else {
                    put(svg, format_args!("L{} {}", short(to.0), short(to.1)));
                }
            }
            svg.push_str("\"/>");
        }
        Mark::Area {
            points,
            ink,
            opacity,
            title,
        } => {
            let (ink, opacity) = (ink.css(theme), opacity_attribute(*opacity));
            let path = path(points);
            put(
                svg,
                format_args!("<path style=\"fill:{ink}\"{opacity} d=\"{path}Z\""),
            );
            match title {
                Some(title) => put(
                    svg,
                    format_args!("><title>{}</title></path>", escaped(title)),
                ),
                None => svg.push_str("/>"),
            }
        }
        Mark::Words { .. } => write_words(svg, mark, theme),
    }
}

/// Begins a path that is stroked, up to its data.
fn start_stroke(svg: &mut String, ink: &str, width: f64, opacity: f64, more: &str) {
    let opacity = opacity_attribute(opacity);
    put(
        svg,
        format_args!(
            "<path fill=\"none\" {more} stroke-width=\"{width}\" style=\"stroke:{ink}\"{opacity} d=\""
        ),
    );
}

fn write_words(svg: &mut String, mark: &Mark, theme: Theme) {
    let Mark::Words {
        at,
        text,
        ink,
        size,
        anchor,
        turned,
    } = mark
    else {
        return;
    };
    let anchor = match anchor {
        Anchor::Start => "start",
        Anchor::Middle => "middle",
        Anchor::End => "end",
    };
    let (x, y, ink) = (short(at.0), short(at.1), ink.css(theme));
    put(
        svg,
        format_args!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" style=\"fill:{ink}\""),
    );
    if (size - FONT).abs() > 0.01 {
        put(svg, format_args!(" font-size=\"{size}\""));
    }
    if turned.abs() > 0.01 {
        put(svg, format_args!(" transform=\"rotate({turned} {x} {y})\""));
    }
    put(svg, format_args!(">{}</text>", escaped(text)));
}

fn opacity_attribute(opacity: f64) -> String {
    if opacity < 0.999 {
        format!(" opacity=\"{}\"", significant(opacity, 2))
    } else {
        String::new()
    }
}

fn path(points: &[Point]) -> String {
    let mut path = String::new();
    for (index, point) in points.iter().enumerate() {
        let command = if index == 0 { 'M' } else { 'L' };
        put(
            &mut path,
            format_args!("{command}{} {}", short(point.0), short(point.1)),
        );
    }
    path
}

#[cfg(test)]
mod tests;
