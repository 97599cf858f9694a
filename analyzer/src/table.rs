//! Tables: one list of rows, written as aligned text, CSV, JSON, Markdown or LaTeX.

use anyhow::Result;
use serde_json::{Map, Value as Json, json};

use crate::wording::{one_line, significant};

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns, for people
    Table,
    /// Comma-separated values in full precision, with a header
    Csv,
    /// An array of objects in full precision
    Json,
    /// A Markdown table
    Markdown,
    /// A LaTeX tabular (package booktabs)
    Latex,
}

/// One cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Words.
    Text(String),
    /// A number for people: already rounded.
    Rounded(String),
    /// A number in full precision; not finite is missing.
    Number(f64),
    /// A count.
    Count(usize),
    /// Nothing to say: `-` in text and CSV, `null` in JSON.
    Missing,
}

impl Cell {
    /// Words.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A number that may not exist.
    pub fn number(number: Option<f64>) -> Self {
        number.map_or(Self::Missing, Self::Number)
    }

    /// A number that may not exist, as people read it.
    pub fn rounded(number: Option<f64>, write: impl Fn(f64) -> String) -> Self {
        number.map_or(Self::Missing, |number| Self::Rounded(write(number)))
    }

    /// The text in a CSV file: full precision, `-` where there is nothing.
    pub fn plain(&self) -> String {
        match self {
            Self::Text(text) | Self::Rounded(text) => text.clone(),
            Self::Number(number) if number.is_finite() => format!("{number:?}"),
            Self::Count(count) => count.to_string(),
            Self::Number(_) | Self::Missing => "-".into(),
        }
    }

    fn for_people(&self) -> String {
        match self {
            Self::Number(number) if number.is_finite() => significant(*number, 5),
            other => one_line(&other.plain()),
        }
    }

    fn json(&self) -> Json {
        match self {
            Self::Text(text) | Self::Rounded(text) => json!(text),
            Self::Number(number) if number.is_finite() => json!(number),
            Self::Count(count) => json!(count),
            Self::Number(_) | Self::Missing => Json::Null,
        }
    }

    fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }
}

/// A header and rows of as many cells.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Rows; each has one cell a column.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new(columns: &[&str]) -> Self {
        Self {
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// Where it has not one cell for each column.
    pub fn push(&mut self, row: Vec<Cell>) {
        assert_eq!(row.len(), self.columns.len(), "a cell for each column");
        self.rows.push(row);
    }

    /// The table in a format, with a newline at the end.
    pub fn write(&self, format: Format) -> Result<String> {
        match format {
            Format::Table => Ok(self.aligned()),
            Format::Csv => self.csv(),
            Format::Json => Ok(format!("{:#}\n", self.json())),
            Format::Markdown => Ok(self.markdown()),
            Format::Latex => Ok(self.latex()),
        }
    }

    /// Rows as objects, column → value.
    pub fn json(&self) -> Json {
        let object = |row: &Vec<Cell>| {
            let fields = self.columns.iter().cloned();
            Json::Object(
                fields
                    .zip(row.iter().map(Cell::json))
                    .collect::<Map<_, _>>(),
            )
        };
        Json::Array(self.rows.iter().map(object).collect())
    }

    /// Comma-separated values with a header.
    pub fn csv(&self) -> Result<String> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(&self.columns)?;
        for row in &self.rows {
            writer.write_record(row.iter().map(Cell::plain))?;
        }
        Ok(String::from_utf8(writer.into_inner()?)?)
    }

    /// Columns aligned with spaces: words left, numbers right.
    pub fn aligned(&self) -> String {
        let header: Vec<String> = self.columns.iter().map(|name| one_line(name)).collect();
        let rows = self.rows.iter().map(|row| row.iter().map(Cell::for_people));
        let lines: Vec<Vec<String>> = std::iter::once(header)
            .chain(rows.map(Iterator::collect))
            .collect();
        let width = |column: usize| {
            let widths = lines.iter().map(|line| line[column].chars().count());
            widths.max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let mut text = String::new();
        for line in &lines {
            let cells = line.iter().enumerate().map(|(column, cell)| {
                let padding = " ".repeat(widths[column] - cell.chars().count());
                if self.is_words(column) {
                    format!("{cell}{padding}")
                } else {
                    format!("{padding}{cell}")
                }
            });
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }

    fn is_words(&self, column: usize) -> bool {
        self.rows.iter().any(|row| row[column].is_text())
    }

    fn markdown(&self) -> String {
        let escape = |text: &str| one_line(text).replace('\\', "\\\\").replace('|', "\\|");
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut text = line(self.columns.iter().map(|name| escape(name)).collect());
        let rule = |column| if self.is_words(column) { "---" } else { "--:" };
        text.push_str(&line(
            (0..self.columns.len()).map(|c| rule(c).into()).collect(),
        ));
        for row in &self.rows {
            text.push_str(&line(
                row.iter().map(|cell| escape(&cell.for_people())).collect(),
            ));
        }
        text
    }

    fn latex(&self) -> String {
        let line = |cells: Vec<String>| format!("{} \\\\\n", cells.join(" & "));
        let align = |column| if self.is_words(column) { 'l' } else { 'r' };
        let columns: String = (0..self.columns.len()).map(align).collect();
        let mut text = format!("\\begin{{tabular}}{{{columns}}}\n\\toprule\n");
        text.push_str(&line(
            self.columns
                .iter()
                .map(|name| latex_escaped(name))
                .collect(),
        ));
        text.push_str("\\midrule\n");
        for row in &self.rows {
            text.push_str(&line(row.iter().map(latex_cell).collect()));
        }
        text.push_str("\\bottomrule\n\\end{tabular}\n");
        text
    }
}

/// Numbers are set in math mode, so that a minus is a minus.
fn latex_cell(cell: &Cell) -> String {
    let text = latex_escaped(&cell.for_people());
    match cell {
        Cell::Rounded(_) | Cell::Number(_) if text.starts_with('-') && text.len() > 1 => {
            format!("${text}$")
        }
        Cell::Missing => "--".into(),
        _ => text,
    }
}

fn latex_escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in one_line(text).chars() {
        match c {
            '\\' => escaped.push_str("\\textbackslash{}"),
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            '<' => escaped.push_str("\\textless{}"),
            '>' => escaped.push_str("\\textgreater{}"),
            '…' => escaped.push_str("\\dots{}"),
            '–' => escaped.push_str("--"),
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => {
                escaped.push('\\');
                escaped.push(c);
            }
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["name", "a_b", "n"]);
        table.push(vec![
            Cell::text("x | <y> & \"z\""),
            Cell::Number(-0.123_456_789),
            Cell::Count(12),
        ]);
        table.push(vec![Cell::text("-"), Cell::Missing, Cell::Count(3)]);
        table
    }

    #[test]
    fn every_format_escapes_what_it_must() {
        let all = [
            Format::Table,
            Format::Csv,
            Format::Json,
            Format::Markdown,
            Format::Latex,
        ];
        let texts = all.map(|format| table().write(format).unwrap());
        insta::assert_snapshot!(texts.join("\n"));
    }
}
