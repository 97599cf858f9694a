//! Numbers, times, counts and foreign text as all programs show them to people.

use std::fmt::Write as _;

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

/// A time that was measured, in the unit that suits it: `31.2 s`, `41.3 min`, `5.57 h`, `12.5 days`.
pub fn duration(seconds: f64) -> String {
    in_its_unit(seconds, 3)
}

/// A time that is estimated or changes while it is read: as [`duration`], with two digits.
pub fn about(seconds: f64) -> String {
    in_its_unit(seconds, 2)
}

fn in_its_unit(seconds: f64, digits: usize) -> String {
    // From so many seconds on, in a unit of so many seconds.
    const UNITS: [(f64, f64, &str); 3] = [
        (172_800.0, 86_400.0, "days"),
        (7200.0, 3600.0, "h"),
        (600.0, 60.0, "min"),
    ];
    let unit = UNITS.into_iter().find(|unit| seconds >= unit.0);
    let (_, length, unit) = unit.unwrap_or((0.0, 1.0, "s"));
    format!("{} {unit}", significant(seconds / length, digits))
}

/// `1 result`, `1,234 results`.
pub fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", thousands(number))
}

/// A whole number with commas between the thousands.
pub fn thousands(number: usize) -> String {
    grouped(number as u64, ',')
}

/// A whole number with something between the thousands.
pub fn grouped(number: u64, separator: char) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(separator);
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

/// Text of several lines without other control characters, for terminals: nothing that a record says may do more there
/// than be read.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => c,
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}

/// JSON text in which every character that a terminal may obey is escaped: JSON itself asks that of no more than the
/// first 32.
pub fn plain_json(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{7f}'..='\u{9f}' => {
                let escaped = u32::from(c);
                write!(plain, "\\u{escaped:04x}").expect("a string takes everything");
            }
            c => plain.push(c),
        }
    }
    plain
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

/// A size in memory or on disk: `512 B`, `3.4 MiB`.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = number as f64;
    let mut unit = 0;
    // From here on three digits would say 1,000 or more.
    while size >= 999.5 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{} {}", significant(size, 3), UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_for_terminals_says_the_same_without_control_characters() {
        let said = "bell \u{7} delete \u{7f} colour \u{9b}31m line \u{85}\u{a0}ä€";
        let text = plain_json(&serde_json::to_string(said).unwrap());
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), said);
    }

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
        let texts = [0.0416, 9.96, 594.6, 2478.0, 20_041.0].map(about);
        assert_eq!(texts, ["0.042 s", "10 s", "595 s", "41 min", "5.6 h"]);
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
    }

    #[test]
    fn counts_and_sizes_are_said_as_people_say_them() {
        assert_eq!(count(1, "job"), "1 job");
        assert_eq!(count(1_234_567, "job"), "1,234,567 jobs");
        let sizes = [0, 999, 1000, 3_600_000, 5 << 30].map(bytes);
        let expected = ["0 B", "999 B", "0.977 KiB", "3.43 MiB", "5 GiB"];
        assert_eq!(sizes, expected);
    }

    #[test]
    fn foreign_text_stays_on_its_line() {
        assert_eq!(one_line("a\nb\u{1b}[2J"), "a b\u{fffd}[2J");
        assert_eq!(
            plain("a\n\tb\u{1b}[2J\r\u{9b}31m"),
            "a\n\tb\u{fffd}[2J\u{fffd}\u{fffd}31m"
        );
        assert_eq!(shortened("abcdef", 4), "abc…");
    }
}
