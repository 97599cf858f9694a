//! Budgets, decimals and paragraphs as people read them; what all programs say alike is [`shared::wording`].

use std::fmt::Write as _;

use shared::BudgetUnit;
pub(crate) use shared::wording::{count, duration, one_line, shortened, significant, thousands};

/// A number with exactly this many decimals, with no `-0`.
pub(crate) fn fixed(number: f64, decimals: usize) -> String {
    let text = format!("{number:.decimals$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| c == '0' || c == '.') => rest.to_owned(),
        _ => text,
    }
}

/// A p value: three decimals, or `<0.001`.
pub(crate) fn p_value(p: f64) -> String {
    if p < 0.001 {
        "<0.001".into()
    } else {
        fixed(p, 3)
    }
}

/// A budget with its unit: `400 s`, `20 min`, `3 h`, `27 epochs`; without a unit the number alone.
pub(crate) fn budget(amount: f64, unit: Option<BudgetUnit>) -> String {
    match unit {
        None => significant(amount, 4),
        Some(BudgetUnit::Seconds) => seconds(amount),
        Some(unit) => {
            let number = significant(amount, 4);
            let symbol = if number == "1" {
                unit.symbol_of_one()
            } else {
                unit.symbol()
            };
            format!("{number} {symbol}")
        }
    }
}

/// Seconds as `400 s`, whole minutes and hours as `20 min` and `3 h`.
pub(crate) fn seconds(seconds: f64) -> String {
    let is_whole = |unit: f64| (seconds / unit).fract().abs() < f64::EPSILON;
    if seconds >= 3600.0 && is_whole(1800.0) {
        format!("{} h", significant(seconds / 3600.0, 4))
    } else if seconds >= 600.0 && is_whole(60.0) {
        format!("{} min", significant(seconds / 60.0, 4))
    } else {
        format!("{} s", significant(seconds, 4))
    }
}

/// Text broken into lines of at most `width` characters where words allow; lines after the first are indented.
pub(crate) fn wrapped(text: &str, width: usize, indent: &str) -> String {
    let mut lines = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        let word_length = word.chars().count();
        if length > 0 && length + 1 + word_length > width {
            lines.push('\n');
            lines.push_str(indent);
            length = indent.chars().count();
        } else if length > 0 {
            lines.push(' ');
            length += 1;
        }
        lines.push_str(word);
        length += word_length;
    }
    lines
}

/// Appends formatted text.
pub(crate) fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments)
        .expect("a string can be written to");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_and_p_values_are_as_papers_print_them() {
        assert_eq!(fixed(-0.0001, 2), "0.00");
        assert_eq!(p_value(0.0004), "<0.001");
    }

    #[test]
    fn budgets_are_said_as_people_say_them() {
        let unit = Some(BudgetUnit::Seconds);
        let said = [400.0, 1200.0, 3600.0, 10_800.0, 5400.0, 61.5].map(|s| budget(s, unit));
        assert_eq!(said, ["400 s", "20 min", "1 h", "3 h", "1.5 h", "61.5 s"]);
        assert_eq!(budget(27.0, Some(BudgetUnit::Epochs)), "27 epochs");
        assert_eq!(budget(1.0, Some(BudgetUnit::Steps)), "1 step");
        assert_eq!(budget(1.0 / 3.0, None), "0.3333");
    }

    #[test]
    fn text_stays_in_its_width() {
        assert_eq!(wrapped("aa bb cc dd", 5, "  "), "aa bb\n  cc\n  dd");
    }
}
