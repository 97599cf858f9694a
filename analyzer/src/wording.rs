//! Numbers, budgets and counts as people read them.

use std::fmt::Write as _;

use shared::BudgetUnit;

/// A number with this many significant digits, no trailing zeros, and an exponent only where it is very large or small.
///
/// # Panics
/// Never: Rust's scientific form has an exponent.
pub fn significant(number: f64, digits: usize) -> String {
    if number.is_nan() {
        return "-".into();
    }
    if number.abs() < f64::MIN_POSITIVE {
        return "0".into();
    }
    if !number.is_finite() {
        return number.to_string();
    }
    let scientific = format!("{number:.*e}", digits.max(1) - 1);
    let (mantissa, exponent) = scientific
        .split_once('e')
        .expect("the scientific form has an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent is a whole number");
    if !(-4..7).contains(&exponent) {
        return format!("{}e{exponent}", without_trailing_zeros(mantissa));
    }
    let decimals = i32::try_from(digits).unwrap_or(17) - 1 - exponent; // more digits than a number has
    let decimals = usize::try_from(decimals).unwrap_or(0); // negative: whole numbers
    without_trailing_zeros(&format!("{number:.decimals$}")).to_owned()
}

fn without_trailing_zeros(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

/// A number with exactly this many decimals, with no `-0`.
pub fn fixed(number: f64, decimals: usize) -> String {
    let text = format!("{number:.decimals$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| c == '0' || c == '.') => rest.to_owned(),
        _ => text,
    }
}

/// A p value: three decimals, or `<0.001`.
pub fn p_value(p: f64) -> String {
    if p < 0.001 {
        "<0.001".into()
    } else {
        fixed(p, 3)
    }
}

/// A budget with its unit: `400 s`, `20 min`, `3 h`, `27 epochs`; without a unit the number alone.
pub fn budget(amount: f64, unit: Option<BudgetUnit>) -> String {
    match unit {
        None => significant(amount, 4),
        Some(BudgetUnit::Seconds) => seconds(amount),
        Some(unit) => {
            let number = significant(amount, 4);
            let symbol = unit.symbol();
            let symbol = if number == "1" {
                symbol.trim_end_matches('s')
            } else {
                symbol
            };
            format!("{number} {symbol}")
        }
    }
}

/// Seconds as `400 s`, whole minutes and hours as `20 min` and `3 h`.
pub fn seconds(seconds: f64) -> String {
    let is_whole = |unit: f64| (seconds / unit).fract().abs() < f64::EPSILON;
    if seconds >= 3600.0 && is_whole(1800.0) {
        format!("{} h", significant(seconds / 3600.0, 4))
    } else if seconds >= 600.0 && is_whole(60.0) {
        format!("{} min", significant(seconds / 60.0, 4))
    } else {
        format!("{} s", significant(seconds, 4))
    }
}

/// A time that was measured, in the unit that suits it: `31.2 s`, `41.3 min`, `5.57 h`, `12.5 days`.
pub fn duration(seconds: f64) -> String {
    // From so many seconds on, in a unit of so many seconds.
    const UNITS: [(f64, f64, &str); 3] = [
        (172_800.0, 86_400.0, "days"),
        (7200.0, 3600.0, "h"),
        (600.0, 60.0, "min"),
    ];
    let unit = UNITS.into_iter().find(|unit| seconds >= unit.0);
    let (_, length, unit) = unit.unwrap_or((0.0, 1.0, "s"));
    format!("{} {unit}", significant(seconds / length, 3))
}

/// `1 result`, `1,234 results`.
pub fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", thousands(number))
}

/// A whole number with commas between the thousands.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Text on one line without control characters, which could move a terminal's cursor or break a table's row.
pub fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' | '\r' => ' ',
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}

/// The text cut to `most` characters, the last of them `…` where something was cut.
pub fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(most.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Text broken into lines of at most `width` characters where words allow; lines after the first are indented.
pub fn wrapped(text: &str, width: usize, indent: &str) -> String {
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
    fn durations_come_in_the_unit_that_suits_them() {
        let texts = [
            0.0, 31.23, 599.0, 600.0, 7199.0, 7200.0, 20_041.0, 191_697.0,
        ];
        let expected = [
            "0 s",
            "31.2 s",
            "599 s",
            "10 min",
            "120 min",
            "2 h",
            "5.57 h",
            "2.22 days",
        ];
        assert_eq!(texts.map(duration), expected);
    }

    #[test]
    fn numbers_keep_their_significant_digits() {
        let all = [
            0.0,
            1.0,
            0.004_115_226,
            370.370_370,
            10_800.0,
            1e-7,
            -0.05,
            8.12e9,
            0.1,
            1_234_567.0,
        ];
        let texts = all.map(|number| significant(number, 4));
        assert_eq!(
            texts,
            [
                "0", "1", "0.004115", "370.4", "10800", "1e-7", "-0.05", "8.12e9", "0.1", "1234567"
            ]
        );
        assert_eq!(significant(f64::NAN, 3), "-");
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
        assert_eq!(count(1, "job"), "1 job");
        assert_eq!(count(1_234_567, "job"), "1,234,567 jobs");
    }

    #[test]
    fn text_stays_on_its_line_and_in_its_width() {
        assert_eq!(one_line("a\nb\u{1b}[2J"), "a b\u{fffd}[2J");
        assert_eq!(shortened("abcdef", 4), "abc…");
        assert_eq!(wrapped("aa bb cc dd", 5, "  "), "aa bb\n  cc\n  dd");
    }
}
