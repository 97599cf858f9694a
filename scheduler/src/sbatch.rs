//! What users may ask of sbatch: time limits, and arguments after `--`.
//!
//! Arguments are read as sbatch's `getopt_long` reads them, as far as is needed to find those that would keep the next
//! command from recognising what this one has submitted. What else is wrong with them sbatch itself says.

use crate::script::WARNING_S;

/// The warning may come so much earlier than was asked for (`sbatch(1)`, `--signal`).
const EARLY_S: u32 = 60;
/// To start the programs, look for a job, and get further than the last time.
const WORK_S: u32 = 120;
/// The shortest time limit that a search gets on with.
const LEAST_S: u32 = WARNING_S + EARLY_S + WORK_S;
/// SLURM counts seconds in 32 bits.
const MOST_S: u64 = i32::MAX as u64;

/// Options that are not handed on: their names, their letters, and why.
const REFUSED: [(&str, Option<char>, &str); 12] = [
    (
        "job-name",
        Some('J'),
        "SLURM jobs are recognised by their names",
    ),
    ("array", Some('a'), "--trainers says how many there are"),
    (
        "test-only",
        None,
        "nothing would be submitted; --dry-run shows the scripts",
    ),
    ("wrap", None, "it would take the place of the script"),
    (
        "clusters",
        Some('M'),
        "only the queue of this cluster is looked at",
    ),
    (
        "cluster",
        None,
        "only the queue of this cluster is looked at",
    ),
    (
        "wait",
        Some('W'),
        "the coordinator would be waited for before there are trainers",
    ),
    ("parsable", None, "it is given already"),
    ("quiet", Some('Q'), "the id of the SLURM job would be lost"),
    ("help", Some('h'), "nothing would be submitted"),
    ("usage", None, "nothing would be submitted"),
    ("version", Some('V'), "nothing would be submitted"),
];
/// Options without a value in the next word.
const FLAGS: [&str; 20] = [
    "consolidate-segments",
    "contiguous",
    "exclusive",
    "get-user-env",
    "hold",
    "ignore-pbs",
    "nice",
    "no-kill",
    "no-requeue",
    "oom-kill-step",
    "overcommit",
    "oversubscribe",
    "propagate",
    "reboot",
    "requeue",
    "share",
    "spread-job",
    "stepmgr",
    "use-min-nodes",
    "verbose",
];
/// Letters without a value.
const FLAG_LETTERS: &str = "HOsv";
/// The one letter whose value, if it has one, stands in the same word.
const MAYBE_VALUED: char = 'k';

/// Checks arguments for sbatch.
///
/// # Errors
/// The argument that cannot be handed on, and why.
pub fn check(words: &[String]) -> Result<(), String> {
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        if let Some(long) = word.strip_prefix("--").filter(|long| !long.is_empty()) {
            check_long(word, long, &mut words)?;
        } else if let Some(letters) = word
            .strip_prefix('-')
            .filter(|letters| !letters.is_empty() && *letters != "-")
        {
            check_letters(word, letters, &mut words)?;
        } else {
            return Err(format!(
                "`{word}` cannot be handed to sbatch: it is no option, so it would be submitted in place of the script"
            ));
        }
    }
    Ok(())
}

fn check_long<'a>(
    word: &str,
    long: &'a str,
    words: &mut impl Iterator<Item = &'a str>,
) -> Result<(), String> {
    let (name, joined) = match long.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (long, None),
    };
    // Abbreviations are heard too. One that may mean another option as well is refused by sbatch, or would be by the
    // next version; no option's whole name is the beginning of one of these.
    if let Some((full, _, why)) = REFUSED.iter().find(|(full, ..)| full.starts_with(name)) {
        return Err(refusal(word, &format!("--{full}"), why));
    }
    let is_flag = FLAGS.iter().any(|flag| flag.starts_with(name));
    let value = joined.or_else(|| if is_flag { None } else { words.next() });
    let is_time = name == "time" || (name.starts_with("time-") && "time-min".starts_with(name));
    match value {
        Some(value) if is_time => time(value).map(|_text| ()),
        _ => Ok(()),
    }
}

fn check_letters<'a>(
    word: &str,
    letters: &'a str,
    words: &mut impl Iterator<Item = &'a str>,
) -> Result<(), String> {
    for (at, letter) in letters.char_indices() {
        let is_meant = |(_, short, _): &&(&str, Option<char>, &str)| *short == Some(letter);
        if let Some((full, _, why)) = REFUSED.iter().find(is_meant) {
            return Err(refusal(word, &format!("-{letter} (--{full})"), why));
        }
        if FLAG_LETTERS.contains(letter) {
            continue;
        }
        let rest = &letters[at + letter.len_utf8()..];
        let value = match rest {
            _ if letter == MAYBE_VALUED => None,
            "" => words.next(),
            rest => Some(rest),
        };
        return match value {
            Some(value) if letter == 't' => time(value).map(|_text| ()),
            _ => Ok(()),
        };
    }
    Ok(())
}

fn refusal(word: &str, option: &str, why: &str) -> String {
    let meant = if word.split('=').next() == Some(option) {
        String::new()
    } else {
        format!(", which means {option},")
    };
    format!("`{word}`{meant} cannot be handed to sbatch: {why}")
}

/// A time limit as sbatch reads it, and long enough.
///
/// # Errors
/// The forms there are, or how long it must be.
pub fn time(text: &str) -> Result<String, String> {
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
fn limit_s(text: &str) -> Option<u64> {
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

    fn checked(words: &[&str]) -> Result<(), String> {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        check(&words)
    }

    #[test]
    fn options_that_hide_what_was_submitted_are_refused_in_all_their_forms() {
        for words in [
            &["--job-name=mine"][..],
            &["--job-name", "mine"],
            &["-J", "mine"],
            &["-Jmine"],
            &["-HJmine"],
            &["-sHOvJ", "mine"],
            &["--job-n=mine"],
            &["--j", "mine"],
            &["--array=0-1"],
            &["--arr=0-1"],
            &["-a0-1"],
            &["--test-only"],
            &["--te"],
            &["--wrap=true"],
            &["--wr", "true"],
            &["-M", "other"],
            &["--clusters=other"],
            &["--cluster=other"],
            &["-W"],
            &["--wait"],
            &["--parsable"],
            &["--pars"],
            &["-Q"],
            &["-vQ"],
            &["--quiet"],
            &["-h"],
            &["--help"],
            &["--usage"],
            &["-V"],
            &["--vers"],
            // After values of other options.
            &["--comment", "x", "-Jmine"],
            &["--comment=x", "-Jmine"],
            &["-A", "me", "-Jmine"],
            &["-Ame", "-Jmine"],
            &["-k", "-Jmine"],
            &["--exclusive", "-Jmine"],
            &["--overs", "-Jmine"],
        ] {
            let said = checked(words).unwrap_err();
            let last = words.iter().rfind(|word| word.starts_with('-')).unwrap();
            assert!(said.starts_with(&format!("`{last}`")), "{words:?}: {said}");
            assert!(said.contains("cannot be handed to sbatch: "), "{said}");
        }
        assert_eq!(
            checked(&["--array=0-1"]).unwrap_err(),
            "`--array=0-1` cannot be handed to sbatch: --trainers says how many there are"
        );
        assert_eq!(
            checked(&["-HJmine"]).unwrap_err(),
            "`-HJmine`, which means -J (--job-name), cannot be handed to sbatch: SLURM jobs are recognised by their names"
        );
    }

    #[test]
    fn words_that_would_be_taken_for_the_script_are_refused() {
        for words in [
            &["mine.sh"][..],
            &["-"],
            &["--"],
            &[""],
            &[":"],
            &["--exclusive", "user"],
            &["-H", "x"],
            &["-A", "me", "x"],
            &["--account=me", "x"],
        ] {
            let said = checked(words).unwrap_err();
            assert!(said.contains("in place of the script"), "{words:?}: {said}");
        }
    }

    #[test]
    fn other_options_are_handed_on() {
        for words in [
            &[][..],
            &["--wait-all-nodes=1"],
            &["--wait-all-nodes", "1"],
            &["--cluster-constraint=a"],
            &["--account=me", "--acc", "me", "-A", "me", "-Ame"],
            &["--partition=gpu", "-pgpu", "--part", "gpu"],
            &["--comment", "-J"],
            &["--comment=--job-name=x"],
            &["-AJ"],
            &["-kJ"],
            &["--exclusive", "--mem=200", "--signal=B:CONT@1"],
            &["--exclusive=user", "--nice", "--nice=5", "-Hv"],
            &["--test-other"],
            &["--hold", "--qos", "high", "--export", "ALL"],
            &["--uid=me", "--verbose", "--use-min-nodes", "--time-min=10"],
        ] {
            assert_eq!(checked(words), Ok(()), "{words:?}");
        }
    }

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
            assert_eq!(time(text).as_deref(), Ok(text));
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
            let said = time(text).unwrap_err();
            assert!(
                said.contains("days-hours:minutes:seconds"),
                "{text}: {said}"
            );
        }
    }

    #[test]
    fn time_limits_within_which_nothing_is_done_are_refused_after_the_dashes_too() {
        for text in ["1", "2", "4", "3:59", "0:30", "0-0:04"] {
            let said = time(text).unwrap_err();
            assert!(said.contains("at least 5 minutes"), "{text}: {said}");
        }
        assert_eq!(time("5").as_deref(), Ok("5"));
        for words in [
            &["--time=2"][..],
            &["--time", "2"],
            &["-t2"],
            &["-t", "2"],
            &["-Ht2"],
            &["--time-min=2"],
            &["--time-m", "2"],
        ] {
            assert!(
                checked(words).unwrap_err().contains("too short"),
                "{words:?}"
            );
        }
    }
}
