//! Points in time that come again, in systemd's notation: what `OnCalendar=` takes, systemd.time(7), "Calendar events".
//!
//! The grammar is checked here because a timer with a bad line does not load, and systemd is not there to be asked when
//! the units are made. [`zone`] gives what only the machine can tell: whether it knows a time zone.

use super::cron;
use super::value::{Wrong, one_line};

/// `Mon..Fri *-*-* 04:00:00 Europe/Berlin`, `daily`, or a line of crontab(5): the values of `OnCalendar=` that mean it.
pub fn read(text: &str) -> Result<Vec<String>, Wrong> {
    one_line(text)?;
    let text = text.trim();
    if cron::looks_so(text) {
        return cron::read(text);
    }
    check(text)?;
    Ok(vec![text.to_owned()])
}

/// The time zone that ends a value of `OnCalendar=`, where it has one other than UTC.
pub fn zone(calendar: &str) -> Option<&str> {
    split_zone(calendar).1.filter(|zone| !zone.eq_ignore_ascii_case("utc"))
}

const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

const SHORTHANDS: [&str; 13] = [
    "minutely",
    "hourly",
    "daily",
    "weekly",
    "monthly",
    "quarterly",
    "yearly",
    "annually",
    "anually",
    "biannually",
    "bi-annually",
    "semiannually",
    "semi-annually",
];

const REMEDY: &str = "write a time such as \"daily\", \"04:00\", \"Mon..Fri 04:00\", \"*-*-01 03:30 Europe/Berlin\" \
                      (systemd.time(7)), or a line of cron such as \"0 4 * * *\"";

/// Whether systemd's parser takes it; a zone need only look like one.
fn check(text: &str) -> Result<(), Wrong> {
    let wrong = |reason: String| Wrong::new(reason, REMEDY);
    if text.is_empty() || text == "0" {
        return Err(Wrong::new("no time is given", "remove it: without a time nothing happens by itself"));
    }
    let (rest, zone) = split_zone(text);
    if let Some(zone) = zone.filter(|zone| day(zone).is_some()) {
        return Err(Wrong::new(format!("a day of the week comes first, so `{zone}` is misplaced"), REMEDY));
    }
    if SHORTHANDS.iter().any(|word| rest.eq_ignore_ascii_case(word)) {
        return Ok(());
    }
    let mut words = rest.split(' ').filter(|word| !word.is_empty()).peekable();
    if let Some(first) = words.next_if(|word| word.starts_with(|c: char| c.is_ascii_alphabetic())) {
        check_days(first).map_err(wrong)?;
    }
    if let Some(date) = words.next_if(|word| is_date(word)) {
        check_date(date).map_err(wrong)?;
    }
    if let Some(time) = words.next() {
        check_time(time).map_err(wrong)?;
    }
    match words.next() {
        Some(word) => Err(wrong(format!("`{word}` is too much: day of the week, date, time, time zone is the order"))),
        None => Ok(()),
    }
}

/// The last word is a zone when it looks like one and is not all there is.
fn split_zone(text: &str) -> (&str, Option<&str>) {
    let like_one = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic())
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "+-_/".contains(c))
    };
    match text.rsplit_once(' ') {
        Some((rest, word)) if like_one(word) => (rest.trim_end_matches(' '), Some(word)),
        _ => (text, None),
    }
}

/// 0: Monday.
fn day(word: &str) -> Option<usize> {
    let word = word.to_ascii_lowercase();
    DAYS.iter().position(|day| word == *day || word == day[..3])
}

fn check_days(text: &str) -> Result<(), String> {
    let known = |word: &str| day(word).ok_or_else(|| format!("`{word}` is no day of the week, such as Mon"));
    // systemd allows one comma too many at the end.
    for part in text.strip_suffix(',').unwrap_or(text).split(',') {
        if let Some((from, to)) = part.split_once("..").or_else(|| part.split_once('-')) {
            let (from, to) = (known(from)?, known(to)?);
            if from > to {
                return Err(format!("`{part}` runs backwards: the week begins with Mon"));
            }
        } else {
            known(part)?;
        }
    }
    Ok(())
}

/// Else it is a time.
fn is_date(word: &str) -> bool {
    !word.contains(':') && word.contains(['-', '~'])
}

fn check_date(text: &str) -> Result<(), String> {
    let from_end = text.contains('~');
    let (before, date) = text.rsplit_once(['-', '~']).unwrap_or(("", text));
    if from_end && (before.contains('~') || !text[before.len()..].starts_with('~')) {
        return Err(format!("`{text}`: the ~ stands before the day, which is then counted from the month's end"));
    }
    let (year, month) = before.rsplit_once('-').map_or((None, before), |(year, month)| (Some(year), month));
    if let Some(year) = year {
        if year.contains('-') {
            return Err(format!("`{text}` is no date: year, month and day are three"));
        }
        check_list(year, "a year", (0, 2199), false)?;
    }
    check_list(month, "a month", (1, 12), false)?;
    // systemd takes three days off for each day that is counted from the end.
    let most = if from_end { 31 - 3 * (date.split(',').count().min(9) as u32) } else { 31 };
    check_list(date, "a day of the month", (1, most), from_end)
}

fn check_time(text: &str) -> Result<(), String> {
    let mut parts = text.split(':');
    check_list(parts.next().unwrap_or_default(), "an hour", (0, 23), false)?;
    let Some(minute) = parts.next() else {
        return Err(format!("`{text}` is no time of the day, such as 04:00"));
    };
    check_list(minute, "a minute", (0, 59), false)?;
    if let Some(second) = parts.next() {
        // Fractions, which systemd has too, would only be a busy loop.
        check_list(second, "a whole second", (0, 59), false)?;
    }
    match parts.next() {
        Some(_) => Err(format!("`{text}` is no time of the day: hour, minute and second are three")),
        None => Ok(()),
    }
}

/// `*`, or numbers, ranges and steps with commas between.
fn check_list(text: &str, what: &str, (least, most): (u32, u32), from_end: bool) -> Result<(), String> {
    if text == "*" {
        return Ok(());
    }
    if let Some(step) = text.strip_prefix("*/") {
        return Err(format!("`{text}`: systemd writes steps from a first value, such as {least}/{step}"));
    }
    for part in text.split(',') {
        let number = |digits: &str| {
            let fits = !digits.is_empty() && digits.len() <= 9 && digits.bytes().all(|byte| byte.is_ascii_digit());
            let number = fits.then(|| digits.parse::<u32>().ok()).flatten();
            number.ok_or_else(|| format!("`{part}` is not {what}"))
        };
        let in_range = |digits: &str| {
            let mut number = number(digits)?;
            if most > 2000 {
                // Years of two digits.
                number += if number < 70 {
                    2000
                } else if number < 100 {
                    1900
                } else {
                    0
                };
            }
            let least = if most > 2000 { 1970 } else { least };
            let wrong = || format!("`{digits}` is not {what}: {least} to {most}");
            if (least..=most).contains(&number) { Ok(number) } else { Err(wrong()) }
        };
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let (from, to) = range.split_once("..").map_or((range, None), |(from, to)| (from, Some(to)));
        let from = in_range(from)?;
        let to = to.map(in_range).transpose()?;
        if to.is_some_and(|to| to <= from) {
            return Err(format!("`{range}` does not run forwards"));
        }
        let Some(step) = step.map(number).transpose()? else { continue };
        let room = match to {
            // A range may be shorter than its step.
            Some(_) => most - least,
            None if from_end => from - least,
            None => most - from,
        };
        if step == 0 || step > room {
            return Err(format!("`{part}` has no second value: the step must be from 1 to {room}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_told() {
        for (text, reason) in [
            ("0", "no time is given"),
            ("", "no time is given"),
            ("Tues 04:00", "`Tues` is no day of the week, such as Mon"),
            ("Fri..Mon 04:00", "`Fri..Mon` runs backwards: the week begins with Mon"),
            ("04:00 Mon", "a day of the week comes first, so `Mon` is misplaced"),
            ("*/5:00", "`*/5`: systemd writes steps from a first value, such as 0/5"),
            ("25:00", "`25` is not an hour: 0 to 23"),
            ("04", "`04` is no time of the day, such as 04:00"),
            ("04:00:00:00", "`04:00:00:00` is no time of the day: hour, minute and second are three"),
            ("*-13-01", "`13` is not a month: 1 to 12"),
            ("04:00 05:00", "`05:00` is too much: day of the week, date, time, time zone is the order"),
            ("fortnightly", "`fortnightly` is no day of the week, such as Mon"),
            ("every day", "`every` is no day of the week, such as Mon"),
            ("@sometimes", "cron has no `@sometimes`"),
            ("61 4 * * *", "`61` does not fit cron's minute"),
            ("0 4 * * * * *", "`0 4 * * * * *` has too many words"),
            ("0 4 L * *", "`L`: L, W and # are not understood"),
            ("0 4 * * 5#2", "`5#2`: L, W and # are not understood"),
        ] {
            let wrong = read(text).unwrap_err();
            assert_eq!(wrong.reason, reason, "{text}");
            assert!(!wrong.remedy.is_empty(), "{text}");
        }
    }

    #[test]
    fn cron_in_systemds_words() {
        for (line, calendars) in [
            ("0 4 * * *", &["*-*-* 04:00:00"][..]),
            ("*/5 8-18 * * mon-fri", &["Mon..Fri *-*-* 08..18:00/5:00"]),
            ("0 0 13 * 5", &["*-*-13 00:00:00", "Fri *-*-* 00:00:00"]),
            ("0 0 * * 0", &["Sun *-*-* 00:00:00"]),
            ("0 0 * * 5-7", &["Fri..Sun *-*-* 00:00:00"]),
            ("0 0 * * fri-sun", &["Fri..Sun *-*-* 00:00:00"]),
            ("0 0 */2 * 1", &["Mon *-*-01/2 00:00:00"]),
            ("30 0 4 1 jan,dec ?", &["*-01,12-01 04:00:30"]),
            ("10/20 * * * * *", &["*-*-* *:*:10/20"]),
            ("@weekly", &["Sun *-*-* 00:00:00"]),
            ("@midnight", &["daily"]),
        ] {
            assert_eq!(read(line).unwrap(), calendars, "{line}");
        }
    }

    #[test]
    fn zones() {
        assert_eq!(zone("Mon 04:00 Europe/Berlin"), Some("Europe/Berlin"));
        assert_eq!(zone("daily UTC"), None);
        assert_eq!(zone("Mon"), None);
        assert_eq!(zone("*-*-* 04:00:00"), None);
    }
}
