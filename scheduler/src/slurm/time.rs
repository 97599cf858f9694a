//! Time limits as users write them for sbatch.

use super::script::WARNING_S;

/// The warning may come so much earlier than was asked for (`sbatch(1)`, `--signal`).
const EARLY_S: u32 = 60;
/// To start the programs, look for a job, and get further than the last time.
const WORK_S: u32 = 120;
/// The shortest time limit that a search gets on with.
const LEAST_S: u32 = WARNING_S + EARLY_S + WORK_S;
/// SLURM counts seconds in 32 bits.
const MOST_S: u64 = i32::MAX as u64;

/// A time limit as sbatch reads it, and long enough.
///
/// # Errors
/// The forms there are, or how long it must be.
pub(super) fn parse(text: &str) -> Result<String, String> {
    let Some(limit_s) = limit_s(text) else {
        return Err(format!(
            "the time limit `{text}` is none of: minutes, minutes:seconds, hours:minutes:seconds, days-hours, \
             days-hours:minutes, days-hours:minutes:seconds, UNLIMITED (also 0 and INFINITE)"
        ));
    };
    if limit_s < u64::from(LEAST_S) {
        let minutes = |seconds: u32| seconds / 60;
        return Err(format!(
            "the time limit `{text}` is too short: at least {} minutes are needed, {} for a warning before the end, {} \
             by which SLURM may send it early, and {} to get on with the search",
            minutes(LEAST_S),
            minutes(WARNING_S),
            minutes(EARLY_S),
            minutes(WORK_S)
        ));
    }
    Ok(text.to_owned())
}

/// Seconds of a time limit, rounded up to minutes as sbatch does; no limit is the most there is. `None` for other forms.
///
/// Source: `sbatch(1)`, `--time`. SLURM itself takes 4:99:00 for 5:39:00, and does not notice numbers too large for it.
pub(super) fn limit_s(text: &str) -> Option<u64> {
    if ["UNLIMITED", "INFINITE"].contains(&text.to_ascii_uppercase().as_str()) {
        return Some(MOST_S);
    }
    let (days, rest) = match text.split_once('-') {
        Some((days, rest)) => (Some(number(days)?), rest),
        None => (None, text),
    };
    let parts: Vec<u64> = rest.split(':').map(number).collect::<Option<_>>()?;
    let (hours, minutes, seconds) = match (days, &parts[..]) {
        (Some(_), [hours]) => (*hours, 0, 0),
        (Some(_), [hours, minutes]) => (*hours, *minutes, 0),
        (None, [minutes]) => (0, *minutes, 0),
        (None, [minutes, seconds]) => (0, *minutes, *seconds),
        (_, [hours, minutes, seconds]) => (*hours, *minutes, *seconds),
        _ => return None,
    };
    let is_carried = (days.is_some() && hours >= 24)
        || ((days.is_some() || parts.len() == 3) && minutes >= 60)
        || seconds >= 60;
    if is_carried {
        return None;
    }
    let hours = days.unwrap_or(0).checked_mul(24)?.checked_add(hours)?;
    let minutes = hours.checked_mul(60)?.checked_add(minutes)?;
    let minutes = minutes.checked_add(u64::from(seconds > 0))?;
    match minutes.checked_mul(60)? {
        0 => Some(MOST_S),
        limit_s => (limit_s <= MOST_S).then_some(limit_s),
    }
}

/// A number of digits alone.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())? // too large: none
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_limits_are_read_as_sbatch_reads_them() {
        for (text, minutes) in [
            ("30", 30),
            ("90:00", 90),
            ("4:01", 5),
            ("4:00:00", 240),
            ("100:00:01", 6001),
            ("1-0", 1440),
            ("1-02:03", 1563),
            ("1-02:03:04", 1564),
        ] {
            assert_eq!(limit_s(text), Some(minutes * 60), "{text}");
            assert_eq!(parse(text).as_deref(), Ok(text));
        }
        for text in ["0", "0:00", "UNLIMITED", "infinite"] {
            assert_eq!(limit_s(text), Some(MOST_S), "{text}");
        }
        for text in [
            "4h",
            "4:99:00",
            "4:00:60",
            "1:60",
            "-1",
            "99999999999",
            "",
            ":",
            "1:",
            ":30",
            "1:2:3:4",
            "1-",
            "-",
            "1-24",
            "1-1:60",
            "1-2-3",
            "+5",
            "5 ",
            "5.5",
            "99999999999-0",
            "99999999999999999999",
            "35791395",
        ] {
            let said = parse(text).unwrap_err();
            assert!(
                said.contains("days-hours:minutes:seconds"),
                "{text}: {said}"
            );
        }
    }

    #[test]
    fn time_limits_within_which_nothing_is_done_are_refused_after_the_dashes_too() {
        for text in ["1", "2", "4", "3:59", "0:30", "0-0:04"] {
            let said = parse(text).unwrap_err();
            assert!(said.contains("at least 5 minutes"), "{text}: {said}");
        }
        assert_eq!(parse("5").as_deref(), Ok("5"));
    }
}
